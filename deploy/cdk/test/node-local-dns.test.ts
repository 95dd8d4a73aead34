/** What the construct puts into a template, and what it refuses. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { CfnParameter, Duration, Stack } from 'aws-cdk-lib';
import { Annotations, Match, Template } from 'aws-cdk-lib/assertions';
import * as ecr from 'aws-cdk-lib/aws-ecr';
import * as eks from 'aws-cdk-lib/aws-eks';
import * as eksv2 from 'aws-cdk-lib/aws-eks-v2';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import { NodeLocalDns, type NodeLocalDnsMode, type NodeLocalDnsProps } from 'nodens-cdk';
import { CHART, classicCluster, importedCluster, newCluster, newStack, release, valuesFor, valuesOf } from './support';

/** What is made of no property at all. */
const DEFAULTS = {
  updateStrategy: { rollingUpdate: { maxSurge: '10%' } },
  mode: 'kube-proxy-iptables',
  metricsEnabled: true,
};

const LAYER = 'arn:aws:lambda:eu-central-1:111122223333:layer:kubectl:1';
const layer = (stack: Stack) => lambda.LayerVersion.fromLayerVersionArn(stack, 'Layer', LAYER);
const address = '172.20.0.10';

for (const [module, makeCluster] of [['aws-eks', classicCluster], ['aws-eks-v2', newCluster]] as const) {
  test(`a cluster of ${module} gets the chart with exactly these values`, () => {
    const stack = newStack();
    const cluster = makeCluster(stack);
    new NodeLocalDns(stack, 'NodeLocalDns', {
      cluster,
      clusterDnsIp: address,
      cacheTtl: 30,
      cacheNegativeTtl: 5,
      metricsEnabled: true,
    });

    const found = release(stack);
    const { Values, ClusterName, ChartAssetURL, Release, Namespace, Wait, Timeout, CreateNamespace } = found.Properties;
    assert.deepEqual(JSON.parse(Values), { ...DEFAULTS, clusterDnsIp: address, cacheTtl: 30, cacheNegativeTtl: 5 });
    assert.deepEqual(ClusterName, stack.resolve(cluster.clusterName));
    assert.deepEqual([Release, Namespace, CreateNamespace], ['nodens', 'kube-system', undefined]);
    assert.deepEqual([Wait, Timeout], [true, '600s']);
    assert.match(JSON.stringify(ChartAssetURL), /^{"Fn::Sub":"s3:\/\/cdk-hnb659fds-assets-.*\/[0-9a-f]{64}\.zip"}$/);
    // Not before the cluster takes commands, nor before the handler may read the chart.
    assert.ok(found.DependsOn.some((id: string) => id.startsWith('ClusterKubectlReadyBarrier')), found.DependsOn);
  });
}

test('the release belongs to the stack of the construct, whose deployment follows that of the cluster', () => {
  const network = newStack();
  const cluster = classicCluster(network);
  const stack = new Stack(network.node.root as any, 'Dns');
  new NodeLocalDns(stack, 'NodeLocalDns', { cluster });
  assert.equal(release(stack).Properties.Release, 'nodens');
  Template.fromStack(network).resourceCountIs('Custom::AWSCDK-EKS-HelmChart', 0);
  assert.deepEqual(stack.dependencies, [network]);
});

test('what depends on the construct is made after the release', () => {
  const stack = newStack();
  const dns = new NodeLocalDns(stack, 'NodeLocalDns', { cluster: importedCluster(stack) });
  new ecr.Repository(stack, 'After').node.addDependency(dns);
  const [after] = Object.values(Template.fromStack(stack).findResources('AWS::ECR::Repository'));
  assert.deepEqual(after.DependsOn, [stack.getLogicalId(dns.chart.node.findChild('Resource').node.defaultChild as any)]);
});

test('imported clusters of the classic module are taken where Helm can run', () => {
  const ways: ((stack: Stack) => Partial<eks.ClusterAttributes>)[] = [
    (stack) => ({ kubectlRoleArn: 'arn:aws:iam::111122223333:role/kubectl', kubectlLayer: layer(stack) }),
    (stack) => ({
      kubectlProvider: eks.KubectlProvider.fromKubectlProviderAttributes(stack, 'Provider', {
        functionArn: 'arn:aws:lambda:eu-central-1:111122223333:function:kubectl',
        kubectlRoleArn: 'arn:aws:iam::111122223333:role/kubectl',
        handlerRole: iam.Role.fromRoleName(stack, 'Role', 'handler'),
      }),
    }),
  ];
  for (const way of ways) {
    const stack = newStack();
    const cluster = eks.Cluster.fromClusterAttributes(stack, 'Cluster', { clusterName: 'imported', ...way(stack) });
    new NodeLocalDns(stack, 'NodeLocalDns', { cluster });
    assert.equal(release(stack).Properties.ClusterName, 'imported');
    assert.equal(release(stack).Properties.RoleArn, 'arn:aws:iam::111122223333:role/kubectl');
  }
});

test('clusters without anything that runs Helm are refused', () => {
  const classic = (stack: Stack, attributes: Partial<eks.ClusterAttributes>) =>
    eks.Cluster.fromClusterAttributes(stack, 'Cluster', { clusterName: 'imported', ...attributes });
  const clusters: ((stack: Stack) => NodeLocalDnsProps['cluster'])[] = [
    (stack) => classic(stack, {}),
    (stack) => classic(stack, { kubectlRoleArn: 'arn:aws:iam::111122223333:role/kubectl' }),
    (stack) => classic(stack, { kubectlLayer: layer(stack) }),
    (stack) => new eksv2.Cluster(stack, 'Cluster', { version: eksv2.KubernetesVersion.V1_35 }),
    (stack) => eksv2.Cluster.fromClusterAttributes(stack, 'Cluster', { clusterName: 'imported' }),
    (stack) =>
      eksv2.Cluster.fromClusterAttributes(stack, 'Cluster', {
        clusterName: 'imported',
        kubectlProvider: eksv2.KubectlProvider.fromKubectlProviderAttributes(stack, 'Provider', { serviceToken: 'arn' }),
      }),
  ];
  for (const cluster of clusters) {
    const stack = newStack();
    const make = () => new NodeLocalDns(stack, 'NodeLocalDns', { cluster: cluster(stack) });
    assert.throws(make, { message: /^Stack\/NodeLocalDns: cluster: nothing runs Helm: / });
  }
});

test('every mode of the chart is one of the construct, and no other', () => {
  const schema = JSON.parse(readFileSync(path.join(CHART, 'values.schema.json'), 'utf8'));
  for (const mode of schema.properties.mode.enum) {
    assert.deepEqual(valuesFor({ mode }), { ...DEFAULTS, mode });
  }
  const refusal = `Stack/NodeLocalDns: mode: ipvs is none of ${schema.properties.mode.enum.join(', ')}`;
  assert.throws(() => valuesFor({ mode: 'ipvs' as NodeLocalDnsMode }), { message: refusal });
});

test('lifetimes are whole seconds from 0 to a day, or a Duration of them', () => {
  const seconds = (cacheTtl: number | Duration) => valuesFor({ cacheTtl, cacheNegativeTtl: cacheTtl });
  for (const [given, meant] of [[0, 0], [86400, 86400], [Duration.minutes(2), 120], [Duration.millis(3000), 3]] as const) {
    assert.deepEqual(seconds(given), { ...DEFAULTS, cacheTtl: meant, cacheNegativeTtl: meant });
  }
  for (const given of [-1, 86401, 0.5, NaN, Infinity, Duration.days(2), Duration.millis(1500)]) {
    assert.throws(() => valuesFor({ cacheTtl: given }), { message: /^Stack\/NodeLocalDns: cacheTtl: .* whole number/ });
    assert.throws(() => valuesFor({ cacheNegativeTtl: given }), { message: /^Stack\/NodeLocalDns: cacheNegativeTtl: / });
  }
});

test('the address of the Service is an IPv4 or IPv6 address, and there is one only where it is taken', () => {
  for (const clusterDnsIp of ['10.100.0.10', 'fd12:3456:789a::a']) {
    for (const mode of ['kube-proxy-iptables', 'kube-proxy-nftables'] as const) {
      assert.deepEqual(valuesFor({ mode, clusterDnsIp }), { ...DEFAULTS, mode, clusterDnsIp });
    }
  }
  for (const clusterDnsIp of ['', 'kube-dns', '172.20.0', '172.20.0.256', '172.20.0.10:53', 'fe80::1%eth0']) {
    assert.throws(() => valuesFor({ clusterDnsIp }), { message: /^Stack\/NodeLocalDns: clusterDnsIp: .*is not an IPv4 or/ });
  }
  for (const mode of ['kube-proxy-ipvs', 'link-local-only', 'cilium'] as const) {
    assert.throws(() => valuesFor({ mode, clusterDnsIp: address }), { message: /clusterDnsIp: .* leave it out/ });
  }
});

test('what is known at deployment only is passed on', () => {
  const stack = newStack();
  const ttl = new CfnParameter(stack, 'Ttl', { type: 'Number' });
  new NodeLocalDns(stack, 'NodeLocalDns', {
    cluster: importedCluster(stack),
    clusterDnsIp: new CfnParameter(stack, 'Address').valueAsString,
    cacheTtl: ttl.valueAsNumber,
    cacheNegativeTtl: Duration.seconds(ttl.valueAsNumber),
    image: new CfnParameter(stack, 'Image').valueAsString,
    imageTag: new CfnParameter(stack, 'Tag').valueAsString,
  });
  const known = { Ttl: '42', Address: address, Image: 'registry.example/nodens', Tag: '0.1.0' };
  assert.deepEqual(valuesOf(stack, known), {
    ...DEFAULTS,
    clusterDnsIp: address,
    cacheTtl: 42,
    cacheNegativeTtl: 42,
    image: { repository: 'registry.example/nodens', tag: '0.1.0' },
  });
});

test('an image is taken apart into what the chart calls repository, tag and digest', () => {
  const digest = `sha256:${'0'.repeat(64)}`;
  const cases: [string, string | undefined, object][] = [
    ['nodens', undefined, { repository: 'nodens' }],
    ['registry.example/nodens:0.1.0', undefined, { repository: 'registry.example/nodens', tag: '0.1.0' }],
    ['registry.example:5000/nodens', undefined, { repository: 'registry.example:5000/nodens' }],
    ['registry.example:5000/nodens:1', undefined, { repository: 'registry.example:5000/nodens', tag: '1' }],
    ['registry.example/nodens', '0.1.0', { repository: 'registry.example/nodens', tag: '0.1.0' }],
    ['registry.example/nodens', digest, { repository: 'registry.example/nodens', digest }],
    [`registry.example/nodens@${digest}`, undefined, { repository: 'registry.example/nodens', digest }],
    [`registry.example/nodens:0.1.0@${digest}`, undefined, { repository: 'registry.example/nodens', digest }],
  ];
  for (const [image, imageTag, meant] of cases) {
    assert.deepEqual(valuesFor({ image, imageTag }), { ...DEFAULTS, image: meant });
  }
  for (const image of ['', 'a b', 'nodens:', 'nodens@sha256:0', ':0.1.0']) {
    assert.throws(() => valuesFor({ image }), { message: /^Stack\/NodeLocalDns: image: .* is not a reference/ });
  }
  assert.throws(() => valuesFor({ image: 'nodens:1', imageTag: '2' }), { message: /imageTag: nodens:1 says a tag/ });
  assert.throws(() => valuesFor({ imageTag: '2' }), { message: /imageTag: there is no image/ });
});

test('an image may be of an ECR repository', () => {
  const stack = newStack();
  const repository = ecr.Repository.fromRepositoryAttributes(stack, 'Repository', {
    repositoryName: 'nodens',
    repositoryArn: 'arn:aws:ecr:eu-central-1:111122223333:repository/nodens',
  });
  new NodeLocalDns(stack, 'NodeLocalDns', { cluster: importedCluster(stack), image: repository, imageTag: '0.1.0' });
  assert.deepEqual(valuesOf(stack, { 'AWS::URLSuffix': 'amazonaws.com' }).image, {
    repository: '111122223333.dkr.ecr.eu-central-1.amazonaws.com/nodens',
    tag: '0.1.0',
  });
});

test('without an image there is a warning, with one there is none', () => {
  for (const image of [undefined, 'registry.example/nodens:0.1.0']) {
    const stack = newStack();
    new NodeLocalDns(stack, 'NodeLocalDns', { cluster: importedCluster(stack), image });
    const warnings = Annotations.fromStack(stack).findWarning('/Stack/NodeLocalDns', Match.stringLikeRegexp('No image'));
    assert.equal(warnings.length, image === undefined ? 1 : 0);
  }
});

test('on an IPv6 cluster nodens listens by both families, but for Cilium, where it takes the addresses of its pod by itself', () => {
  for (const [mode, dualStack] of [['kube-proxy-iptables', true], ['cilium', undefined]] as const) {
    const stack = newStack();
    const provider = importedCluster(stack).kubectlProvider;
    const attributes = { clusterName: 'six', ipFamily: eksv2.IpFamily.IP_V6, kubectlProvider: provider };
    const cluster = eksv2.Cluster.fromClusterAttributes(stack, 'Six', attributes);
    new NodeLocalDns(stack, 'NodeLocalDns', { cluster, mode });
    assert.equal(valuesOf(stack).dualStack, dualStack);
  }
});

test('configuration and other values reach the chart, whose values that properties write are refused', () => {
  const config = { zones: [{ match: ['.'], forward: { to: ['10.1.0.53'] } }] };
  const values = { monitoring: { serviceMonitor: { enabled: true } }, updateStrategy: { type: 'OnDelete' } };
  assert.deepEqual(valuesFor({ config, values, metricsEnabled: false }), {
    ...DEFAULTS,
    ...values,
    config,
    metricsEnabled: false,
  });
  const written = ['mode', 'dualStack', 'clusterDnsIp', 'cacheTtl', 'cacheNegativeTtl', 'metricsEnabled', 'image', 'config'];
  for (const name of written) {
    const refused = () => valuesFor({ values: { [name]: 'any' } });
    assert.throws(refused, { message: `Stack/NodeLocalDns: values.${name}: this value is made of properties: write those` });
  }
});

test('waiting can be left out, or take longer, but no longer than the handler lives', () => {
  const properties = (props: Partial<NodeLocalDnsProps>) => {
    const stack = newStack();
    new NodeLocalDns(stack, 'NodeLocalDns', { cluster: importedCluster(stack), ...props });
    return release(stack).Properties;
  };
  assert.equal(properties({ wait: false }).Wait, undefined);
  assert.equal(properties({ timeout: Duration.minutes(15) }).Timeout, '900s');
  assert.throws(() => properties({ timeout: Duration.minutes(16) }), /timeout cannot be higher than 15 minutes/);
});
