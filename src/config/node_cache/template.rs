//! The variables in node-cache's Corefile, replaced as text: no more is known here of the Corefile than they are.
//!
//! Lines keep their numbers, so that whoever reads of a mistake finds it in the file that was written by hand; blocks for
//! stub domains stand behind the last of them.

use std::fmt::Write;
use std::net::IpAddr;

use super::config_map::KubeDns;

/// The address of the Service that leads to kube-dns.
const CLUSTER_DNS: &str = "__PILLAR__CLUSTER__DNS__";
/// Who is asked about names outside the cluster.
const UPSTREAM_SERVERS: &str = "__PILLAR__UPSTREAM__SERVERS__";
/// All addresses of `-localip`.
const LOCAL_DNS: &str = "__PILLAR__LOCAL__DNS__";
/// What the manifest's author has replaced, or has not: [`LOCAL_DNS`] stands for all addresses.
pub(super) const DNS_SERVER: &str = "__PILLAR__DNS__SERVER__";
/// The value of `-prometheus-listen-address`.
const PROMETHEUS: &str = "__PROMETHEUS__ENDPOINT__";
/// Where the node's own servers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long answers of stub domains are kept, in seconds.
const STUB_TTL: u32 = 30;

/// What the variables stand for.
pub(super) struct Values<'a> {
    /// Our addresses.
    pub(super) local: &'a [IpAddr],
    /// The port of stub domains.
    pub(super) port: u16,
    /// Who is asked about the cluster's names: an address, or a name that has none.
    pub(super) cluster_dns: &'a str,
    /// Where Prometheus finds metrics.
    pub(super) prometheus: &'a str,
}

/// Whether it matters for `base` who answers the cluster's names.
pub(super) fn needs_cluster_dns(base: &str) -> bool {
    let code = base.lines().map(|line| line.split_once('#').map_or(line, |(code, _)| code));
    code.into_iter().any(|line| line.contains(CLUSTER_DNS))
}

/// The Corefile that `base` is meant to be.
pub(super) fn render(base: &str, values: &Values<'_>, kube_dns: &KubeDns) -> String {
    let local: Vec<String> = values.local.iter().map(IpAddr::to_string).collect();
    let local = local.join(" ");
    let upstreams = kube_dns.upstreams.join(" ");
    // Custom servers need not speak TCP. Only the very block of old manifests is known to mean no more than a default.
    let over_tcp = format!("\n    forward . {UPSTREAM_SERVERS} {{\n            force_tcp\n    }}\n");
    let over_udp = format!("\n    forward . {upstreams}\n\n\n");
    let base = if upstreams.is_empty() { base.to_owned() } else { base.replace(&over_tcp, &over_udp) };
    let upstreams = if upstreams.is_empty() { RESOLV_CONF } else { &upstreams };
    let mut text = base
        .replace(UPSTREAM_SERVERS, upstreams)
        .replace(CLUSTER_DNS, values.cluster_dns)
        .replace(LOCAL_DNS, &local)
        .replace(DNS_SERVER, "")
        .replace(PROMETHEUS, values.prometheus);
    let bind = if local.is_empty() { String::new() } else { format!("    bind {local}\n") };
    for (domain, servers) in &kube_dns.stub_domains {
        let (port, servers) = (values.port, servers.join(" "));
        let _ =
            write!(text, "\n{domain}:{port} {{\n    errors\n    cache {STUB_TTL}\n{bind}    forward . {servers}\n}}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: [&str; 2] = ["169.254.20.10", "10.96.0.10"];

    fn rendered(base: &str, kube_dns: &KubeDns) -> String {
        let local = LOCAL.map(|ip| ip.parse().unwrap());
        let values = Values { local: &local, port: 53, cluster_dns: "10.0.0.7", prometheus: ":9253" };
        render(base, &values, kube_dns)
    }

    fn with_upstreams(servers: &[&str]) -> KubeDns {
        KubeDns { upstreams: servers.iter().map(|s| (*s).to_owned()).collect(), ..KubeDns::default() }
    }

    #[test]
    fn variables_are_replaced_wherever_they_stand() {
        let base = "bind __PILLAR__LOCAL__DNS__\nforward . __PILLAR__CLUSTER__DNS__\n# __PILLAR__CLUSTER__DNS__\n\
                    prometheus __PROMETHEUS__ENDPOINT__\nforward . __PILLAR__UPSTREAM__SERVERS__\n";
        assert_eq!(
            rendered(base, &KubeDns::default()),
            "bind 169.254.20.10 10.96.0.10\nforward . 10.0.0.7\n# 10.0.0.7\nprometheus :9253\nforward . /etc/resolv.conf\n"
        );
        let upstreams = with_upstreams(&["8.8.8.8", "1.1.1.1:54"]);
        assert!(rendered(base, &upstreams).ends_with("forward . 8.8.8.8 1.1.1.1:54\n"));
    }

    #[test]
    fn what_nobody_has_replaced_is_left_out() {
        let base = "bind 169.254.20.10 __PILLAR__DNS__SERVER__\n__PILLAR__DNS__DOMAIN__\n";
        assert_eq!(rendered(base, &KubeDns::default()), "bind 169.254.20.10 \n__PILLAR__DNS__DOMAIN__\n");
    }

    #[test]
    fn custom_servers_are_asked_over_udp_where_the_very_block_of_old_manifests_stands() {
        let old = ".:53 {\n    loop\n    forward . __PILLAR__UPSTREAM__SERVERS__ {\n            force_tcp\n    }\n    \
                   prometheus :9253\n    }\n";
        let upstreams = with_upstreams(&["8.8.8.8"]);
        let text = rendered(old, &upstreams);
        assert_eq!(text, ".:53 {\n    loop\n    forward . 8.8.8.8\n\n\n    prometheus :9253\n    }\n");
        assert_eq!(text.lines().count(), old.lines().count(), "lines keep their numbers");
        assert!(rendered(old, &KubeDns::default()).contains("forward . /etc/resolv.conf {\n            force_tcp\n"));
        for other in [
            old.replace("            force_tcp", "        force_tcp"),
            old.replace("    }\n    pro", "    } \n    pro"),
        ] {
            assert!(rendered(&other, &upstreams).contains("forward . 8.8.8.8 {"), "{other}");
        }
    }

    #[test]
    fn stub_domains_stand_behind_everything_else() {
        let domains = [("b.local", vec!["2.2.2.2:10053", "3.3.3.3"]), ("a.local", vec!["1.1.1.1"])];
        let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
        let stub_domains = domains.into_iter().map(|(name, list)| (name.to_owned(), owned(list))).collect();
        let kube_dns = KubeDns { stub_domains, upstreams: Vec::new() };
        let block = |domain: &str, servers: &str| {
            format!(
                "\n{domain}:53 {{\n    errors\n    cache 30\n    bind 169.254.20.10 10.96.0.10\n    forward . {servers}\n}}\n"
            )
        };
        let all = format!(".:53\n{}{}", block("a.local", "1.1.1.1"), block("b.local", "2.2.2.2:10053 3.3.3.3"));
        assert_eq!(rendered(".:53\n", &kube_dns), all);
        let values = Values { local: &[], port: 54, cluster_dns: "", prometheus: "" };
        let text = render("", &values, &kube_dns);
        assert!(text.starts_with("\na.local:54 {") && !text.contains("bind"), "{text}");
    }

    #[test]
    fn a_corefile_without_the_variable_needs_no_service() {
        assert!(needs_cluster_dns("a {\n  forward . __PILLAR__CLUSTER__DNS__ {\n"));
        assert!(!needs_cluster_dns("a {\n  forward . 10.0.0.1\n"));
        assert!(!needs_cluster_dns("# forward . __PILLAR__CLUSTER__DNS__\n"), "a remark");
    }
}
