//! What CoreDNS's hosts plugin says, and what files it reads.

use super::super::tests::{asked, question, shown};
use super::*;
use crate::wire::question::Question;
use crate::wire::question::rtype::{A, AAAA, MX, PTR};
use std::path::PathBuf;

fn config() -> config::Hosts {
    let entry =
        |address: &str, names: &[&str]| (address.parse().unwrap(), names.iter().map(|n| n.to_string()).collect());
    config::Hosts {
        files: Vec::new(),
        entries: vec![
            entry("10.0.0.7", &["db.internal", "sql.internal"]),
            entry("10.0.0.8", &["db.internal", "other.example"]),
            entry("2001:db8::7", &["db.internal", "six.internal"]),
            entry("::ffff:10.0.0.9", &["mapped.internal"]),
            entry("10.0.0.10", &["*.apps.internal", "*.deep.apps.internal"]),
            entry("10.0.0.11", &["*.deep.apps.internal", "own.apps.internal"]),
        ],
        ttl: Duration::from_secs(60),
        reverse: true,
        reload: Duration::from_secs(5),
        names: vec!["internal".into()],
        fallthrough: vec!["forth.internal".into()],
    }
}

fn said(hosts: &Hosts, name: &str, rtype: u16) -> String {
    shown(hosts.answer(&asked(&question(name, rtype))))
}

#[test]
fn names_have_their_addresses_and_nothing_else() {
    let hosts = Hosts::new(&config());
    for (name, rtype, want) in [
        ("db.internal", A, "0 aa, db.internal. 60 IN A 10.0.0.7, db.internal. 60 IN A 10.0.0.8"),
        ("DB.Internal", AAAA, "0 aa, db.internal. 60 IN AAAA 2001:db8::7"),
        ("mapped.internal", A, "0 aa, mapped.internal. 60 IN A 10.0.0.9"),
        // The name is there, but nothing of the type: neither a record nor a SOA.
        ("mapped.internal", AAAA, "0 aa"),
        ("six.internal", A, "0 aa"),
        ("db.internal", MX, "0 aa"),
        // Wildcards: the nearest; an entry of its own goes first.
        ("x.apps.internal", A, "0 aa, x.apps.internal. 60 IN A 10.0.0.10"),
        ("y.x.apps.internal", A, "0 aa, y.x.apps.internal. 60 IN A 10.0.0.10"),
        ("own.apps.internal", A, "0 aa, own.apps.internal. 60 IN A 10.0.0.11"),
        (
            "z.deep.apps.internal",
            A,
            "0 aa, z.deep.apps.internal. 60 IN A 10.0.0.10, z.deep.apps.internal. 60 IN A 10.0.0.11",
        ),
        ("x.apps.internal", AAAA, "0 aa"),
        ("apps.internal", A, "fail 2: no entry in hosts"),
        // Unknown names.
        ("none.internal", A, "fail 2: no entry in hosts"),
        ("none.internal", MX, "fail 2: no entry in hosts"),
        ("x.forth.internal", A, "next"),
        ("xforth.internal", A, "fail 2: no entry in hosts"),
        // Outside of its names.
        ("other.example", A, "next"),
        (".", A, "next"),
    ] {
        assert_eq!(said(&hosts, name, rtype), want, "{name} {rtype}");
    }
    let chaos = Question::new(&to_wire("db.internal"), A, 3).unwrap();
    assert_eq!(shown(hosts.answer(&asked(&chaos))), "next");
}

#[test]
fn addresses_have_their_names_wherever_they_are_asked_for() {
    let hosts = Hosts::new(&config());
    let six = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    for (name, want) in [
        (
            "7.0.0.10.in-addr.arpa",
            "0 aa, 7.0.0.10.in-addr.arpa. 60 IN PTR db.internal., 7.0.0.10.in-addr.arpa. 60 IN PTR sql.internal.",
        ),
        (six, &*format!("0 aa, {six}. 60 IN PTR db.internal., {six}. 60 IN PTR six.internal.")),
        // Names outside of the zone, and wildcards, are nobody's name.
        ("8.0.0.10.in-addr.arpa", "0 aa, 8.0.0.10.in-addr.arpa. 60 IN PTR db.internal."),
        ("10.0.0.10.in-addr.arpa", "next"),
        ("1.0.0.10.in-addr.arpa", "next"),
        ("07.0.0.10.in-addr.arpa", "next"),
        ("0.0.10.in-addr.arpa", "next"),
        ("x.7.0.0.10.in-addr.arpa", "next"),
        ("8.b.d.0.1.0.0.2.ip6.arpa", "next"),
        ("db.internal", "next"),
    ] {
        assert_eq!(said(&hosts, name, PTR), want, "{name}");
    }
    let hosts = Hosts::new(&config::Hosts { reverse: false, ..config() });
    assert_eq!(said(&hosts, "7.0.0.10.in-addr.arpa", PTR), "next");
}

const FILE: &str = "\
# a comment
127.0.0.1 localhost localhost.internal # another
  10.1.0.1\tDB.internal\ttwo.internal\r
fe80::1%eth0 link.internal
::ffff:10.1.0.2 four.internal

10.1.0.300 bad.internal
10.01.0.3 zero.internal
10.1.0.4
name.internal 10.1.0.5
10.1.0.6 good.internal b..ad
10.1.0.6 last.internal";

#[test]
fn files_are_read_as_hosts_files_are() {
    let scope = Scope { names: vec![to_wire("internal").into()], reverse: true };
    let (table, skipped) = Table::parse(FILE.as_bytes(), &scope);
    let addresses = |name: &str| table.addresses(&to_wire(name)).iter().map(|a| a.to_string()).collect::<Vec<_>>();
    for (name, want) in [
        ("localhost.internal", "127.0.0.1"),
        ("db.internal", "10.1.0.1"),
        ("two.internal", "10.1.0.1"),
        ("link.internal", "fe80::1"),
        ("four.internal", "10.1.0.2"),
        ("good.internal", "10.1.0.6"),
        ("last.internal", "10.1.0.6"),
    ] {
        assert_eq!(addresses(name), [want], "{name}");
    }
    for name in ["localhost", "bad.internal", "zero.internal", "name.internal"] {
        assert_eq!(addresses(name), [""; 0], "{name}");
    }
    assert_eq!(skipped, Some((7, 5)));
    assert_eq!(table.len(), 14, "seven names and as many back");
    assert_eq!(Table::parse(b"# \xff\n10.0.0.1 a.internal \xff\n", &scope).1, Some((2, 1)));
    assert_eq!(Table::parse(b"", &scope).1, None);
}

fn at(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1000)
}

/// Hosts with one file, which is not there yet.
fn with_file(reload: u64) -> (tempfile::TempDir, PathBuf, Hosts) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hosts");
    let reload = Duration::from_secs(reload);
    let hosts = Hosts::new(&config::Hosts { files: vec![path.clone()], reload, ..config() });
    (folder, path, hosts)
}

fn status(hosts: &Hosts) -> (usize, bool, bool, usize) {
    let Status { entries, changed, skipped, failing, .. } = hosts.files().next().unwrap();
    (entries, changed.is_some(), failing, skipped)
}

#[test]
fn a_file_is_read_when_it_has_changed_and_kept_while_it_cannot_be_read() {
    let (_folder, path, hosts) = with_file(5);
    let own = hosts.entries.len();
    hosts.refresh(at(1));
    assert_eq!(status(&hosts), (own, false, true, 0), "no such file");
    std::fs::write(&path, "10.2.0.1 db.internal file.internal\nnonsense\n").unwrap();
    hosts.refresh(at(5));
    assert_eq!(said(&hosts, "file.internal", A), "fail 2: no entry in hosts", "it is not time to look");
    hosts.refresh(at(6));
    assert_eq!(said(&hosts, "file.internal", A), "0 aa, file.internal. 60 IN A 10.2.0.1");
    assert_eq!(status(&hosts), (own + 4, true, false, 1));
    // Both have it: the file's first.
    let both = ["10.2.0.1", "10.0.0.7", "10.0.0.8"].map(|a| format!("db.internal. 60 IN A {a}"));
    assert_eq!(said(&hosts, "db.internal", A), format!("0 aa, {}", both.join(", ")));
    std::fs::remove_file(&path).unwrap();
    hosts.refresh(at(11));
    assert_eq!(status(&hosts), (own + 4, true, true, 1), "what it held stays");
    std::fs::write(&path, "10.2.0.2 file.internal\n").unwrap();
    hosts.refresh(at(16));
    assert_eq!(said(&hosts, "file.internal", A), "0 aa, file.internal. 60 IN A 10.2.0.2");
    assert_eq!(status(&hosts), (own + 2, true, false, 0));
}

#[test]
fn a_file_that_is_not_followed_is_read_once() {
    let (_folder, path, hosts) = with_file(0);
    std::fs::write(&path, "10.2.0.1 file.internal\n").unwrap();
    hosts.refresh(at(1));
    std::fs::write(&path, "10.2.0.22 file.internal\n").unwrap();
    hosts.refresh(at(3600));
    assert_eq!(said(&hosts, "file.internal", A), "0 aa, file.internal. 60 IN A 10.2.0.1");
}

#[test]
fn what_stands_there_twice_is_said_once() {
    let entries = vec![("10.0.0.7".parse().unwrap(), vec!["db.internal".to_owned(); 3]); 2];
    let hosts = Hosts::new(&config::Hosts { entries, ..config() });
    assert_eq!(said(&hosts, "db.internal", A), "0 aa, db.internal. 60 IN A 10.0.0.7");
    let back = "7.0.0.10.in-addr.arpa";
    assert_eq!(said(&hosts, back, PTR), format!("0 aa, {back}. 60 IN PTR db.internal."));
}

/// The size of an answer and how many records it has.
fn size(hosts: &Hosts, name: &str, rtype: u16) -> (usize, usize) {
    let Said::Answer { message, .. } = hosts.answer(&asked(&question(name, rtype))) else { panic!("no answer") };
    (message.len(), usize::from(crate::wire::header::Header::read(&message).unwrap().ancount))
}

#[test]
fn of_more_entries_than_fit_a_message_those_that_fit_are_said() {
    let (_folder, path, hosts) = with_file(1);
    let mut text = String::new();
    for n in 0..20_000 {
        text += &format!("0.0.0.0 n{n}.internal n{n}.internal\n10.1.{}.{} many.internal\n", n / 256 % 256, n % 256);
    }
    std::fs::write(&path, &text).unwrap();
    hosts.refresh(at(1));
    let scope = Scope { names: vec![to_wire("internal").into()], reverse: true };
    let (table, _) = Table::parse(text.as_bytes(), &scope);
    assert_eq!(table.names("0.0.0.0".parse().unwrap()).len(), table::MOST);
    assert_eq!(table.addresses(&to_wire("many.internal")).len(), table::MOST);
    // What is past that of one name is still the name of each address.
    assert_eq!(said(&hosts, "31.78.1.10.in-addr.arpa", PTR).matches("many.internal").count(), 1);
    for (name, rtype, least) in [("0.0.0.0.in-addr.arpa", PTR, 2000), ("many.internal", A, 3000)] {
        let (octets, records) = size(&hosts, name, rtype);
        assert!((60_000..65_000).contains(&octets) && records > least, "{name}: {octets} octets, {records} records");
    }
}

#[test]
fn folders_and_huge_files_are_not_read() {
    let (folder, path, hosts) = with_file(1);
    std::fs::create_dir(&path).unwrap();
    hosts.refresh(at(1));
    assert!(status(&hosts).2);
    std::fs::remove_dir(&path).unwrap();
    std::fs::File::create(&path).unwrap().set_len(16 * 1024 * 1024 + 1).unwrap();
    hosts.refresh(at(2));
    assert!(status(&hosts).2);
    drop(folder);
}
