/**
 * The construct NodeLocalDns: the Helm chart of nodens as part of a stack. What is installed is the chart's affair; here
 * its values are made of properties, and what cannot work is refused while the stack is synthesised.
 */
import { isIP } from 'node:net';
import * as path from 'node:path';
import { Annotations, Duration, Token } from 'aws-cdk-lib';
import type * as ecr from 'aws-cdk-lib/aws-ecr';
import * as eks from 'aws-cdk-lib/aws-eks';
import * as eksv2 from 'aws-cdk-lib/aws-eks-v2';
import { Asset } from 'aws-cdk-lib/aws-s3-assets';
import { Construct } from 'constructs';

/** What serves Services on the nodes, and so how queries come to nodens. */
export type NodeLocalDnsMode = (typeof MODES)[number];

const MODES = ['kube-proxy-iptables', 'kube-proxy-nftables', 'kube-proxy-ipvs', 'link-local-only', 'cilium'] as const;

/** The modes in which nodens takes the address of the Service kube-dns. */
const TAKING_SERVICE_ADDRESS: readonly string[] = ['kube-proxy-iptables', 'kube-proxy-nftables'];

/** Values of the chart that properties write. */
const OWN_VALUES = [
  'mode',
  'dualStack',
  'clusterDnsIp',
  'cacheTtl',
  'cacheNegativeTtl',
  'metricsEnabled',
  'image',
  'config',
];

/** The longest lifetime that nodens takes for both kinds of answers. */
const DAY = Duration.days(1).toSeconds();

/** Which module a cluster is of: no other than the classic one has these properties, whether defined or not. */
const isClassic = (cluster: eks.ICluster | eksv2.ICluster): cluster is eks.ICluster => 'kubectlLayer' in cluster;

export interface NodeLocalDnsProps {
  /** The cluster, of `aws-eks` or `aws-eks-v2`, made here or imported. It needs what `kubectl` is run by: see the class. */
  readonly cluster: eks.ICluster | eksv2.ICluster;

  /**
   * What serves Services on the nodes.
   *
   * @default 'kube-proxy-iptables', as the EKS add-on kube-proxy does unless told otherwise
   */
  readonly mode?: NodeLocalDnsMode;

  /**
   * The address of the Service kube-dns, an IPv4 or IPv6 one, in the modes in which nodens takes it.
   *
   * @default what Kubernetes tells the pods, which on EKS is 10.100.0.10, 172.20.0.10 or the tenth of one's own range
   */
  readonly clusterDnsIp?: string;

  /**
   * How long answers with data are kept at most: seconds or a Duration, up to a day.
   *
   * @default 30 seconds, nodens' own default
   */
  readonly cacheTtl?: number | Duration;

  /**
   * The same for names or types that do not exist.
   *
   * @default 5 seconds, nodens' own default
   */
  readonly cacheNegativeTtl?: number | Duration;

  /**
   * Serve metrics on port 9253 of each node, in a way that Prometheus finds.
   *
   * @default true
   */
  readonly metricsEnabled?: boolean;

  /**
   * The image: an ECR repository, or a reference such as `registry.example/nodens:0.1.0`, with or without tag or digest.
   * The nodes must be allowed to pull it; within the account of an ECR repository EKS' own policies for nodes allow that.
   *
   * @default `nodens` of no registry, which nodes have only if somebody put it there: there is a warning
   */
  readonly image?: string | ecr.IRepository;

  /**
   * The tag of the image, or its digest (`sha256:…`), if the reference has neither.
   *
   * @default the version of nodens that the chart is for
   */
  readonly imageTag?: string;

  /** nodens' own configuration, laid over what mode and properties make of it: the chart's value `config`. */
  readonly config?: Record<string, unknown>;

  /**
   * Other values of the chart, such as `extraZones`, `resources` or `monitoring`; its values.yaml lists them. A value for
   * which there is a property is refused.
   */
  readonly values?: Record<string, unknown>;

  /**
   * Whether the deployment waits until nodens is ready on all nodes, and fails if it is not in time.
   *
   * @default true
   */
  readonly wait?: boolean;

  /**
   * How long it waits, at most 15 minutes.
   *
   * @default 10 minutes
   */
  readonly timeout?: Duration;
}

/**
 * nodens, a DNS cache on every node of an EKS cluster.
 *
 * ```ts
 * new NodeLocalDns(this, 'NodeLocalDns', { cluster, image: repository, cacheTtl: 30, cacheNegativeTtl: 5 });
 * ```
 *
 * It is a release `nodens` of the Helm chart that the package carries, in the namespace kube-system: chart, overlays and
 * construct cannot differ. The chart is uploaded as an asset, so that the deployment needs no chart repository. The
 * release belongs to the stack that the construct stands in, which need not be that of the cluster. One is enough for a
 * cluster; two would fight about the same objects. Helm takes over no object that others made, such as the Service
 * kube-dns-upstream of node-cache's manifest: the README says how it comes to.
 *
 * **Clusters.** Both EKS modules of the CDK are taken, the classic one and `aws-eks-v2`. Helm runs in the cluster's
 * kubectl handler, so there must be one: in the classic module an imported cluster needs `kubectlProvider`, or
 * `kubectlRoleArn` and `kubectlLayer`; in `aws-eks-v2` a new one needs `kubectlProviderOptions`, an imported one these or
 * `kubectlProvider`. Without, synthesis fails.
 *
 * **kubelet.** In the first two modes and in `cilium` nothing is to be done: pods go on asking the Service kube-dns, and
 * nodens takes that address on the node. kube-proxy's own rules are the way to kube-dns when nodens is away. In
 * `kube-proxy-ipvs` and `link-local-only` pods ask nodens only where their kubelet says `clusterDNS: [169.254.20.10]`: in
 * the NodeConfig of Amazon Linux 2023's user data (`spec.kubelet.config`), as `settings.kubernetes.cluster-dns-ip` of
 * Bottlerocket, as `spec.kubelet.clusterDNS` of Karpenter's EC2NodeClass.
 *
 * **Where it does not run.** EKS Auto Mode has a DNS cache of its own on its nodes, and Fargate lets nobody have the
 * network of the node. The chart leaves both out, and pods there are answered as before. A cluster of `aws-eks-v2` is in
 * Auto Mode unless its `defaultCapacityType` says otherwise. Pods with security groups of their own need
 * `POD_SECURITY_GROUP_ENFORCING_MODE=standard` of the VPC CNI. Under `strict`, its default, their packets go past the node:
 * what they ask of an address that nodens has taken is not answered, so give them another server (`dnsConfig`).
 *
 * **IPv6.** For a cluster whose `ipFamily` is IPv6 nodens also listens on fd00:169:254:20::10.
 *
 * **Upgrades.** A new pod starts beside the old one and no query is lost. Where the chart alone would go node by node, a
 * tenth of the nodes is renewed at a time, as the kubectl handler can wait for 15 minutes and no longer. `updateStrategy`
 * in `values` says otherwise. What is changed in `config` alone mostly takes effect without new pods.
 */
export class NodeLocalDns extends Construct {
  /** The release, for what is to depend on it. */
  public readonly chart: eks.HelmChart | eksv2.HelmChart;

  constructor(scope: Construct, id: string, props: NodeLocalDnsProps) {
    super(scope, id);
    const mode = props.mode ?? 'kube-proxy-iptables';
    this.checkMode(mode);
    this.checkAddress(mode, props.clusterDnsIp);
    if (props.image === undefined) {
      Annotations.of(this).addWarningV2(
        'nodens-cdk:image',
        'No image is given: nodes must have nodens of their own accord. Give an ECR repository or a reference as `image`.',
      );
    }
    const taken = Object.keys(props.values ?? {}).find((key) => OWN_VALUES.includes(key));
    if (taken !== undefined) {
      this.refuse(`values.${taken}`, 'this value is made of properties: write those');
    }

    // What is undefined is left out of the JSON, and the chart has its own say.
    const values = {
      updateStrategy: { rollingUpdate: { maxSurge: '10%' } },
      ...props.values,
      mode,
      clusterDnsIp: props.clusterDnsIp,
      cacheTtl: this.seconds('cacheTtl', props.cacheTtl),
      cacheNegativeTtl: this.seconds('cacheNegativeTtl', props.cacheNegativeTtl),
      metricsEnabled: props.metricsEnabled ?? true,
      dualStack: (props.cluster.ipFamily === eks.IpFamily.IP_V6 && mode !== 'cilium') || undefined,
      image: this.image(props.image, props.imageTag),
      config: props.config,
    };
    const options = {
      chartAsset: new Asset(this, 'Asset', { path: path.join(__dirname, 'chart') }),
      release: 'nodens',
      namespace: 'kube-system',
      createNamespace: false,
      values,
      wait: props.wait ?? true,
      timeout: props.timeout ?? Duration.minutes(10),
    };
    this.chart = this.install(props.cluster, options);
  }

  /** Makes the release, by the module that the cluster is of. */
  private install(cluster: eks.ICluster | eksv2.ICluster, options: eks.HelmChartOptions) {
    if (isClassic(cluster)) {
      if (!cluster.kubectlProvider && !(cluster.kubectlRole && cluster.kubectlLayer)) {
        this.refuse('cluster', 'nothing runs Helm: import it with kubectlProvider, or with kubectlRoleArn and kubectlLayer');
      }
      return new eks.HelmChart(this, 'Chart', { cluster, ...options });
    }
    if (!cluster.kubectlProvider?.role) {
      this.refuse('cluster', 'nothing runs Helm: give it kubectlProviderOptions, or a kubectlProvider with a role');
    }
    return new eksv2.HelmChart(this, 'Chart', { cluster, ...options });
  }

  private checkMode(mode: string) {
    if (!(MODES as readonly string[]).includes(mode)) {
      this.refuse('mode', `${mode} is none of ${MODES.join(', ')}`);
    }
  }

  private checkAddress(mode: string, address: string | undefined) {
    if (address === undefined) {
      return;
    }
    if (!TAKING_SERVICE_ADDRESS.includes(mode)) {
      this.refuse('clusterDnsIp', `in the mode ${mode} nodens takes no address of a Service: leave it out`);
    }
    if (!Token.isUnresolved(address) && (isIP(address) === 0 || address.includes('%'))) {
      this.refuse('clusterDnsIp', `${address} is not an IPv4 or IPv6 address`);
    }
  }

  private seconds(name: string, lifetime: number | Duration | undefined): number | undefined {
    const seconds = lifetime instanceof Duration ? lifetime.toSeconds({ integral: false }) : lifetime;
    if (seconds === undefined || Token.isUnresolved(seconds)) {
      return seconds;
    }
    if (!Number.isInteger(seconds) || seconds < 0 || seconds > DAY) {
      this.refuse(name, `${seconds} s is not a whole number of seconds from 0 to ${DAY}`);
    }
    return seconds;
  }

  /** The chart's `image`. A colon before the first slash is that of the registry's port, and not of a tag. */
  private image(image: string | ecr.IRepository | undefined, tag: string | undefined) {
    if (tag !== undefined && image === undefined) {
      this.refuse('imageTag', 'there is no image that it could be of');
    }
    if (image === undefined) {
      return undefined;
    }
    let repository = typeof image === 'string' ? image : image.repositoryUri;
    if (typeof image === 'string' && !Token.isUnresolved(image)) {
      const parts = /^((?:[^\s/@]+\/)?[^\s:@]+)(?::([^\s/:@]+))?(?:@(sha256:[0-9a-f]{64}))?$/.exec(image);
      if (parts === null) {
        this.refuse('image', `${image} is not a reference such as registry.example/nodens:0.1.0`);
      }
      const [, name, ownTag, ownDigest] = parts;
      if ((ownTag ?? ownDigest) !== undefined && tag !== undefined) {
        this.refuse('imageTag', `${image} says a tag or digest already`);
      }
      repository = name;
      tag ??= ownDigest ?? ownTag;
    }
    const digest = tag?.startsWith('sha256:');
    return { repository, tag: digest ? undefined : tag, digest: digest ? tag : undefined };
  }

  private refuse(what: string, why: string): never {
    throw new Error(`${this.node.path}: ${what}: ${why}`);
  }
}
