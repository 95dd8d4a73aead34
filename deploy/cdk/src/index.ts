/** nodens on EKS by the AWS CDK: one construct, which installs the Helm chart that the package carries. */
export * from './node-local-dns';
