//! `nodens query`: ask one server one question and say where the answer came from.
//!
//! Not a resolver: what is asked goes to one server as typed (or, with `--search`, as a pod would try it), over
//! plain UDP or TCP. The explanation travels in a private EDNS option, see [`explanation`].

pub mod exchange;
pub mod explanation;
pub mod render;
pub mod search;

use super::output::{self, Format, Style};
use super::{Error as CliError, Outcome, address};
use crate::config;
use exchange::Exchanged;
use explanation::Explanation;
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RecordType};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The UDP payload size that is offered (what fits an unfragmented IPv6 packet, as DNS Flag Day 2020 settled).
const PAYLOAD: u16 = 1232;

/// Arguments of `query`.
#[derive(Debug, clap::Args)]
#[command(after_help = "An IP address as NAME asks for its PTR record.\n\n\
    Exit codes: 0 the server gave an answer (NOERROR or NXDOMAIN), 1 it did not (any other RCODE, no reply), \
    2 wrong usage.")]
pub struct Args {
    /// The name, taken as it is (a trailing dot changes nothing, except with --search); or an IP address.
    #[arg(value_parser = name_or_address)]
    pub name: Name,
    /// The record type: a mnemonic or TYPEnnn (default: A; PTR for an IP address).
    #[arg(value_name = "TYPE", value_parser = record_type)]
    pub rtype: Option<RecordType>,
    /// Ask this server (default: the first listen address of the configuration).
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = address::parse)]
    pub server: Option<SocketAddr>,
    /// Configuration file to take the server from (default: as for `serve`).
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    pub config: Option<PathBuf>,
    /// Ask over TCP at once.
    #[arg(long)]
    pub tcp: bool,
    /// Ask for DNSSEC records too (the DO bit).
    #[arg(long)]
    pub dnssec: bool,
    /// Try the names that the search list and ndots of /etc/resolv.conf lead to, as a pod does.
    #[arg(long)]
    pub search: bool,
    /// Text for people or JSON for machines.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
}

/// Why there is no answer to show.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No usable reply from the server.
    #[error(transparent)]
    Exchange(#[from] exchange::Error),
    /// The search list cannot be read.
    #[error(transparent)]
    Search(#[from] search::Error),
    /// The query cannot be put on the wire.
    #[error("cannot encode the query for {name}: {error}")]
    Encode {
        /// The name asked for.
        name: String,
        /// What the encoder said.
        error: hickory_proto::ProtoError,
    },
    /// The configuration names no address to ask.
    #[error("the configuration has no listen address; say whom to ask with --server")]
    NoServer,
    /// No runtime.
    #[error("cannot start a runtime: {0}")]
    Runtime(std::io::Error),
}

/// One question, the reply to it, and what the server says about that.
#[derive(Debug)]
pub struct Answer {
    /// The name asked for.
    pub name: Name,
    /// The type asked for.
    pub rtype: RecordType,
    /// Who was asked.
    pub server: SocketAddr,
    /// The reply and how it travelled.
    pub exchanged: Exchanged,
    /// `None` when the server gave none.
    pub explanation: Option<Explanation>,
}

impl Answer {
    fn rcode(&self) -> ResponseCode {
        self.exchanged.reply.metadata.response_code
    }

    /// NOERROR and NXDOMAIN are answers; everything else is the absence of one.
    fn is_answer(&self) -> bool {
        matches!(self.rcode(), ResponseCode::NoError | ResponseCode::NXDomain)
    }

    fn has_records(&self) -> bool {
        self.rcode() == ResponseCode::NoError && !self.exchanged.reply.answers.is_empty()
    }
}

/// Asks and prints.
pub fn run(args: Args) -> Result<Outcome, CliError> {
    let server = match args.server {
        Some(server) => server,
        None => default_server(args.config.as_deref())?,
    };
    let names = if args.search {
        search::candidates(&args.name, &search::List::of_this_host().map_err(Error::from)?)
    } else {
        vec![args.name.clone()]
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Runtime)?;
    let answers = runtime.block_on(ask_all(&args, server, names))?;
    let chosen = choose(&answers);
    match args.output {
        Format::Text => output::print(&render::text(&answers, chosen, Style::of_stdout()))?,
        Format::Json => output::print_json(&render::json(&answers, chosen))?,
    }
    let answered = answers.get(chosen).is_some_and(Answer::is_answer);
    Ok(if answered { Outcome::Success } else { Outcome::Failure })
}

/// Asks for one name after the other until one has records.
async fn ask_all(args: &Args, server: SocketAddr, names: Vec<Name>) -> Result<Vec<Answer>, Error> {
    let rtype = args.rtype.unwrap_or(if is_reverse(&args.name) { RecordType::PTR } else { RecordType::A });
    let mut answers = Vec::new();
    for name in names {
        let query = question(&name, rtype, args.dnssec)
            .to_vec()
            .map_err(|error| Error::Encode { name: name.to_ascii(), error })?;
        let exchanged = exchange::ask(server, &query, args.tcp).await?;
        let explanation = Explanation::of(&exchanged.reply);
        let answer = Answer { name, rtype, server, exchanged, explanation };
        let done = answer.has_records();
        answers.push(answer);
        if done {
            break;
        }
    }
    Ok(answers)
}

/// Which answer a stub resolver would hand to its caller: the one with records (the last asked for, if there is one),
/// else the first that says the name exists, else the last.
fn choose(answers: &[Answer]) -> usize {
    let last = answers.len().saturating_sub(1);
    if answers.last().is_some_and(Answer::has_records) {
        return last;
    }
    answers.iter().position(|a| a.rcode() == ResponseCode::NoError).unwrap_or(last)
}

fn question(name: &Name, rtype: RecordType, dnssec: bool) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    edns.set_dnssec_ok(dnssec);
    edns.options_mut().insert(EdnsOption::Unknown(explanation::OPTION_CODE, Vec::new()));
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name.clone(), rtype));
    message.edns = Some(edns);
    message
}

/// Where the daemon on this host listens, by its configuration.
fn default_server(path: Option<&Path>) -> Result<SocketAddr, CliError> {
    let loaded = config::load(path, &config::Overrides::default())?;
    let listen = loaded.config.listen;
    let first = listen.addresses.first().copied();
    first.ok_or(CliError::Query(Error::NoServer))
}

fn name_or_address(text: &str) -> Result<Name, String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Name::from(ip));
    }
    // What was typed decides whether `--search` applies: the name keeps whether it ended in a dot.
    match text {
        "" => Err("a name is needed; the root is \".\"".to_owned()),
        "." => Ok(Name::root()),
        _ => Name::from_ascii(text).map_err(|e| format!("not a domain name: {e}")),
    }
}

fn is_reverse(name: &Name) -> bool {
    let text = name.to_ascii().to_ascii_lowercase();
    let text = text.trim_end_matches('.');
    let count = |suffix: &str| text.strip_suffix(suffix).map(|labels| labels.split('.').count());
    count(".in-addr.arpa") == Some(4) || count(".ip6.arpa") == Some(32)
}

fn record_type(text: &str) -> Result<RecordType, String> {
    let upper = text.to_ascii_uppercase();
    if let Some(number) = upper.strip_prefix("TYPE").and_then(|digits| digits.parse::<u16>().ok()) {
        return Ok(RecordType::from(number));
    }
    RecordType::from_str(&upper).map_err(|_| "expected a type such as A, AAAA, SRV, PTR, or TYPE64".to_owned())
}

#[cfg(test)]
mod tests;
