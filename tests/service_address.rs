//! `kube-dns` among the listen addresses: the address of that Service, as Kubernetes tells it to pods of its namespace.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Output, Stdio};
use support::process::{NODENS, stderr, stdout};
use support::server::{Server, forward};
use support::upstream::Upstream;
use support::{addresses, ask_udp, free_port, query};

/// Where Kubernetes puts it.
const VARIABLE: &str = "KUBE_DNS_SERVICE_HOST";

/// Runs nodens over a file with `text`, where the variable is `value`.
fn run(arguments: &[&str], text: &str, value: Option<&str>) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nodens.yaml");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(NODENS);
    command.args(arguments).arg("--config").arg(&file).env_remove(VARIABLE).stdin(Stdio::null());
    value.map(|value| command.env(VARIABLE, value));
    command.output().unwrap()
}

#[test]
fn nodens_answers_where_the_service_is() {
    let upstream = Upstream::start(|q| addresses(&q.message(), 1, 300).into());
    // The harness writes the first address; the Service's is put beside it.
    let [dns, metrics, health] = [(); 3].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
    let service = Ipv4Addr::new(127, 0, 0, 53);
    let with_service = |server: &Server| {
        let whole = std::fs::read_to_string(server.config_path()).unwrap();
        whole.replace("addresses: [127.0.0.1]", "addresses: [127.0.0.1, kube-dns]")
    };
    let mut server = Server::launch_at([dns, metrics, health], &forward(upstream.address()), &|command| {
        command.env_remove(VARIABLE);
    });
    server.until("it is ready", |server| server.is_ready());
    // What could not be started again is not taken over either.
    std::fs::write(server.config_path(), with_service(&server)).unwrap();
    server.until_logged("listen.addresses names kube-dns, but KUBE_DNS_SERVICE_HOST is not set");
    server.until_logged("the old configuration stays");
    let whole = with_service(&server);
    drop(server);

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nodens.yaml");
    std::fs::write(&file, whole).unwrap();
    let mut command = Command::new(NODENS);
    command.args(["serve", "--config"]).arg(&file).env(VARIABLE, service.to_string());
    let mut server = Server::run(command, folder, [dns, metrics, health], &|_| {});
    server.until("it is ready", |server| server.is_ready());
    for ip in [Ipv4Addr::LOCALHOST, service] {
        let asked = query("web.example.", RecordType::A).to_vec().unwrap();
        let answer = Message::from_vec(&ask_udp((ip, dns.port()).into(), &asked)).unwrap();
        assert_eq!(answer.answers.len(), 1, "{ip}");
    }
}

#[test]
fn where_the_service_is_unknown_a_file_can_be_checked_but_not_served() {
    let text = "listen: { addresses: [169.254.20.10, kube-dns] }\nnetwork: { interface: { manage: false }, firewall: none }\n\
                zones: [{ match: [.], listen: [kube-dns], forward: { to: [192.0.2.1] } }, \
                { match: [.], listen: [169.254.20.10], forward: { to: [192.0.2.1] } }]\n";
    let checked = run(&["check"], text, None);
    assert_eq!(checked.status.code(), Some(0), "{}", stdout(&checked));
    let expected = "nodens.yaml:1:38: warning: listen.addresses[1]: KUBE_DNS_SERVICE_HOST is not set: here 192.0.2.53 stands for \
                    it; a pod in the namespace of the Service kube-dns has it\n";
    assert!(stdout(&checked).contains(expected), "{}", stdout(&checked));
    let served = run(&["serve"], text, None);
    assert_eq!(served.status.code(), Some(1));
    assert!(stderr(&served).contains("listen.addresses names kube-dns, but KUBE_DNS_SERVICE_HOST is not set"));

    let checked = run(&["check"], text, Some("10.96.0.10"));
    assert!(!stdout(&checked).contains("warning"), "{}", stdout(&checked));
    for (value, why) in [
        ("dns.example", "listen.addresses[1]: KUBE_DNS_SERVICE_HOST is \"dns.example\", not an IP address"),
        ("169.254.20.10", "is listed twice"),
    ] {
        let checked = run(&["check"], text, Some(value));
        assert_eq!(checked.status.code(), Some(1));
        assert!(stdout(&checked).contains(why), "{value}: {}", stdout(&checked));
    }
    let misspelt = run(&["check"], "listen: { addresses: [kubedns] }", None);
    assert!(stdout(&misspelt).contains("\"kubedns\" is not an IP address"), "{}", stdout(&misspelt));
    assert!(stdout(&misspelt).contains("or kube-dns"), "{}", stdout(&misspelt));
}
