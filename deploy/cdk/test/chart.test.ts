/**
 * What Helm makes of the chart and the values that a template carries. Helm is that of target/deploy, where `deploy/check`
 * puts it, and is called as the kubectl handler calls it; NODENS names another binary than target/debug/nodens.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { App, Stack } from 'aws-cdk-lib';
import { NodeLocalDns, type NodeLocalDnsProps } from 'nodens-cdk';
import { parse, parseAllDocuments } from 'yaml';
import { CHART, importedCluster, release, ROOT, scratch } from './support';

const HELM = path.join(ROOT, 'target/deploy/bin/helm');
const NODENS = process.env.NODENS ?? path.join(ROOT, 'target/debug/nodens');
const folder = scratch();

/** The files below a folder, by name. */
const filesOf = (root: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(root, { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => path.join(entry.parentPath, entry.name))
      .map((file) => [path.relative(root, file), readFileSync(file, 'utf8')]),
  );

/** The asset with the chart in the assembly of an app, as it is uploaded. */
function chartOf(app: App): string {
  const assembly = app.synth().directory;
  const found = readdirSync(assembly, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('Chart.yaml'));
  assert.equal(found.length, 1);
  return path.join(assembly, path.dirname(found[0]));
}

/** What Helm renders of a stack with the construct: the objects, by kind and name. */
function rendered(props: Omit<NodeLocalDnsProps, 'cluster'>): Record<string, any> {
  const app = new App({ outdir: mkdtempSync(path.join(folder, 'app-')) });
  const stack = new Stack(app, 'Stack');
  new NodeLocalDns(stack, 'NodeLocalDns', { cluster: importedCluster(stack), ...props });
  const { Release, Namespace, Values } = release(stack).Properties;
  const values = path.join(mkdtempSync(path.join(folder, 'values-')), 'values.yaml');
  writeFileSync(values, JSON.stringify(JSON.parse(Values), null, 2));
  const command = ['template', Release, chartOf(app), '--values', values, '--namespace', Namespace];
  const objects = parseAllDocuments(execFileSync(HELM, command, { encoding: 'utf8' })).map((document) => document.toJS());
  return Object.fromEntries(objects.filter(Boolean).map((object) => [`${object.kind} ${object.metadata.name}`, object]));
}

test('the asset is the chart, file by file', () => {
  const app = new App({ outdir: mkdtempSync(path.join(folder, 'app-')) });
  const stack = new Stack(app, 'Stack');
  new NodeLocalDns(stack, 'NodeLocalDns', { cluster: importedCluster(stack) });
  assert.deepEqual(filesOf(chartOf(app)), filesOf(CHART));
});

test('lifetimes, addresses and image arrive in what runs on the nodes', () => {
  const objects = rendered({
    clusterDnsIp: '172.20.0.10',
    cacheTtl: 42,
    cacheNegativeTtl: 7,
    metricsEnabled: false,
    image: 'registry.example:5000/nodens:0.1.0',
    config: { limits: { inFlight: 777 } },
  });
  const config = parse(objects['ConfigMap nodens'].data['nodens.yaml']);
  assert.deepEqual(config.listen.addresses, ['169.254.20.10', '172.20.0.10']);
  assert.equal(config.cache.positive.maxTtl, '42s');
  assert.equal(config.cache.negative.maxTtl, '7s');
  assert.deepEqual(config.metrics.listen, []);
  assert.equal(config.limits.inFlight, 777);
  const { spec, metadata } = objects['DaemonSet nodens'];
  assert.equal(metadata.namespace, 'kube-system');
  assert.equal(spec.template.spec.containers[0].image, 'registry.example:5000/nodens:0.1.0');
  assert.deepEqual(spec.updateStrategy, { type: 'RollingUpdate', rollingUpdate: { maxSurge: '10%', maxUnavailable: 0 } });
});

test('without an address nodens takes the one that Kubernetes tells it, and none where no Service is captured', () => {
  const addresses = (props: Omit<NodeLocalDnsProps, 'cluster'>) =>
    parse(rendered(props)['ConfigMap nodens'].data['nodens.yaml']).listen?.addresses;
  assert.deepEqual(addresses({}), ['169.254.20.10', 'kube-dns']);
  assert.deepEqual(addresses({ mode: 'link-local-only' }), ['169.254.20.10']);
  assert.ok('CiliumLocalRedirectPolicy nodens' in rendered({ mode: 'cilium' }));
});

test('nodens takes the shortest and the longest lifetimes that the construct takes', () => {
  for (const ttl of [0, 86400]) {
    const objects = rendered({ clusterDnsIp: '172.20.0.10', cacheTtl: ttl, cacheNegativeTtl: ttl });
    const file = path.join(folder, `${ttl}.yaml`);
    writeFileSync(file, objects['ConfigMap nodens'].data['nodens.yaml']);
    const env = { ...process.env, KUBE_DNS_UPSTREAM_SERVICE_HOST: '172.20.0.11' };
    execFileSync(NODENS, ['check', '--config', file], { env });
  }
});
