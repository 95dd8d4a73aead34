//! The ConfigMap `kube-dns` as node-cache reads it: `stubDomains` and `upstreamNameservers`, each a file with JSON.
//!
//! Either all of it can be used or nothing: half a change would send names to the wrong servers. `federations` is read by
//! nobody any more. Names and servers become words of a Corefile, so that nothing else may be in them.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use crate::config::address::{Name, Target};
use crate::config::problem::quoted;
use crate::config::text::Form;

/// Most servers of a list: as many as `forward` takes.
const MOST: usize = 15;

/// What the ConfigMap says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeDns {
    /// Domains and the servers to ask about them.
    pub stub_domains: BTreeMap<String, Vec<String>>,
    /// Whom to ask about everything else; empty for the node's own servers.
    pub upstreams: Vec<String>,
}

/// Why it cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {why}")]
pub struct Invalid {
    /// The key of the ConfigMap.
    pub file: &'static str,
    /// What is wrong with it.
    pub why: String,
}

/// Reads the files of the ConfigMap by name; `content` gives nothing for one that is not there.
///
/// # Errors
/// The first thing that is wrong.
pub fn read(content: impl Fn(&str) -> Option<String>) -> Result<KubeDns, Invalid> {
    let (stubs, upstreams) = ("stubDomains", "upstreamNameservers");
    let mut found =
        KubeDns { stub_domains: parse(stubs, content(stubs))?, upstreams: parse(upstreams, content(upstreams))? };
    for (domain, servers) in &mut found.stub_domains {
        let wrong = |why: String| Invalid { file: stubs, why };
        Name::read(domain).map_err(wrong)?;
        if servers.is_empty() {
            return Err(wrong(format!("{} has no servers", quoted(domain))));
        }
        check(servers).map_err(|why| wrong(format!("of {}: {why}", quoted(domain))))?;
    }
    check(&mut found.upstreams).map_err(|why| Invalid { file: upstreams, why })?;
    Ok(found)
}

/// The JSON in a file; that of an empty one, and of one that is not there, is empty.
fn parse<T: DeserializeOwned + Default>(file: &'static str, content: Option<String>) -> Result<T, Invalid> {
    let content = content.unwrap_or_default();
    if content.trim().is_empty() {
        return Ok(T::default());
    }
    let parsed: Option<T> =
        serde_json::from_str(&content).map_err(|e| Invalid { file, why: format!("not the JSON it should be: {e}") })?;
    Ok(parsed.unwrap_or_default())
}

/// Whether `forward` will take `servers`.
fn check(servers: &mut [String]) -> Result<(), String> {
    if servers.len() > MOST {
        return Err(format!("{} servers; at most {MOST} are possible", servers.len()));
    }
    for server in servers {
        *server = server.trim().to_owned();
        // `tls://ADDRESS%NAME` and `tls://ADDRESS` are forward's way to write what a zone writes otherwise.
        let plain = match server.split_once("://") {
            None => server.as_str(),
            Some(("dns", rest)) => rest,
            Some(("tls", rest)) => rest.split_once('%').map_or(rest, |(address, _)| address),
            Some((scheme, _)) => {
                return Err(format!("{} is no server: {} is not a transport", quoted(server), quoted(scheme)));
            }
        };
        if server.contains(|c: char| c.is_whitespace() || c.is_control() || "\"#{}".contains(c)) {
            return Err(format!("{} is no server", quoted(server)));
        }
        match Target::read(plain) {
            Ok(Target::KubeDns { .. }) | Err(_) => {
                return Err(format!("{} is no server: write an address, or one with a port", quoted(server)));
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_both(stubs: &str, upstreams: &str) -> Result<KubeDns, String> {
        let content = |file: &str| match file {
            "stubDomains" => Some(stubs.to_owned()),
            "upstreamNameservers" => Some(upstreams.to_owned()),
            _ => Some("not asked for".to_owned()),
        };
        read(content).map_err(|e| e.to_string())
    }

    #[test]
    fn an_empty_folder_is_an_empty_config_map() {
        assert_eq!(read(|_| None), Ok(KubeDns::default()));
        assert_eq!(read_both(" \n", ""), Ok(KubeDns::default()));
        assert_eq!(read_both("null", "[]"), Ok(KubeDns::default()));
    }

    #[test]
    fn domains_and_servers_are_read() {
        let found = read_both(
            r#"{"widget.local": ["2.2.2.2:10053", " 3.3.3.3"], "acme.local": ["tls://9.9.9.9%dns.quad9.net", "dns://[fd00::1]:54"]}"#,
            r#"["8.8.8.8", "fd00::8", "/etc/resolv.conf", "dns.example"]"#,
        )
        .unwrap();
        let domains: Vec<_> = found.stub_domains.keys().collect();
        assert_eq!(domains, ["acme.local", "widget.local"]);
        assert_eq!(found.stub_domains["widget.local"], ["2.2.2.2:10053", "3.3.3.3"]);
        assert_eq!(found.upstreams.len(), 4);
    }

    #[test]
    fn what_cannot_be_is_refused_and_named() {
        for (stubs, upstreams, message) in [
            ("{", "", "stubDomains: not the JSON it should be: "),
            ("[]", "", "stubDomains: not the JSON it should be: "),
            ("", "{}", "upstreamNameservers: not the JSON it should be: "),
            ("", "[1]", "upstreamNameservers: not the JSON it should be: "),
            (r#"{"a b": ["1.1.1.1"]}"#, "", "stubDomains: \"a b\" is not a domain name: "),
            (r#"{"a.b": []}"#, "", "stubDomains: \"a.b\" has no servers"),
            (r#"{"a.b": ["x"] }"#, "[]", ""),
            (r#"{"a.b": ["10.0.0"]}"#, "", "stubDomains: of \"a.b\": \"10.0.0\" is no server: write an address"),
            (r#"{"a.b": ["kube-dns"]}"#, "", "stubDomains: of \"a.b\": \"kube-dns\" is no server: "),
            ("", r#"["grpc://1.1.1.1"]"#, "upstreamNameservers: \"grpc://1.1.1.1\" is no server: \"grpc\" is not"),
            ("", r##"["/a } b"]"##, "upstreamNameservers: \"/a } b\" is no server"),
            ("", r##"["/a#b"]"##, "upstreamNameservers: \"/a#b\" is no server"),
            ("", "[\"1.1.1.1:0\"]", "upstreamNameservers: \"1.1.1.1:0\" is no server: "),
        ] {
            let found = read_both(stubs, upstreams);
            match found {
                Err(found) => assert!(!message.is_empty() && found.starts_with(message), "{found}"),
                Ok(_) => assert!(message.is_empty(), "{stubs} {upstreams}"),
            }
        }
        let many: Vec<String> = (0..16).map(|n| format!("10.0.0.{n}")).collect();
        let found = read_both("", &serde_json::to_string(&many).unwrap()).unwrap_err();
        assert_eq!(found, "upstreamNameservers: 16 servers; at most 15 are possible");
    }
}
