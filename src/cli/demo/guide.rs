//! What `demo` prints: the commands to try, what to look at in each, how to scrape and how to stop.

use super::Plan;
use super::zone::CELLS;
use crate::cli::output::Style;
use std::fmt::Write;

/// One thing to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it shows.
    pub title: &'static str,
    /// Commands to paste, in order.
    pub commands: Vec<String>,
    /// What to look at in their output.
    pub look: String,
}

/// Everything to try, in a sensible order; `program` is how this program is called.
pub fn steps(plan: &Plan, program: &str) -> Vec<Step> {
    let dig = |rest: &str| format!("dig @{} -p {} {rest}", plan.cache.ip(), plan.cache.port());
    let step = |title, commands: Vec<String>, look: &str| Step { title, commands, look: look.to_owned() };
    vec![
        step(
            "A miss, then a hit",
            vec![dig("web.shop.svc.cluster.local"), dig("web.shop.svc.cluster.local")],
            "The second answer comes from the cache: \"Query time\" falls to 0 msec, and the TTL has begun to count \
             down from 30.",
        ),
        step(
            "The answer, explained",
            vec![format!("{program} query web.shop.svc.cluster.local --server {}", plan.cache)],
            "Source, age, TTL left, upstream and time. After 30 s the source is a miss again.",
        ),
        step(
            "A name that does not exist",
            vec![dig("nowhere.shop.svc.cluster.local"), dig("nowhere.shop.svc.cluster.local")],
            "NXDOMAIN, kept for 5 s at most: see the TTL of the SOA record in the authority section.",
        ),
        step(
            "An answer too large for UDP",
            vec![
                dig("cells.shop.svc.cluster.local +noedns +ignore"),
                dig("cells.shop.svc.cluster.local +noedns"),
                dig("cells.shop.svc.cluster.local"),
            ],
            &format!(
                "{CELLS} addresses do not fit into 512 octets: the flag tc, then the same over TCP by itself, then \
                 with EDNS in one datagram."
            ),
        ),
        step(
            "Ports of a Service",
            vec![dig("_dns._udp.kube-dns.kube-system.svc.cluster.local SRV")],
            "An SRV record, and the addresses of its target in the additional section.",
        ),
        step(
            "From the address to the name",
            vec![dig("-x 10.96.0.10")],
            "A PTR record: in-addr.arpa is forwarded to the cluster's DNS too.",
        ),
        step(
            "A Service of type ExternalName",
            vec![dig("feed.shop.svc.cluster.local")],
            "A CNAME record and what it leads to, kept as one answer.",
        ),
        step(
            "A long TTL",
            vec![dig("www.example.org")],
            "The zone says 3600, the cache says 30 at most: cache.positive.maxTtl.",
        ),
    ]
}

/// The whole guide.
pub fn text(plan: &Plan, program: &str, style: Style) -> String {
    let mut out = String::new();
    let heading = format!("nodens answers on {} (udp and tcp)", plan.cache);
    let _ = writeln!(
        out,
        "{}\nits upstream, an authoritative server inside this process, is on {}\nno other name than those of \
         cluster.local, example.org and their addresses is served\n",
        style.bold(&heading),
        plan.upstream
    );
    for step in steps(plan, program) {
        let _ = writeln!(out, "{}", style.bold(step.title));
        for command in &step.commands {
            let _ = writeln!(out, "    {}", style.green(command));
        }
        let _ = writeln!(out, "  {}\n", step.look);
    }
    let _ = writeln!(out, "{}", style.bold("What it counts, and whether it is well"));
    for command in scrapes(plan) {
        let _ = writeln!(out, "    {}", style.green(&command));
    }
    let _ = writeln!(out, "  nodens_responses_total by source tells hits from misses.\n");
    let _ = writeln!(out, "Stop with Ctrl-C.");
    out
}

/// How to read metrics, health and readiness.
pub fn scrapes(plan: &Plan) -> [String; 2] {
    [
        format!("curl -s http://{}/metrics | grep ^nodens_", plan.metrics),
        format!("curl -s http://{0}/health http://{0}/ready", plan.health),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddr};

    fn plan() -> Plan {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Plan { cache: at(5300), upstream: at(41000), metrics: at(9253), health: at(8080) }
    }

    #[test]
    fn every_command_goes_to_the_demo_itself() {
        for step in steps(&plan(), "nodens") {
            assert!(!step.commands.is_empty() && !step.look.is_empty(), "{}", step.title);
            for command in step.commands {
                let aimed = command.contains("@127.0.0.1 -p 5300 ") || command.ends_with("--server 127.0.0.1:5300");
                assert!(aimed, "{command}");
            }
        }
    }

    #[test]
    fn the_guide_holds_every_command_and_address() {
        let text = text(&plan(), "nodens", Style::PLAIN);
        let commands = steps(&plan(), "nodens").into_iter().flat_map(|s| s.commands).chain(scrapes(&plan()));
        for part in commands.chain(["127.0.0.1:41000".to_owned(), "Ctrl-C".to_owned()]) {
            assert!(text.contains(&part), "{part}");
        }
        assert!(!text.contains('\x1b'));
    }
}
