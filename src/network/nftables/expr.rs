//! Rules as the kernel takes them: lists of expressions, built from what we want to say.
//!
//! The encoding is that of `nft`, so `nft list ruleset` shows our rules as if `nft` had made them. A rule that comes back
//! from the kernel may say more than was sent (later kernels add attributes), hence [`Rule::holds`] instead of equality.
//! Numbers are those of linux/netfilter/nf_tables.h.

use netlink_packet_core::{DefaultNla, Emitable, Nla, NlaBuffer, NlasIterator, Parseable};
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Meta, MetaKey, Operator,
    Payload, Register, Verdict, VerdictAttribute,
};
use std::net::{IpAddr, SocketAddr};

/// UDP, as protocol number.
pub(super) const UDP: u8 = 17;
/// TCP, as protocol number.
pub(super) const TCP: u8 = 6;
/// What DNS is asked over.
pub(super) const PROTOCOLS: [u8; 2] = [UDP, TCP];

/// What a payload's offset counts from.
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// The families, as `meta nfproto` gives them.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Of a connection: its destination has been translated.
const IPS_DST_NAT: u32 = 1 << 5;

/// `NFTA_CT_DREG` and `NFTA_CT_KEY`, with the key for the status.
const CT_REGISTER: u16 = 1;
const CT_KEY: u16 = 2;
const CT_STATUS: u32 = 2;

/// `NFTA_NG_*`, with the type for random numbers.
const NUMBER_REGISTER: u16 = 1;
const NUMBER_MODULUS: u16 = 2;
const NUMBER_TYPE: u16 = 3;
const NUMBER_RANDOM: u32 = 1;

/// `NFTA_NAT_*`, with the type for destinations.
const NAT_TYPE: u16 = 1;
const NAT_FAMILY: u16 = 2;
const NAT_ADDRESS: u16 = 3;
const NAT_PORT: u16 = 5;
const NAT_DESTINATION: u32 = 1;

/// `NFTA_MATCH_INFO`: what an extension of iptables keeps in a rule.
const MATCH_INFO: u16 = 3;

/// One step of a rule.
pub(super) type Expression = ListAttribute<ExpressionAttribute>;

/// Which end of a packet.
#[derive(Clone, Copy)]
pub(super) enum Side {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// A rule: conditions, then what is to be done.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule(Vec<Expression>);

impl Rule {
    /// A rule as the kernel gives it.
    pub(super) fn found(expressions: Vec<Expression>) -> Rule {
        Rule(expressions)
    }

    /// For packets of the family of `address`.
    pub(super) fn family(address: IpAddr) -> Rule {
        let family = if address.is_ipv4() { IPV4 } else { IPV6 };
        Rule::default().meta(MetaKey::Nfproto).compare(Operator::Equal, vec![family])
    }

    /// Whose `side` is `address`; comes after [`Rule::family`].
    pub(super) fn address(self, side: Side, address: IpAddr) -> Rule {
        let (offset, octets) = match (address, side) {
            (IpAddr::V4(v4), Side::Source) => (12, v4.octets().to_vec()),
            (IpAddr::V4(v4), Side::Destination) => (16, v4.octets().to_vec()),
            (IpAddr::V6(v6), Side::Source) => (8, v6.octets().to_vec()),
            (IpAddr::V6(v6), Side::Destination) => (24, v6.octets().to_vec()),
        };
        self.payload(NETWORK_HEADER, offset, octets)
    }

    /// Of `protocol`.
    pub(super) fn protocol(self, protocol: u8) -> Rule {
        self.meta(MetaKey::L4Proto).compare(Operator::Equal, vec![protocol])
    }

    /// Of `protocol` and with `port` on that `side`.
    pub(super) fn port(self, protocol: u8, side: Side, port: u16) -> Rule {
        let offset = match side {
            Side::Source => 0,
            Side::Destination => 2,
        };
        self.protocol(protocol).payload(TRANSPORT_HEADER, offset, port.to_be_bytes().to_vec())
    }

    /// One packet in `count`, at random; all when that is one.
    pub(super) fn one_in(self, count: u32) -> Rule {
        if count <= 1 {
            return self;
        }
        let attributes = vec![
            number(NUMBER_REGISTER, Register::Reg1.into()),
            number(NUMBER_MODULUS, count),
            number(NUMBER_TYPE, NUMBER_RANDOM),
        ];
        self.other("numgen", attributes).compare(Operator::Equal, vec![0; 4])
    }

    /// Of a connection whose destination was translated.
    pub(super) fn translated(self) -> Rule {
        let status = vec![number(CT_REGISTER, Register::Reg1.into()), number(CT_KEY, CT_STATUS)];
        self.other("ct", status)
            .then(Expressions::Bitwise(vec![
                Bitwise::SourceRegister(Register::Reg1),
                Bitwise::DestinationRegister(Register::Reg1),
                Bitwise::Length(4),
                Bitwise::Mask(DataAttribute::Value(IPS_DST_NAT.to_ne_bytes().to_vec())),
                Bitwise::Xor(DataAttribute::Value(vec![0; 4])),
            ]))
            .compare(Operator::NotEqual, vec![0; 4])
    }

    /// … is not tracked.
    pub(super) fn untracked(self) -> Rule {
        self.bare("notrack")
    }

    /// … gets the address of the interface it leaves by as its source.
    pub(super) fn masqueraded(self) -> Rule {
        self.bare("masq")
    }

    /// … goes on in `chain`, and does not come back.
    pub(super) fn goto(self, chain: &str) -> Rule {
        let verdict = vec![VerdictAttribute::Code(Verdict::Goto), VerdictAttribute::Chain(chain.into())];
        self.load(Register::Verdict, DataAttribute::Verdict(verdict))
    }

    /// … goes to `endpoint` instead.
    pub(super) fn sent_to(self, endpoint: SocketAddr) -> Rule {
        let (family, octets) = match endpoint.ip() {
            IpAddr::V4(v4) => (IPV4, v4.octets().to_vec()),
            IpAddr::V6(v6) => (IPV6, v6.octets().to_vec()),
        };
        let attributes = vec![
            number(NAT_TYPE, NAT_DESTINATION),
            number(NAT_FAMILY, family.into()),
            number(NAT_ADDRESS, Register::Reg1.into()),
            number(NAT_PORT, Register::Reg2.into()),
        ];
        self.load(Register::Reg1, DataAttribute::Value(octets))
            .load(Register::Reg2, DataAttribute::Value(endpoint.port().to_be_bytes().to_vec()))
            .other("nat", attributes)
    }

    /// What [`Rule::sent_to`] was told.
    pub(super) fn endpoint(&self) -> Option<SocketAddr> {
        let loaded = |register| {
            self.0.iter().filter_map(parts).find_map(|(_, data)| match data? {
                Expressions::Immediate(load) if load.contains(&Immediate::DestinationRegister(register)) => {
                    load.iter().find_map(|attribute| match attribute {
                        Immediate::Data(DataAttribute::Value(octets)) => Some(octets.as_slice()),
                        _ => None,
                    })
                }
                _ => None,
            })
        };
        let address = loaded(Register::Reg1)?;
        let v4 = <[u8; 4]>::try_from(address).map(IpAddr::from);
        let address = v4.or_else(|_| <[u8; 16]>::try_from(address).map(IpAddr::from)).ok()?;
        let port = u16::from_be_bytes(loaded(Register::Reg2)?.try_into().ok()?);
        Some(SocketAddr::new(address, port))
    }

    /// Is `found`, from the kernel, this rule? It may say more in each of its steps.
    pub(super) fn holds(&self, found: &Rule) -> bool {
        let flat = |rule: &Rule| rule.0.iter().map(flattened).collect::<Option<Vec<_>>>();
        let (Some(wanted), Some(found)) = (flat(self), flat(found)) else { return false };
        wanted.len() == found.len()
            && wanted.iter().zip(&found).all(|((name, attributes), (found_name, found_attributes))| {
                name == found_name && attributes.iter().all(|attribute| found_attributes.contains(attribute))
            })
    }

    /// What the extensions of iptables keep in this rule, a comment for instance.
    pub(super) fn extensions(&self) -> impl Iterator<Item = Vec<u8>> {
        let matches = self.0.iter().filter_map(flattened).filter(|(name, _)| name == "match");
        matches.flat_map(|(_, attributes)| attributes).filter(|attribute| attribute.kind() == MATCH_INFO).map(value)
    }

    /// The expressions, to be sent.
    pub(super) fn expressions(&self) -> Vec<Expression> {
        self.0.clone()
    }

    fn then(mut self, expression: Expressions) -> Rule {
        self.0.push(expression.into());
        self
    }

    fn bare(mut self, name: &str) -> Rule {
        self.0.push(Expression::Element(vec![ExpressionAttribute::Name(name.into())]));
        self
    }

    fn other(self, name: &str, attributes: Vec<DefaultNla>) -> Rule {
        self.then(Expressions::Other { expression_type: name.into(), attributes })
    }

    fn meta(self, key: MetaKey) -> Rule {
        self.then(Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)]))
    }

    fn compare(self, operator: Operator, value: Vec<u8>) -> Rule {
        self.then(Expressions::Cmp(vec![
            Cmp::SourceRegister(Register::Reg1),
            Cmp::Op(operator),
            Cmp::Data(DataAttribute::Value(value)),
        ]))
    }

    fn payload(self, base: u32, offset: u32, value: Vec<u8>) -> Rule {
        self.then(Expressions::Payload(vec![
            Payload::DestinationRegister(Register::Reg1),
            Payload::Base(base),
            Payload::Offset(offset),
            // an address or a port
            Payload::Len(value.len() as u32),
        ]))
        .compare(Operator::Equal, value)
    }

    fn load(self, register: Register, data: DataAttribute) -> Rule {
        self.then(Expressions::Immediate(vec![Immediate::DestinationRegister(register), Immediate::Data(data)]))
    }
}

/// An attribute that holds a number.
fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

/// What an attribute holds.
fn value(attribute: DefaultNla) -> Vec<u8> {
    let mut octets = vec![0; attribute.value_len()];
    attribute.emit_value(&mut octets);
    octets
}

/// The name of an expression, and what it says if anything.
fn parts(expression: &Expression) -> Option<(&str, Option<&Expressions>)> {
    let ListAttribute::Element(attributes) = expression else { return None };
    let name = attributes.iter().find_map(|attribute| match attribute {
        ExpressionAttribute::Name(name) => Some(name.as_str()),
        _ => None,
    })?;
    let data = attributes.iter().find_map(|attribute| match attribute {
        ExpressionAttribute::Data(data) => Some(data),
        _ => None,
    });
    Some((name, data))
}

/// The same with all attributes of one type. They go through their wire form, which is the same whoever marked nested
/// ones as such.
fn flattened(expression: &Expression) -> Option<(String, Vec<DefaultNla>)> {
    let (name, data) = parts(expression)?;
    let mut octets = vec![0; data.map_or(0, Emitable::buffer_len)];
    if let Some(data) = data {
        data.emit(&mut octets);
    }
    let attributes = NlasIterator::new(octets.as_slice()).map(|attribute| {
        let attribute: NlaBuffer<&[u8]> = attribute.ok()?;
        DefaultNla::parse(&attribute).ok()
    });
    Some((name.to_owned(), attributes.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(port: u16) -> Rule {
        let address = "10.0.0.1".parse().unwrap();
        Rule::family(address).address(Side::Source, address).port(UDP, Side::Source, port).translated().untracked()
    }

    #[test]
    fn rules_from_kernels_that_say_more_are_recognised() {
        let mut later = rule(53);
        for expression in &mut later.0 {
            let ListAttribute::Element(attributes) = expression else { panic!("not an expression") };
            match attributes.last_mut() {
                Some(ExpressionAttribute::Data(Expressions::Bitwise(bitwise))) => bitwise.insert(0, Bitwise::Op(0)),
                Some(ExpressionAttribute::Data(Expressions::Other { attributes, .. })) => attributes.push(number(9, 1)),
                Some(ExpressionAttribute::Name(name)) if name == "notrack" => {
                    let nothing = Expressions::Other { expression_type: "notrack".into(), attributes: Vec::new() };
                    attributes.push(ExpressionAttribute::Data(nothing));
                }
                _ => {}
            }
        }
        assert!(rule(53).holds(&later));
        assert!(!later.holds(&rule(53)), "what was sent is not there");
    }

    #[test]
    fn other_rules_are_told_apart() {
        assert!(rule(53).holds(&rule(53)));
        assert!(!rule(53).holds(&rule(54)));
        assert!(!rule(53).holds(&rule(53).untracked()));
        assert!(!rule(53).untracked().holds(&rule(53)));
        assert!(!Rule::default().untracked().holds(&Rule::default().masqueraded()));
    }

    #[test]
    fn endpoints_are_read_from_rules() {
        for endpoint in ["10.0.0.1:53", "[fd00::1]:5353"] {
            let endpoint: SocketAddr = endpoint.parse().unwrap();
            assert_eq!(Rule::default().protocol(UDP).one_in(3).sent_to(endpoint).endpoint(), Some(endpoint));
        }
        assert_eq!(rule(53).endpoint(), None);
        assert_eq!(Rule::default().goto("endpoints4").endpoint(), None);
    }
}
