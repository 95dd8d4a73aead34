//! `nodens migrate`, and Corefiles wherever a configuration is read: every shape found in the wild, against the YAML that
//! it becomes (`tests/corefiles/NAME.yaml`).
//!
//! After a change that is meant, `BLESS=1 cargo test --test migrate` writes those files anew, for a reader to judge.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType};
use nodens::config::{self, Overrides, load_bytes, load_corefile};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use support::process::{Background, NODENS, nodens, stderr, stdout};
use support::upstream::Upstream;
use support::{addresses, ask_udp, free_port, query};

/// The shape that is a mistake.
const TYPO: &str = "kubesphere-typo";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corefiles")
}

/// What an installer would have filled in.
fn filled(text: &str) -> String {
    let values = [
        ("@PORT@", "53"),
        ("@MPORT@", "9253"),
        ("@HPORT@", "8080"),
        ("@IP@", "169.254.20.10"),
        ("@IP2@", "10.96.0.10"),
        ("@UP1@", "10.96.0.11"),
        ("@UP2@", "10.1.0.53"),
        ("@K@", "10.96.0.12"),
        ("@TMP@", "/run/test"),
    ];
    let text = values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
    assert!(!text.contains('@'), "something is left to fill in:\n{text}");
    text
}

/// The shapes: their names and what stands in them.
fn shapes() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none() {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            found.push((name, filled(&fs::read_to_string(&path).unwrap())));
        }
    }
    found.sort();
    assert!(found.len() > 18, "only {} shapes", found.len());
    found
}

/// Runs nodens where a Service kube-dns-upstream is.
fn in_cluster(arguments: &[&str]) -> Output {
    let mut command = Command::new(NODENS);
    command.args(arguments).env("KUBE_DNS_UPSTREAM_SERVICE_HOST", "10.96.0.11").stdin(Stdio::null());
    command.output().unwrap()
}

#[test]
fn every_shape_becomes_the_yaml_beside_it_and_means_the_same() {
    let work = tempfile::tempdir().unwrap();
    // What Gardener puts beside it; its folder of overrides is empty.
    let generated = work.path().join("generated-config");
    fs::create_dir(&generated).unwrap();
    let server = filled("custom.org:@PORT@ {\n    bind @IP@ @IP2@\n    forward . @UP2@\n}\n");
    fs::write(generated.join("custom-server-block.server"), server).unwrap();
    let bless = std::env::var_os("BLESS").is_some();
    for (name, text) in shapes().into_iter().filter(|(name, _)| name != TYPO) {
        let corefile = work.path().join(&name);
        fs::write(&corefile, &text).unwrap();
        let migrated = in_cluster(&["migrate", corefile.to_str().unwrap()]);
        assert_eq!(migrated.status.code(), Some(0), "{name}: {}", stderr(&migrated));
        let golden = folder().join(format!("{name}.yaml"));
        if bless {
            fs::write(&golden, stdout(&migrated)).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap();
        assert_eq!(stdout(&migrated), expected, "{name}");
        let checked = in_cluster(&["check", golden.to_str().unwrap()]);
        assert_eq!(checked.status.code(), Some(0), "{name}: {}", stdout(&checked));
        let from_yaml = load_bytes("golden.yaml", expected.as_bytes(), &Overrides::default()).unwrap().config;
        let name_of = corefile.display().to_string();
        let from_corefile = load_corefile(&name_of, text.as_bytes(), &Overrides::default()).unwrap().config;
        assert_eq!(from_yaml, from_corefile, "{name}");
    }
}

#[test]
fn a_typo_is_refused_by_every_command_with_file_line_and_directive() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("Corefile");
    let text = shapes().into_iter().find(|(name, _)| name == TYPO).unwrap().1;
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let place = format!("{file}:21:5:");
    let migrated = nodens(&["migrate", file]);
    assert_eq!((migrated.status.code(), stdout(&migrated)), (Some(1), String::new()));
    assert!(stderr(&migrated).contains(&place) && stderr(&migrated).contains("prometheus:"), "{}", stderr(&migrated));
    let checked = nodens(&["check", file]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(stdout(&checked).contains(&place), "{}", stdout(&checked));
    let served = nodens(&["serve", "--config", file]);
    assert_eq!(served.status.code(), Some(1));
    assert!(stderr(&served).contains(&place), "{}", stderr(&served));
}

#[test]
fn what_is_to_be_known_goes_to_standard_error_and_the_yaml_does_not() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("any-name");
    fs::write(&file, ".:53 { # all of it\n bind 127.0.0.1\n forward . __PILLAR__UPSTREAM__SERVERS__\n reload 5s\n}\n")
        .unwrap();
    let file = file.to_str().unwrap();
    let text = nodens(&["migrate", file]);
    assert_eq!(text.status.code(), Some(0));
    assert!(
        stdout(&text).contains("match: [.]  # all of it") && !stdout(&text).contains("warning"),
        "{}",
        stdout(&text)
    );
    let notes = stderr(&text);
    assert!(notes.contains(&format!("warning: {file}:3:12: __PILLAR__UPSTREAM__SERVERS__: ")), "{notes}");
    assert!(notes.contains(&format!("warning: {file}:4:9: reload: ")), "{notes}");
    let json = nodens(&["migrate", file, "--output", "json"]);
    let notes: serde_json::Value = serde_json::from_str(&stderr(&json)).unwrap();
    assert_eq!((&notes["ok"], &notes["warnings"][1]["line"]), (&true.into(), &4.into()));
    assert_eq!(stdout(&json), stdout(&text));
    let missing = nodens(&["migrate", "/nonexistent/Corefile"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("/nonexistent/Corefile: cannot read the Corefile"), "{}", stderr(&missing));
}

#[test]
fn imports_are_looked_for_beside_the_file_and_known_afterwards() {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    fs::create_dir(at("custom")).unwrap();
    fs::write(at("custom/a.override"), "log\n").unwrap();
    fs::write(at("Corefile"), ". {\n bind 127.0.0.1\n forward . 10.0.0.1\n import custom/*.override\n}\n").unwrap();
    let loaded = config::load(Some(&at("Corefile")), &Overrides::default()).unwrap();
    assert!(loaded.config.zones[0].log.is_some());
    assert!(loaded.files.contains(&at("custom/a.override")), "{:?}", loaded.files);
    // What is kept for a server that starts while the file is broken is YAML, and complete.
    let kept = load_bytes("last good configuration", loaded.text.as_bytes(), &Overrides::default()).unwrap();
    assert_eq!(kept.config, loaded.config);
}

#[test]
fn a_corefile_is_served() {
    let upstream = Upstream::start(|q| addresses(&q.message(), 1, 300).into());
    let work = tempfile::tempdir().unwrap();
    let (port, health, file) = (free_port(), free_port(), work.path().join("Corefile"));
    let to = upstream.address();
    let text = format!(
        ".:{port} {{\n bind 127.0.0.1\n cache 30\n health 127.0.0.1:{health}\n hosts {{\n  10.9.9.9 db.test\n  fallthrough\n }}\n \
         forward . {to}\n}}\nme.test:{port} {{\n bind 127.0.0.1\n whoami\n}}\n"
    );
    fs::write(&file, text).unwrap();
    let server = Background::start(&["serve", "--config", file.to_str().unwrap()]);
    server.wait_for("serving");
    let dns = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let ask = |name: &str| Message::from_vec(&ask_udp(dns, &query(name, RecordType::A).to_vec().unwrap())).unwrap();
    let host = ask("db.test.");
    assert_eq!(host.answers[0].data, RData::A(Ipv4Addr::new(10, 9, 9, 9).into()));
    assert_eq!((ask("web.test.").answers.len(), upstream.asked_for("web.test.").len()), (1, 1));
    let hit = ask("web.test.");
    assert!(hit.metadata.authoritative && hit.answers[0].ttl <= 30, "{hit:?}");
    assert_eq!(upstream.asked_for("web.test.").len(), 1, "it is cached");
    assert_eq!(upstream.asked_for("db.test.").len(), 0, "it has an address here");
    let whoami = ask("x.me.test.");
    assert!(whoami.answers.is_empty() && whoami.additionals.len() == 2, "{whoami:?}");
    assert!(server.terminate().success());
}
