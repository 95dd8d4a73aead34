//! Rules by the programs of iptables: for kernels and network plugins where our own nftables table does not do, and for
//! hosts whose filter policy drops what is not tracked.
//!
//! Every change reads what there is, writes only what differs, and does so in one `iptables-restore --noflush` per
//! family: repeated starts leave nothing twice, and two instances for one address share their rules. Nothing is cached
//! here; what the rules are is said in `rules`, how they are read in `saved`.
//!
//! Unlike our nftables table these rules outlive us. What makes them harmless then is a [`Guard`].

mod command;
mod rules;
mod saved;

#[cfg(test)]
mod tests;

pub use command::{Backend, Error};
pub use rules::Guard;

use super::Match;
use command::{Tool, sixth};
use rules::Edit;
use saved::{Rule, Saved};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long the xtables lock is waited for, as node-cache does.
const PATIENCE: Duration = Duration::from_secs(5);

/// The tables that we write to; that which brings queries to us first.
const ALL: [&str; 3] = ["raw", "filter", "nat"];

/// How often a change is tried when the rules change between reading and writing.
const TRIES: usize = 3;

/// iptables for both families, of which only those are touched that have addresses.
pub struct Iptables {
    v4: Tool,
    /// Not needed where there are no addresses of its family, so that it may be missing.
    v6: Result<Tool, Absent>,
    patience: Duration,
}

/// A program that cannot be run, and why.
#[derive(Clone)]
struct Absent {
    program: String,
    reason: String,
}

impl Iptables {
    /// The `iptables` and `ip6tables` of this host or image.
    ///
    /// # Errors
    /// When `iptables` or one of its companions is missing or does not run.
    pub fn find() -> Result<Iptables, Error> {
        Iptables::with("iptables")
    }

    /// A certain `iptables`, such as `iptables-legacy` or `/sbin/iptables`; the others are looked for beside it.
    ///
    /// # Errors
    /// When it or one of its companions is missing or does not run.
    pub fn with(program: &str) -> Result<Iptables, Error> {
        let v4 = Tool::find(program, PATIENCE)?;
        let program = sixth(program);
        let v6 = Tool::find(&program, PATIENCE).map_err(|error| match error {
            Error::Missing { program, reason } => Absent { program, reason },
            other => Absent { program, reason: other.to_string() },
        });
        Ok(Iptables { v4, v6, patience: PATIENCE })
    }

    /// Which kind was found.
    pub fn backend(&self) -> Backend {
        self.v4.backend
    }

    /// From now on waits so long for the lock, in whole seconds: who has to stop does not wait for others.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Writes the rules that are there from start to end: those for replies, probes and health, and those that let
    /// packets pass. Returns whether any were missing.
    ///
    /// # Errors
    /// Why they are not there.
    pub fn keep(&self, of: &Match) -> Result<bool, Error> {
        self.each(of, |tool, of| {
            self.change(tool, &["raw", "filter"], |saved| {
                rules::additions(saved, &[rules::kept(of), rules::accept(of)].concat())
            })
        })
    }

    /// Has queries come to us, for as long as `guard` sees fit, and removes rules of ours with another guard. Returns
    /// whether anything had to be written.
    ///
    /// # Errors
    /// Why they do not.
    pub fn capture(&self, of: &Match, guard: Guard) -> Result<bool, Error> {
        self.each(of, |tool, of| {
            self.change(tool, &["raw"], |saved| rules::captures(saved, of, &rules::capture(of, guard)))
        })
    }

    /// Has queries go where they would without us. Returns whether there was anything to remove. Every family is tried,
    /// whatever happens with the other.
    ///
    /// # Errors
    /// Why they may still come to us.
    pub fn release(&self, of: &Match) -> Result<bool, Error> {
        self.each(of, |tool, of| self.change(tool, &["raw"], |saved| rules::captures(saved, of, &[])))
    }

    /// Writes only the rules that let packets pass where the policy is to drop: a packet passes the filters of both
    /// backends. Returns whether any were missing.
    ///
    /// # Errors
    /// Why they are not there.
    pub fn accept(&self, of: &Match) -> Result<bool, Error> {
        self.each(of, |tool, of| {
            let accept =
                |tool: &Tool| self.change(tool, &["filter"], |saved| rules::additions(saved, &rules::accept(of)));
            let drops = |other: &Tool| {
                let saved = other.save(&["filter"], self.patience);
                saved.is_ok_and(|saved| saved.dropping().next().is_some())
            };
            both(accept(tool), Some(tool.other()).filter(drops).map_or(Ok(false), |other| accept(&other)))
        })
    }

    /// Are all rules there that [`keep`](Iptables::keep) and, if `captured`, [`capture`](Iptables::capture) wrote?
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn intact(&self, of: &Match, guard: Guard, captured: bool) -> Result<bool, Error> {
        let missing = self.each(of, |tool, of| {
            let mut wanted = [rules::kept(of), rules::accept(of)].concat();
            if captured {
                wanted.extend(rules::capture(of, guard));
            }
            Ok(!rules::additions(&self.read(tool, &["raw", "filter"])?, &wanted).is_empty())
        })?;
        Ok(!missing)
    }

    /// Has whatever is sent to us and not captured go to one of `endpoints`, unless a rule before ours, such as one of
    /// kube-proxy's, sends it elsewhere. A family without endpoints has no fallback. Returns whether anything had to be
    /// written.
    ///
    /// # Errors
    /// Why it does not.
    pub fn standing_replace(&self, of: &Match, endpoints: &[SocketAddr]) -> Result<bool, Error> {
        self.each(of, |tool, of| {
            let family = of.addresses.first().map(IpAddr::is_ipv4);
            let mut endpoints: Vec<SocketAddr> =
                endpoints.iter().filter(|endpoint| Some(endpoint.is_ipv4()) == family).copied().collect();
            endpoints.sort_unstable();
            endpoints.dedup();
            self.change(tool, &["nat"], |saved| rules::fall_back(saved, of, &endpoints))
        })
    }

    /// Where the fallback leads, sorted; none when there is none.
    ///
    /// # Errors
    /// When the rules cannot be read.
    pub fn standing_endpoints(&self) -> Result<Vec<SocketAddr>, Error> {
        let mut endpoints = Vec::new();
        for tool in self.present() {
            let saved = self.read(tool, &["nat"])?;
            endpoints.extend(saved.rules.iter().filter(|rule| rule.is_ours()).filter_map(Rule::destination));
        }
        endpoints.sort_unstable();
        endpoints.dedup();
        Ok(endpoints)
    }

    /// Removes the fallback. Returns whether there was one.
    ///
    /// # Errors
    /// Why it may still be there.
    pub fn standing_remove(&self) -> Result<bool, Error> {
        let mut changed = Ok(false);
        for tool in self.present() {
            changed = both(changed, self.change(tool, &["nat"], rules::ours));
        }
        changed
    }

    /// Removes everything of ours, from both families and both backends, whichever instance wrote it. Returns the
    /// commands that do so; a dry run does no more.
    ///
    /// # Errors
    /// Why something may be left.
    pub fn remove_ours(&self, dry_run: bool) -> Result<Vec<String>, Error> {
        self.remove(dry_run, &ALL, rules::ours)
    }

    /// Removes the rules of node-cache in the same way: they would keep queries of all from kube-dns when nobody serves
    /// them.
    ///
    /// # Errors
    /// Why something may be left.
    pub fn remove_node_cache(&self, dry_run: bool) -> Result<Vec<String>, Error> {
        self.remove(dry_run, &["raw", "filter"], |saved| rules::removal(saved, Rule::is_node_caches))
    }

    /// The chains whose policy drops untracked packets that no rule accepts, such as `ip filter INPUT`. Those
    /// of a table that iptables cannot show are not among them: nothing could be written there either.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn dropping(&self) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        for tool in self.everywhere() {
            let family = if tool.is_v6() { "ip6" } else { "ip" };
            for chain in tool.save(&["filter"], self.patience)?.dropping() {
                let name = format!("{family} filter {chain}");
                if !found.contains(&name) {
                    found.push(name);
                }
            }
        }
        Ok(found)
    }

    /// Can rules of the older kind be read?
    ///
    /// # Errors
    /// Why not.
    pub fn sees_legacy(&self) -> Result<(), Error> {
        let tool = if self.backend() == Backend::Legacy { self.v4.clone() } else { self.v4.other() };
        tool.save(&["filter"], self.patience).map(drop)
    }

    fn remove(&self, dry_run: bool, tables: &[&str], plan: impl Fn(&Saved) -> Vec<Edit>) -> Result<Vec<String>, Error> {
        let (mut commands, mut result) = (Vec::new(), Ok(false));
        for tool in self.everywhere() {
            let mut planned = Vec::new();
            let changed = self.change(&tool, tables, |saved| {
                let edits = plan(saved);
                planned =
                    edits.iter().map(|edit| format!("{} -t {} {}", tool.program, edit.table, edit.command)).collect();
                if dry_run { Vec::new() } else { edits }
            });
            result = both(result, changed);
            commands.extend(planned);
        }
        result.map(|_| commands)
    }

    /// Does something for each family that `of` has addresses of, with those only.
    fn each(&self, of: &Match, act: impl Fn(&Tool, &Match) -> Result<bool, Error>) -> Result<bool, Error> {
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = of.addresses.iter().partition(|address| address.is_ipv4());
        let mut changed = Ok(false);
        if !v4.is_empty() {
            changed = act(&self.v4, &Match { addresses: v4, ..of.clone() });
        }
        if !v6.is_empty() {
            let tool = self.v6.as_ref().map_err(|absent| {
                let Absent { program, reason } = absent.clone();
                Error::Missing { program, reason }
            });
            changed = both(changed, tool.and_then(|tool| act(tool, &Match { addresses: v6, ..of.clone() })));
        }
        changed
    }

    /// Reads `tables` and writes what `plan` makes of them, again when somebody else has changed them meanwhile. A table
    /// that cannot be read is left alone, does not keep the others from being written, and is an error in the end.
    fn change(&self, tool: &Tool, tables: &[&str], mut plan: impl FnMut(&Saved) -> Vec<Edit>) -> Result<bool, Error> {
        let mut tries = TRIES;
        loop {
            let saved = tool.save(tables, self.patience)?;
            let mut edits = plan(&saved);
            edits.retain(|edit| !saved.unreadable.contains(&edit.table));
            if edits.is_empty() {
                return readable(tool, &saved).map(|()| false);
            }
            tries -= 1;
            match tool.restore(&edits, self.patience) {
                Ok(()) => return readable(tool, &saved).map(|()| true),
                Err(Error::Failed { .. }) if tries > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&self, tool: &Tool, tables: &[&str]) -> Result<Saved, Error> {
        let saved = tool.save(tables, self.patience)?;
        readable(tool, &saved).map(|()| saved)
    }

    /// The programs of those families that there are.
    fn present(&self) -> impl Iterator<Item = &Tool> {
        [Some(&self.v4), self.v6.as_ref().ok()].into_iter().flatten()
    }

    /// The programs of both families and of both backends: rules that the other backend wrote are as much in force.
    fn everywhere(&self) -> Vec<Tool> {
        // The other one is used only if it is there and the kernel has a use for it.
        let other = |tool: &Tool| Some(tool.other()).filter(|other| other.save(&ALL, self.patience).is_ok());
        self.present().flat_map(|tool| [Some(tool.clone()), other(tool)]).flatten().collect()
    }
}

/// An error for the first table that iptables could not show.
fn readable(tool: &Tool, saved: &Saved) -> Result<(), Error> {
    match saved.unreadable.first() {
        Some(table) => Err(Error::Unreadable { program: tool.program.clone(), table: table.clone() }),
        None => Ok(()),
    }
}

/// Was anything changed by one or the other? The first error of both counts.
fn both(one: Result<bool, Error>, other: Result<bool, Error>) -> Result<bool, Error> {
    Ok(one? | other?)
}
