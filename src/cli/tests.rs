//! The grammar and the exit codes.

use super::*;
use clap::CommandFactory;

fn exit(line: &str) -> u8 {
    run(line.split(' ').map(OsString::from))
}

fn parsed(line: &str) -> Result<Command, clap::error::ErrorKind> {
    Cli::try_parse_from(line.split(' ')).map(|cli| cli.command).map_err(|e| e.kind())
}

#[test]
fn the_grammar_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn only_what_works_today_is_offered() {
    let names: Vec<String> = Cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
    assert_eq!(
        names,
        [
            "serve",
            "demo",
            "check",
            "migrate",
            "query",
            "network",
            "cleanup",
            "config",
            "node-cache",
            "completions",
            "man"
        ]
    );
}

#[test]
fn every_command_and_argument_says_what_it_is() {
    fn walk(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
        command.get_subcommands().for_each(walk);
    }
    walk(&Cli::command());
}

#[test]
fn valid_lines_are_understood() {
    for line in [
        "nodens serve",
        "nodens serve --config /etc/nodens/nodens.yaml",
        "nodens serve --listen 127.0.0.1:5300 --listen [::1]:5300 --upstream 10.96.0.10",
        "nodens serve --upstream tls://10.1.0.54:8853#dns.corp.example",
        "nodens demo",
        "nodens demo --port 5301 --metrics 127.0.0.1:9300 --health 127.0.0.1:8081",
        "nodens check --config nodens.yaml --output json",
        "nodens check /etc/coredns/Corefile",
        "nodens migrate Corefile --output json",
        "nodens query web.shop.svc.cluster.local",
        "nodens query _dns._udp.kube-dns.kube-system.svc.cluster.local srv --server 127.0.0.1:5300",
        "nodens query 10.96.0.10 --tcp --dnssec",
        "nodens query fd00::a PTR --server [::1]",
        "nodens query web TYPE64 --search --output json",
        "nodens config schema",
        "nodens completions zsh",
        "nodens man --dir pages",
    ] {
        assert!(parsed(line).is_ok(), "{line}");
    }
}

#[test]
fn invalid_lines_are_refused() {
    for line in [
        "nodens sevre",
        "nodens serve --listen localhost",
        "nodens serve extra",
        "nodens serve --upstream tls://10.1.0.54",
        "nodens demo --port 0",
        "nodens demo --metrics 9253",
        "nodens check --output yaml",
        "nodens check Corefile --config nodens.yaml",
        "nodens migrate",
        "nodens migrate Corefile Corefile.base",
        "nodens query",
        "nodens query a..b",
        "nodens query web NOTYPE",
        "nodens query web --server dns.example",
        "nodens query web --server 127.0.0.1 --config nodens.yaml",
        "nodens config",
        "nodens completions csh",
    ] {
        assert!(parsed(line).is_err(), "{line}");
        assert_eq!(exit(line), 2, "{line}");
    }
}

#[test]
fn repeated_addresses_keep_their_order_and_get_the_port() {
    let Ok(Command::Serve(args)) =
        parsed("nodens serve --listen 127.0.0.1,::2 --listen [::1]:54 --upstream 10.96.0.10")
    else {
        panic!("not understood");
    };
    let texts = |list: &[std::net::SocketAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&args.listen), ["127.0.0.1:53", "[::2]:53", "[::1]:54"]);
    assert_eq!(args.upstream, ["10.96.0.10:53"]);
}

#[test]
fn help_and_version_succeed_and_nothing_at_all_is_wrong_usage() {
    assert_eq!(exit("nodens --help"), 0);
    assert_eq!(exit("nodens query --help"), 0);
    assert_eq!(exit("nodens --version"), 0);
    assert_eq!(exit("nodens node-cache -help"), 0);
    assert_eq!(exit("nodens node-cache -version -quiet"), 0);
    assert_eq!(exit("/node-cache -plugins"), 0);
    assert_eq!(exit("nodens node-cache -localips x"), 2);
    assert_eq!(exit("node-cache swerve"), 2);
    assert_eq!(exit("nodens"), 2);
}

#[test]
fn a_file_that_cannot_be_used_is_a_failure() {
    assert_eq!(exit("nodens check --config /nonexistent/nodens.yaml"), 1);
    assert_eq!(exit("/node-cache check --config /nonexistent/nodens.yaml"), 1);
    assert_eq!(exit("nodens serve --config /nonexistent/nodens.yaml"), 1);
}
