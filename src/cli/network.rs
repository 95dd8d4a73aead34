//! `nodens network status`: what there is of ours on this host, as the kernel says it.

use super::output::{self, Format, Style};
use super::{Error, Outcome};
use crate::config::limits;
use crate::guardian::instances::{self, Other};
use crate::network::survey::{self, Survey};
use crate::observe::conntrack::{self, Conntrack};
use serde_json::{Value, json};
use std::fmt::{Display, Write};

/// Arguments of `network`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands below `network`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show instances, interface, rules, fallback and connection tracking of this host.
    #[command(after_help = "Needs CAP_NET_ADMIN in the host's network.")]
    Status(Status),
}

/// Arguments of `network status`.
#[derive(Debug, clap::Args)]
pub struct Status {
    /// The name of the interface.
    #[arg(long, value_name = "NAME", default_value = limits::INTERFACE_NAME)]
    pub interface: String,
    /// Text for people or JSON for machines.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
}

/// Looks and prints.
pub fn run(args: Args) -> Result<Outcome, Error> {
    let Command::Status(args) = args.command;
    let view = View {
        instances: instances::all().unwrap_or_default(),
        survey: survey::survey(&args.interface),
        conntrack: conntrack::read(),
    };
    match args.output {
        Format::Text => output::print(&view.text(Style::of_stdout()))?,
        Format::Json => output::print_json(&view.json())?,
    }
    Ok(if view.survey.unseen.is_empty() { Outcome::Success } else { Outcome::Failure })
}

/// Everything that is shown.
struct View {
    instances: Vec<Other>,
    survey: Survey,
    conntrack: Conntrack,
}

impl View {
    fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let mut row = |label: &str, value: &str| {
            let _ = writeln!(out, "{} {value}", style.bold(&format!("{label:<11}")));
        };
        let Survey { links, tables, fallback, iptables, node_cache, dropping, unseen } = &self.survey;
        if self.instances.is_empty() && self.survey.is_empty() {
            row("nodens", "nothing of it on this host");
        }
        for instance in &self.instances {
            row("instance", &format!("{} {}", instance.generation, instance.stage.name()));
        }
        for link in links {
            let state = if link.up { "up" } else { "down" };
            row("interface", &format!("{} ({}, {state}): {}", link.name, link.kind, list(&link.addresses)));
        }
        for table in tables {
            row("rules", &format!("nftables table inet {table}"));
        }
        if !iptables.is_empty() {
            row("rules", &format!("iptables: {} rules", iptables.len()));
        }
        if let Some(endpoints) = fallback {
            row("fallback", &list(endpoints));
        }
        if !node_cache.is_empty() {
            row("leftovers", &style.yellow(&format!("{} rules of node-cache", node_cache.len())));
        }
        for chain in dropping {
            row("filter", &style.yellow(&format!("the policy of {chain} drops untracked packets")));
        }
        if let Conntrack { entries: Some(entries), limit: Some(limit), insert_failed } = self.conntrack {
            let failed = insert_failed.map_or_else(String::new, |n| format!(", {n} could not be entered"));
            row("conntrack", &format!("{entries} of {limit} entries{failed}"));
        }
        for error in unseen {
            row("unseen", &style.red(error));
        }
        out
    }

    fn json(&self) -> Value {
        let Survey { links, tables, fallback, iptables, node_cache, dropping, unseen } = &self.survey;
        let link = |link: &crate::network::link::Found| json!({ "name": link.name, "kind": link.kind, "up": link.up, "addresses": link.addresses });
        let conntrack = self.conntrack;
        json!({
            "instances": self.instances.iter()
                .map(|i| json!({ "generation": i.generation, "stage": i.stage.name() })).collect::<Vec<_>>(),
            "interfaces": links.iter().map(link).collect::<Vec<_>>(),
            "liveTables": tables,
            "fallback": fallback,
            "iptablesRules": iptables,
            "nodeCacheRules": node_cache,
            "droppingFilters": dropping,
            "conntrack": json!({ "entries": conntrack.entries, "limit": conntrack.limit, "insertFailed": conntrack.insert_failed }),
            "unseen": unseen,
        })
    }
}

fn list<T: Display>(items: &[T]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.iter().map(T::to_string).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::link::Found;

    #[test]
    fn what_there_is_is_shown_and_nothing_else() {
        let none = View {
            instances: Vec::new(),
            survey: Survey::default(),
            conntrack: Conntrack { entries: None, limit: None, insert_failed: None },
        };
        assert_eq!(none.text(Style::PLAIN), "nodens      nothing of it on this host\n");
        assert_eq!(none.json()["fallback"], Value::Null);
        let address: std::net::IpAddr = "169.254.20.10".parse().unwrap();
        let link = Found { name: "nodelocaldns".into(), kind: "tun".into(), up: true, addresses: vec![address] };
        let survey = Survey {
            links: vec![link],
            fallback: Some(vec!["10.244.0.2:53".parse().unwrap()]),
            dropping: vec!["ip filter INPUT".into()],
            ..Survey::default()
        };
        let view = View { survey, ..none };
        assert_eq!(
            view.text(Style::PLAIN),
            "interface   nodelocaldns (tun, up): 169.254.20.10\n\
             fallback    10.244.0.2:53\n\
             filter      the policy of ip filter INPUT drops untracked packets\n"
        );
        assert_eq!(view.json()["interfaces"][0]["addresses"][0], "169.254.20.10");
    }
}
