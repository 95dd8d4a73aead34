/** What the tests share: stacks, clusters, and the values that a synthesised template gives to Helm. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import * as path from 'node:path';
import { after } from 'node:test';
import { KubectlV35Layer } from '@aws-cdk/lambda-layer-kubectl-v35';
import { App, Stack } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';
import * as eks from 'aws-cdk-lib/aws-eks';
import * as eksv2 from 'aws-cdk-lib/aws-eks-v2';
import * as iam from 'aws-cdk-lib/aws-iam';
import { NodeLocalDns, type NodeLocalDnsProps } from 'nodens-cdk';

export const PACKAGE = path.resolve(__dirname, '..');
export const ROOT = path.resolve(PACKAGE, '../..');
export const CHART = path.join(ROOT, 'deploy/helm/nodens');

/** A folder that goes when the tests of the file are done. */
export function scratch(): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'nodens-cdk-'));
  after(() => rmSync(folder, { recursive: true }));
  return folder;
}

// CloudFormation's own checks of templates take longer than all else. The test of the package has them.
process.env.CDK_VALIDATION = 'false';

const assemblies = scratch();

/** A stack of an app of its own. Its assets stay where they are: copying Helm time and again takes longer than all else. */
export function newStack(): Stack {
  const outdir = mkdtempSync(path.join(assemblies, 'app-'));
  return new Stack(new App({ outdir, context: { 'aws:cdk:disable-asset-staging': true } }), 'Stack');
}

/** A new cluster of the classic module. */
export function classicCluster(stack: Stack, props: Partial<eks.ClusterProps> = {}): eks.Cluster {
  return new eks.Cluster(stack, 'Cluster', {
    version: eks.KubernetesVersion.V1_35,
    kubectlLayer: new KubectlV35Layer(stack, 'Kubectl'),
    defaultCapacity: 0,
    ...props,
  });
}

/** A new cluster of aws-eks-v2. */
export function newCluster(stack: Stack): eksv2.Cluster {
  return new eksv2.Cluster(stack, 'Cluster', {
    version: eksv2.KubernetesVersion.V1_35,
    kubectlProviderOptions: { kubectlLayer: new KubectlV35Layer(stack, 'Kubectl') },
    defaultCapacityType: eksv2.DefaultCapacityType.NODEGROUP,
    defaultCapacity: 0,
  });
}

/** An imported cluster, of which the stack needs to make nothing. */
export function importedCluster(stack: Stack): eksv2.ICluster {
  const kubectlProvider = eksv2.KubectlProvider.fromKubectlProviderAttributes(stack, 'Provider', {
    serviceToken: 'arn:aws:lambda:eu-central-1:111122223333:function:kubectl',
    role: iam.Role.fromRoleName(stack, 'Role', 'kubectl'),
  });
  return eksv2.Cluster.fromClusterAttributes(stack, 'Cluster', { clusterName: 'imported', kubectlProvider });
}

/** The only release in a stack. */
export function release(stack: Stack): any {
  const found = Object.values(Template.fromStack(stack).findResources('Custom::AWSCDK-EKS-HelmChart'));
  if (found.length !== 1) {
    throw new Error(`${found.length} releases`);
  }
  return found[0];
}

/** The values of a release, what is known at deployment only filled in from `known`: names of Refs and attributes. */
export function valuesOf(stack: Stack, known: Record<string, string> = {}): any {
  const text = release(stack).Properties.Values;
  const part = (p: any) => (typeof p === 'string' ? p : (known[p.Ref ?? p['Fn::GetAtt']?.join('.')] ?? JSON.stringify(p)));
  return JSON.parse(typeof text === 'string' ? text : text['Fn::Join'][1].map(part).join(''));
}

/** The values that some properties make, on an imported cluster. */
export function valuesFor(props: Omit<NodeLocalDnsProps, 'cluster'>): any {
  const stack = newStack();
  new NodeLocalDns(stack, 'NodeLocalDns', { cluster: importedCluster(stack), ...props });
  return valuesOf(stack);
}
