//! Tables of rules and verdicts.

use super::*;
use crate::wire::question::{CLASS_IN, rtype};
use AclAction::{Allow, Block, Drop, Filter};

fn rule(action: AclAction, names: &[&str], types: &[u16], networks: &[&str]) -> AclRule {
    let names = names.iter().map(|&name| name.to_owned()).collect();
    let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    AclRule { action, names, types: types.to_vec(), networks }
}

#[test]
fn the_first_rule_that_fits_decides() {
    let acl = Acl::new(&[
        rule(Allow, &[], &[], &["10.1.0.0/16", "fd00::/8"]),
        rule(Drop, &["secret.example"], &[], &[]),
        rule(Filter, &["example"], &[rtype::AAAA, rtype::HTTPS], &[]),
        rule(Block, &[], &[rtype::ANY], &["10.0.0.0/8"]),
        rule(Block, &["."], &[rtype::TXT], &[]),
    ]);
    for (client, name, qtype, verdict) in [
        ("10.2.0.1", "www.example", rtype::A, Allow),
        ("10.2.0.1", "www.example", rtype::AAAA, Filter),
        ("10.2.0.1", "www.example", rtype::HTTPS, Filter),
        ("10.2.0.1", "example", rtype::AAAA, Filter),
        ("10.2.0.1", "counterexample", rtype::AAAA, Allow),
        ("10.2.0.1", "a.secret.example", rtype::AAAA, Drop),
        ("10.2.0.1", "secret.example", rtype::A, Drop),
        ("10.1.0.1", "secret.example", rtype::A, Allow),
        ("::ffff:10.1.0.1", "secret.example", rtype::A, Allow),
        ("fd12::1", "secret.example", rtype::A, Allow),
        ("fe80::1", "secret.example", rtype::A, Drop),
        ("10.2.0.1", "test", rtype::ANY, Block),
        ("192.0.2.1", "test", rtype::ANY, Allow),
        ("192.0.2.1", "test", rtype::TXT, Block),
        ("192.0.2.1", ".", rtype::TXT, Block),
    ] {
        let question = Question::new(&to_wire(name), qtype, CLASS_IN).unwrap();
        assert_eq!(acl.verdict(client.parse().unwrap(), &question), verdict, "{client} {question:?}");
    }
}

#[test]
fn without_rules_everything_is_allowed_and_verdicts_have_their_answers() {
    let question = Question::new(&to_wire("a"), rtype::A, CLASS_IN).unwrap();
    assert_eq!(Acl::new(&[]).verdict("192.0.2.1".parse().unwrap(), &question), Allow);
    assert_eq!([Allow, Block, Filter, Drop].map(answer), [None, Some((5, 15)), Some((0, 17)), None]);
}
