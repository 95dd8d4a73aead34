//! Every command that README.md shows in a `sh` fence is run, every example file is checked, and what it says of names is
//! held against the program.
//!
//! A command whose tool is missing on this machine is skipped with a line that says so; in CI (`CI=true`) that fails.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use support::demo::Demo;
use support::netns::isolated;
use support::process::{NODENS, can_run, shell, skip, stderr, stdout};

const README: &str = include_str!("../README.md");

/// Who runs a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runner {
    /// Whoever runs the tests, or CI around them.
    Cargo,
    /// This file, with nothing else running.
    Alone,
    /// This file, with a demo running.
    WithDemo,
    /// This file, in a network of its own.
    Isolated,
    /// This file, as far as looking whether everything needed is there.
    Bench,
    /// This file, without the cluster.
    Rendered,
}

/// The commands of the README with their runners; panics at one that nobody runs.
fn commands() -> Vec<(Runner, String)> {
    let known = |line: &str| {
        let first = line.split(' ').next().unwrap_or_default();
        match first {
            "cargo" if ["cargo run --release -- demo", "cargo build --release", "cargo test"].contains(&line) => {
                Runner::Cargo
            }
            "dig" | "curl" if line.contains("127.0.0.1") => Runner::WithDemo,
            "nodens" if line.contains("127.0.0.1:5300") => Runner::WithDemo,
            "nodens" if line.starts_with("nodens network") || line.starts_with("nodens cleanup") => Runner::Isolated,
            "nodens" if !line.starts_with("nodens serve") => Runner::Alone,
            // It takes minutes; CI does it, for the tests of containers.
            "deploy/build-image" => Runner::Cargo,
            "kubectl" if line.starts_with("kubectl apply -k ") => Runner::Rendered,
            "benches/side_by_side.py" | "benches/failures.py" => Runner::Bench,
            // Whoever has a day; the same test is a part of all others.
            "benches/soak.sh" => Runner::Cargo,
            _ => panic!("no test runs this command of README.md: {line}"),
        }
    };
    fences("sh").iter().flat_map(|f| f.lines()).map(|line| (known(line), line.to_owned())).collect()
}

/// The contents of all fences of a language.
fn fences(language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in README.lines() {
        match (line.strip_prefix("```"), open.take()) {
            (Some(info), None) => open = Some((info == language, String::new())),
            (Some(_), Some((wanted, text))) => found.extend(wanted.then_some(text)),
            (None, Some((wanted, text))) => open = Some((wanted, text + line + "\n")),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    found
}

fn of(runner: Runner) -> Vec<String> {
    let lines: Vec<String> = commands().into_iter().filter(|(r, _)| *r == runner).map(|(_, line)| line).collect();
    assert!(!lines.is_empty(), "no command for {runner:?}");
    lines
}

/// Is it for Kubernetes, and not for nodens?
fn is_manifest(text: &str) -> bool {
    text.starts_with("apiVersion:")
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_command_has_a_runner() {
    let all = [Runner::Cargo, Runner::Alone, Runner::WithDemo, Runner::Isolated, Runner::Bench, Runner::Rendered];
    for runner in all {
        of(runner);
    }
}

#[test]
fn commands_that_need_no_server_work_as_shown() {
    let directory = tempfile::tempdir().unwrap();
    let example = fences("yaml").into_iter().find(|text| !is_manifest(text)).unwrap();
    std::fs::write(directory.path().join("nodens.yaml"), example).unwrap();
    for line in of(Runner::Alone) {
        let ran = shell(&line, directory.path());
        assert!(ran.status.success(), "{line}: {}{}", stdout(&ran), stderr(&ran));
    }
    for made in ["man1/nodens.1", "nodens.bash", "nodens.schema.json"] {
        assert!(directory.path().join(made).metadata().unwrap().len() > 0, "{made}");
    }
}

#[test]
fn commands_for_the_demo_work_as_shown() {
    let demo = Demo::start();
    for line in of(Runner::WithDemo) {
        if !can_run(&line) {
            continue;
        }
        let ran = shell(&demo.aimed(&line), Path::new("/"));
        let text = stdout(&ran);
        assert!(ran.status.success() && !text.is_empty(), "{line}: {text}{}", stderr(&ran));
        if line.starts_with("dig ") {
            assert!(text.contains("status: NOERROR"), "{line}: {text}");
        }
    }
    assert_eq!(demo.terminate().code(), Some(0));
}

#[test]
fn commands_about_the_node_work_as_shown() {
    isolated("commands_about_the_node_work_as_shown", || {
        for line in of(Runner::Isolated) {
            let ran = shell(&line, Path::new("/"));
            assert!(ran.status.success(), "{line}: {}{}", stdout(&ran), stderr(&ran));
        }
    });
}

#[test]
fn manifests_that_are_applied_are_there() {
    for line in of(Runner::Rendered) {
        if can_run(&line) {
            let ran = shell(&line.replace("apply -k", "kustomize"), &root());
            assert!(ran.status.success() && stdout(&ran).contains("kind: DaemonSet"), "{line}: {}", stderr(&ran));
        }
    }
}

#[test]
fn the_services_shown_are_those_that_are_looked_for() {
    let shown = fences("yaml").into_iter().filter(|text| is_manifest(text)).collect::<String>();
    let mut names = Vec::new();
    for document in shown.split("---\n") {
        let service: serde_json::Value = yaml_serde::from_str(document).unwrap();
        assert_eq!((&service["kind"], &service["apiVersion"]), (&"Service".into(), &"v1".into()), "{document}");
        assert_eq!(service["spec"]["ports"].as_array().map(Vec::len), Some(2), "{document}");
        let [name, namespace] = ["name", "namespace"].map(|key| service["metadata"][key].as_str().unwrap());
        names.push((format!("{name}.{namespace}"), service["spec"]["clusterIP"] == "None"));
    }
    // That these are the defaults is tested elsewhere.
    let defaults = include_str!("../config/nodens.yaml");
    let [(endpoints, true), (upstream, false)] = &names[..] else { panic!("{names:?}") };
    assert!(defaults.contains(&format!("endpoints: {endpoints}.svc.cluster.local\n")), "{endpoints}");
    let variable = upstream.trim_end_matches(".kube-system").replace('-', "_").to_uppercase() + "_SERVICE_HOST";
    assert!(defaults.contains(&variable), "{variable}");
}

#[test]
fn every_metric_is_in_the_readme_and_no_other() {
    let mut folders = vec![root().join("src")];
    let mut counted = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(path).unwrap();
                counted.extend(text.split('"').filter(|word| is_metric(word)).map(str::to_owned));
            }
        }
    }
    let shown = |word: &&str| is_metric(word);
    let shown: BTreeSet<String> = README.split(is_no_name).filter(shown).map(str::to_owned).collect();
    assert!(counted.len() > 30, "{counted:?}");
    assert_eq!(shown, counted);
}

/// Is it the name of a metric that nodens has of its own, or of node-cache?
fn is_metric(word: &str) -> bool {
    let ours = ["nodens_", "coredns_"].iter().any(|prefix| word.starts_with(prefix) && word != *prefix);
    ours && !word.contains(is_no_name)
}

fn is_no_name(c: char) -> bool {
    !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[test]
fn the_scripts_that_measure_take_what_is_shown() {
    for line in of(Runner::Bench) {
        if !can_run("python3") {
            continue;
        }
        let (script, binary) = match line.contains("failures.py") {
            true => ("failures: ", "--subject"),
            false => ("side_by_side: ", "--nodens"),
        };
        let ran = shell(&format!("{line} {binary} {NODENS} --check"), &root());
        let complaint = stderr(&ran);
        if ran.status.success() {
            assert_eq!(stdout(&ran), "all that is needed is there\n");
        } else {
            // Politely: one sentence, no traceback; wrong usage would be the README's fault.
            assert!(complaint.starts_with(script) && complaint.lines().count() == 1, "{line}: {complaint}");
            skip(&format!("{}: {line}", complaint.trim_end()));
        }
    }
}
