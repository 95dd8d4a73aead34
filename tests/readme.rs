//! Every command that README.md shows in a `sh` fence is run, and every example file is checked.
//!
//! A command whose tool is missing on this machine is skipped with a line that says so; in CI (`CI=true`) that fails.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use support::demo::Demo;
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
    /// This file, as far as looking whether everything needed is there.
    Bench,
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
            "nodens" if !line.starts_with("nodens serve") => Runner::Alone,
            "benches/side_by_side.py" => Runner::Bench,
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

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_command_has_a_runner() {
    for runner in [Runner::Cargo, Runner::Alone, Runner::WithDemo, Runner::Bench] {
        of(runner);
    }
}

#[test]
fn commands_that_need_no_server_work_as_shown() {
    let directory = tempfile::tempdir().unwrap();
    let example = fences("yaml").concat();
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
fn the_side_by_side_script_takes_what_is_shown() {
    for line in of(Runner::Bench) {
        if !can_run("python3") {
            continue;
        }
        let ran = shell(&format!("{line} --nodens {NODENS} --check"), &root());
        let complaint = stderr(&ran);
        if ran.status.success() {
            assert_eq!(stdout(&ran), "all that is needed is there\n");
        } else {
            // Politely: one sentence, no traceback; wrong usage would be the README's fault.
            assert!(complaint.starts_with("side_by_side: ") && complaint.lines().count() == 1, "{line}: {complaint}");
            skip(&format!("{}: {line}", complaint.trim_end()));
        }
    }
}
