/** What is published: the packed package, alone, is enough for the example of the README. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import * as path from 'node:path';
import { test } from 'node:test';
import { CHART, PACKAGE, scratch } from './support';

const MODULES = path.join(PACKAGE, 'node_modules');

test('the package carries the chart, and the example of the README synthesises with it', () => {
  const folder = scratch();
  const modules = path.join(folder, 'node_modules');
  const { CDK_VALIDATION, ...environment } = process.env;
  const run = (command: string, args: string[], cwd = folder, env = {}) =>
    execFileSync(command, args, { cwd, encoding: 'utf8', env: { ...environment, ...env } });

  const listed = run('npm', ['pack', '--json', '--pack-destination', folder], PACKAGE);
  const [packed] = JSON.parse(listed.slice(listed.indexOf('[\n')));
  const names: string[] = packed.files.map((file: { path: string }) => file.path);
  const chart = readdirSync(CHART, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.join('lib/chart', path.relative(CHART, path.join(entry.parentPath, entry.name))));
  const code = ['index', 'node-local-dns'].flatMap((name) => [`lib/${name}.js`, `lib/${name}.d.ts`]);
  assert.deepEqual(names.sort(), [...chart, ...code, 'README.md', 'package.json'].sort());

  mkdirSync(path.join(modules, 'nodens-cdk'), { recursive: true });
  run('tar', ['xzf', packed.filename, '--strip-components=1', '-C', 'node_modules/nodens-cdk']);
  for (const name of ['aws-cdk-lib', 'constructs', '@aws-cdk', '@types']) {
    symlinkSync(path.join(MODULES, name), path.join(modules, name));
  }
  const example = /```ts\n(.*?)```/s.exec(readFileSync(path.join(PACKAGE, 'README.md'), 'utf8'))![1];
  writeFileSync(path.join(folder, 'app.ts'), example);
  run(path.join(MODULES, '.bin/tsc'), ['--strict', '--skipLibCheck', '--module', 'node16', '--types', 'node', 'app.ts']);
  run('node', ['app.js'], folder, { CDK_OUTDIR: path.join(folder, 'cdk.out') });

  const templates = readdirSync(path.join(folder, 'cdk.out')).filter((name) => name.endsWith('.template.json'));
  const texts = templates.map((name) => readFileSync(path.join(folder, 'cdk.out', name), 'utf8'));
  const resources = texts.flatMap((text) => Object.values<any>(JSON.parse(text).Resources));
  const [found] = resources.filter((resource) => resource.Type === 'Custom::AWSCDK-EKS-HelmChart');
  assert.deepEqual(JSON.parse(found.Properties.Values), {
    updateStrategy: { rollingUpdate: { maxSurge: '10%' } },
    mode: 'kube-proxy-iptables',
    clusterDnsIp: '172.20.0.10',
    cacheTtl: 30,
    cacheNegativeTtl: 5,
    metricsEnabled: true,
    image: { repository: '111122223333.dkr.ecr.eu-central-1.amazonaws.com/nodens', tag: '0.1.0' },
  });
});
