//! Tables, chains and rules as messages: what is sent in one transaction, and what is read back.
//!
//! Knows nothing of what the rules are for. Numbers are those of linux/netfilter.h and linux/netfilter/nf_tables.h.

use super::expr::Rule;
use crate::network::netlink::Netlink;
use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, HookNumber, InetHookNumber, NfTablesMessage, RuleAttribute, RuleMessage,
    TableAttribute, TableFlags, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily as Family,
};
use std::io;

/// What happens to a packet that no rule of a base chain has decided about.
pub(super) const NF_DROP: u32 = 0;
/// The same.
pub(super) const NF_ACCEPT: u32 = 1;

/// For whom a batch is (linux/netfilter/nfnetlink.h).
const NFNL_SUBSYS_NFTABLES: u16 = 10;

/// One message of a transaction, with its flags.
pub(super) type Step = (NetfilterMessage, u16);

/// Where a chain is called from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base {
    /// `filter`, `nat` or `route`.
    pub(super) kind: String,
    /// Where in the path of a packet.
    pub(super) hook: InetHookNumber,
    /// Its place among all that hook there: lower ones first.
    pub(super) priority: i32,
    /// [`NF_ACCEPT`] or [`NF_DROP`].
    pub(super) policy: u32,
}

impl Base {
    /// A base chain that accepts.
    pub(super) fn new(kind: &str, hook: InetHookNumber, priority: i32) -> Base {
        Base { kind: kind.into(), hook, priority, policy: NF_ACCEPT }
    }
}

/// A chain and what is in it.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// Its name.
    pub(super) name: String,
    /// None when only other chains call it.
    pub(super) base: Option<Base>,
    /// Its rules in order; not filled in by [`chains`].
    pub(super) rules: Vec<Rule>,
}

impl Chain {
    fn holds(&self, found: &Chain) -> bool {
        self.name == found.name
            && self.base == found.base
            && self.rules.len() == found.rules.len()
            && self.rules.iter().zip(&found.rules).all(|(wanted, found)| wanted.holds(found))
    }
}

/// Are the `found` chains those that are `wanted`, and no others?
pub(super) fn hold(wanted: &[Chain], found: &[Chain]) -> bool {
    wanted.len() == found.len() && wanted.iter().all(|chain| found.iter().any(|other| chain.holds(other)))
}

/// A rule and where it is.
pub(super) struct Placed {
    /// The chain it is in.
    pub(super) chain: String,
    /// What it is deleted by.
    pub(super) handle: u64,
    /// What it says.
    pub(super) rule: Rule,
    /// What whoever wrote it keeps with it.
    pub(super) user_data: Vec<u8>,
}

/// Makes a table of family `inet`; `more` are flags such as `NLM_F_EXCL`.
pub(super) fn new_table(name: &str, flags: TableFlags, more: u16) -> Step {
    let attributes = vec![TableAttribute::Name(name.into()), TableAttribute::Flags(flags)];
    (message(Family::Inet, NfTablesMessage::NewTable(TableMessage { attributes })), NLM_F_CREATE | more)
}

/// Removes a table of family `inet` with all that is in it.
pub(super) fn delete_table(name: &str) -> Step {
    let attributes = vec![TableAttribute::Name(name.into())];
    (message(Family::Inet, NfTablesMessage::DeleteTable(TableMessage { attributes })), 0)
}

/// Makes `chains` in a table of family `inet`. All rules come after all chains, since they may name any.
pub(super) fn new_chains(table: &str, chains: &[Chain]) -> Vec<Step> {
    let rules = chains.iter().flat_map(|chain| chain.rules.iter().map(|rule| new_rule(table, &chain.name, rule)));
    chains.iter().map(|chain| new_chain(table, chain)).chain(rules).collect()
}

fn new_chain(table: &str, chain: &Chain) -> Step {
    let mut attributes = vec![ChainAttribute::Table(table.into()), ChainAttribute::Name(chain.name.clone())];
    if let Some(base) = &chain.base {
        attributes.push(ChainAttribute::Policy(base.policy));
        attributes.push(ChainAttribute::Type(base.kind.clone()));
        let hook = HookNumber::Inet(base.hook);
        attributes.push(ChainAttribute::Hook(vec![Hook::Number(hook), Hook::Priority(base.priority.cast_unsigned())]));
    }
    (message(Family::Inet, NfTablesMessage::NewChain(ChainMessage { attributes })), NLM_F_CREATE)
}

fn new_rule(table: &str, chain: &str, rule: &Rule) -> Step {
    let attributes = vec![
        RuleAttribute::Table(table.into()),
        RuleAttribute::Chain(chain.into()),
        RuleAttribute::Expressions(rule.expressions()),
    ];
    (message(Family::Inet, NfTablesMessage::NewRule(RuleMessage { attributes })), NLM_F_CREATE | NLM_F_APPEND)
}

/// Removes a chain of a table of family `inet`, with its rules.
pub(super) fn delete_chain(table: &str, chain: &Chain) -> Step {
    let attributes = vec![ChainAttribute::Table(table.into()), ChainAttribute::Name(chain.name.clone())];
    (message(Family::Inet, NfTablesMessage::DeleteChain(ChainMessage { attributes })), 0)
}

/// Removes one rule.
pub(super) fn delete_rule(family: Family, table: &str, rule: &Placed) -> Step {
    let attributes = vec![
        RuleAttribute::Table(table.into()),
        RuleAttribute::Chain(rule.chain.clone()),
        RuleAttribute::Handle(rule.handle),
    ];
    (message(family, NfTablesMessage::DeleteRule(RuleMessage { attributes })), 0)
}

/// Has the kernel do all `steps` or none.
pub(super) fn transact(netlink: &mut Netlink, mut steps: Vec<Step>) -> io::Result<()> {
    let Some((_, flags)) = steps.last_mut() else { return Ok(()) };
    // Kernels differ in whether they acknowledge the end of a batch; the last step is as good.
    *flags |= NLM_F_ACK;
    let frame = |control| {
        let header = NetfilterHeader::new(Family::Unspec, 0, NFNL_SUBSYS_NFTABLES);
        (NetfilterMessage::new(header, control), 0)
    };
    let mut batch = vec![frame(ControlMessage::BatchBegin)];
    batch.append(&mut steps);
    batch.push(frame(ControlMessage::BatchEnd));
    netlink.changes(batch)
}

/// The tables of family `inet`: their names and flags.
pub(super) fn tables(netlink: &mut Netlink) -> io::Result<Vec<(String, TableFlags)>> {
    let request = NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() });
    netlink.dump(message(Family::Inet, request), |message| {
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewTable(table)) = message.inner else { return None };
        let (mut name, mut flags) = (None, TableFlags::empty());
        for attribute in table.attributes {
            match attribute {
                TableAttribute::Name(value) => name = Some(value),
                TableAttribute::Flags(value) => flags = value,
                _ => {}
            }
        }
        Some((name?, flags))
    })
}

/// A chain without its rules, and where it is: the family and the table.
pub(super) type Found = (Family, String, Chain);

/// The chains of `family`, or of all when it is `Unspec`, that are `wanted`.
pub(super) fn chains(netlink: &mut Netlink, family: Family, wanted: impl Fn(&Found) -> bool) -> io::Result<Vec<Found>> {
    let request = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
    netlink.dump(message(family, request), |message| {
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(chain)) = message.inner else { return None };
        let (mut table, mut name, mut kind, mut hook, mut priority, mut policy) =
            (None, None, None, None, 0, NF_ACCEPT);
        for attribute in chain.attributes {
            match attribute {
                ChainAttribute::Table(value) => table = Some(value),
                ChainAttribute::Name(value) => name = Some(value),
                ChainAttribute::Type(value) => kind = Some(value),
                ChainAttribute::Policy(value) => policy = value,
                ChainAttribute::Hook(values) => {
                    for value in values {
                        match value {
                            Hook::Number(HookNumber::Inet(value)) => hook = Some(value),
                            Hook::Priority(value) => priority = value.cast_signed(),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let base = kind.zip(hook).map(|(kind, hook)| Base { kind, hook, priority, policy });
        Some((message.header.family, table?, Chain { name: name?, base, rules: Vec::new() })).filter(&wanted)
    })
}

/// The rules of a table that are `wanted`, chain by chain; none when there is no such table.
pub(super) fn rules(
    netlink: &mut Netlink,
    family: Family,
    table: &str,
    wanted: impl Fn(&Placed) -> bool,
) -> io::Result<Vec<Placed>> {
    let only = RuleAttribute::Table(table.into());
    let request = NfTablesMessage::GetRule(RuleMessage { attributes: vec![only.clone()] });
    netlink.dump(message(family, request), |message| {
        let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(rule)) = message.inner else { return None };
        // Old kernels list all rules of the family, whatever they are asked for.
        if message.header.family != family || !rule.attributes.contains(&only) {
            return None;
        }
        let (mut chain, mut handle, mut expressions, mut user_data) = (None, None, Vec::new(), Vec::new());
        for attribute in rule.attributes {
            match attribute {
                RuleAttribute::Chain(value) => chain = Some(value),
                RuleAttribute::Handle(value) => handle = Some(value),
                RuleAttribute::Expressions(value) => expressions = value,
                RuleAttribute::UserData(value) => user_data = value,
                _ => {}
            }
        }
        Some(Placed { chain: chain?, handle: handle?, rule: Rule::found(expressions), user_data }).filter(&wanted)
    })
}

/// All chains of the table `name` of family `inet`, with their rules. A dormant table is as good as none.
pub(super) fn read(netlink: &mut Netlink, name: &str) -> io::Result<Option<Vec<Chain>>> {
    let awake = |(found, flags): &(String, TableFlags)| found == name && !flags.contains(TableFlags::Dormant);
    if !tables(netlink)?.iter().any(awake) {
        return Ok(None);
    }
    let ours = chains(netlink, Family::Inet, |(_, table, _)| table == name)?;
    let mut found: Vec<Chain> = ours.into_iter().map(|(_, _, chain)| chain).collect();
    for placed in rules(netlink, Family::Inet, name, |_| true)? {
        if let Some(chain) = found.iter_mut().find(|chain| chain.name == placed.chain) {
            chain.rules.push(placed.rule);
        }
    }
    Ok(Some(found))
}

fn message(family: Family, inner: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner)
}
