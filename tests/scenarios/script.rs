//! The scripted upstream: gives the answers of the scenario, counts the questions, and looks at each of them.

use super::file::{Answer, Fails, Flag};
use super::text::{Span, absolute, type_name};
use hickory_proto::op::{Edns, Message, MessageType, OpCode};
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use nodens::upstream::{Condition, Error, Exchange, Exchanged, Query, Reply, Transport};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use tokio::time::Instant;

/// Its address.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), 53);

/// The upstream: what it says, and what it was asked.
pub struct Script {
    answers: BTreeMap<String, Vec<Answer>>,
    /// How often each question came.
    pub asked: Mutex<HashMap<String, usize>>,
    /// How often each list of answers was used.
    used: Mutex<HashMap<String, usize>>,
    /// What was wrong with the queries that came.
    pub wrong: Mutex<Vec<String>>,
    /// How its servers are said to be.
    pub condition: Mutex<Condition>,
}

impl Script {
    /// Nobody has asked yet.
    pub fn new(answers: BTreeMap<String, Vec<Answer>>) -> Script {
        let condition = Mutex::new(Condition::Well);
        Script { answers, asked: Mutex::default(), used: Mutex::default(), wrong: Mutex::default(), condition }
    }

    /// The next answer to a query, by name, type, DO and CD.
    fn next(&self, query: &[u8]) -> Result<(Message, Answer), String> {
        let message = Message::from_vec(query).map_err(|e| format!("the upstream cannot read its query: {e}"))?;
        let [question] = &message.queries[..] else { return Err("not one question went upstream".into()) };
        let Some(edns) = &message.edns else { return Err("a query without OPT went upstream".into()) };
        let name = question.name().to_ascii();
        let qtype = type_name(question.query_type());
        let plain = format!("{name} {qtype}");
        // A client's own matters stay with us: case, ECS, cookies, records of any section. AD is asked for whoever asks.
        let meta = &message.metadata;
        let records = message.answers.len() + message.authorities.len() + message.additionals.len();
        if name != name.to_ascii_lowercase()
            || !meta.authentic_data
            || records > 0
            || !edns.options().as_ref().is_empty()
        {
            return Err(format!("the query for {plain} tells the upstream of its client: {message}"));
        }
        let (dnssec, cd) = (edns.flags().dnssec_ok, meta.checking_disabled);
        let flag = |set: bool, word: &'static str| if set { word } else { "" };
        let norec = !meta.recursion_desired;
        let flags = [flag(dnssec, " +dnssec"), flag(cd, " +cd"), flag(norec, " +norec")].concat();
        let any = name.split_once('.').map(|(_, rest)| format!("*.{rest} {qtype}"));
        let keys = [Some(format!("{plain}{flags}")), Some(plain.clone()), any];
        let Some((key, answers)) = keys.iter().flatten().find_map(|key| self.answers.get_key_value(key)) else {
            return Err(format!("{plain}{flags} was asked, and the scenario does not say what the upstream answers"));
        };
        *self.asked.lock().unwrap().entry(plain.clone()).or_default() += 1;
        let mut used = self.used.lock().unwrap();
        let n = used.entry(key.clone()).or_default();
        *n += 1;
        let answer = answers.get(*n - 1).or(answers.last()).cloned();
        Ok((message, answer.ok_or_else(|| format!("{plain}: an empty list of answers"))?))
    }
}

/// An upstream's reply to `query`, as it comes over the wire.
fn answer_bytes(query: &Message, answer: &Answer) -> Vec<u8> {
    let mut message = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    let mut meta = message.metadata;
    meta.recursion_desired = query.metadata.recursion_desired;
    meta.recursion_available = true;
    meta.response_code = answer.rcode.unwrap_or_default().0.into();
    meta.authoritative = answer.flags.contains(&Flag::Aa);
    meta.truncation = answer.flags.contains(&Flag::Tc);
    meta.authentic_data = answer.flags.contains(&Flag::Ad);
    message.metadata = meta;
    let mut question = query.queries[0].clone();
    if let Some(spelled) = &answer.spelled {
        question.set_name(absolute(spelled).unwrap());
    }
    let name = question.name().clone();
    message.add_query(question);
    let mut edns = None;
    if !answer.noedns {
        // Its own matters: none of these may reach a client.
        let opt = edns.insert(Edns::new());
        opt.set_max_payload(4096).set_rcode_high(meta.response_code.high());
        opt.options_mut().insert(EdnsOption::Unknown(10, vec![7; 16]));
        if let Some(code) = answer.ede {
            opt.options_mut().insert(EdnsOption::Unknown(15, code.to_be_bytes().to_vec()));
        }
    }
    let opt: Vec<Record> = edns.iter().map(Record::from).collect();
    let sections = [&answer.answer.0, &answer.authority.0, &[answer.additional.0.as_slice(), &opt].concat()];
    // hickory-proto compresses no more than 120 names; four thousand records fit into a message only if all are.
    let mut bytes = message.to_vec().unwrap();
    for (section, at) in sections.into_iter().zip([6, 8, 10]) {
        bytes[at..at + 2].copy_from_slice(&u16::try_from(section.len()).unwrap().to_be_bytes());
        for record in section {
            let mut encoded = Vec::new();
            let mut encoder = BinEncoder::new(&mut encoded);
            encoder.set_name_encoding(NameEncoding::Uncompressed);
            record.emit(&mut encoder).unwrap();
            if record.name == name {
                bytes.extend([0xc0, 12]);
                encoded.drain(..name.to_bytes().unwrap().len());
            }
            bytes.extend(encoded);
        }
    }
    bytes
}

impl Exchange for Script {
    fn condition(&self) -> Condition {
        *self.condition.lock().unwrap()
    }

    fn exchange<'a>(&'a self, query: Query<'a>, deadline: Instant) -> Exchanged<'a> {
        Box::pin(async move {
            let start = Instant::now();
            let (message, answer) = match self.next(query.message) {
                Ok(next) => next,
                Err(wrong) => {
                    self.wrong.lock().unwrap().push(wrong);
                    return Err(Error::NoServers);
                }
            };
            if let Some(Span(after)) = answer.after {
                tokio::time::sleep(after).await;
            }
            match answer.fails {
                Some(Fails::Hangs) => std::future::pending().await,
                Some(Fails::Timeout) => {
                    tokio::time::sleep_until(deadline).await;
                    Err(Error::Timeout { server: SERVER, after: deadline - start })
                }
                Some(Fails::Unreachable) => {
                    let source = Arc::new(io::Error::from(io::ErrorKind::ConnectionRefused));
                    Err(Error::Unreachable { server: SERVER, source })
                }
                None => Ok(Reply {
                    message: answer_bytes(&message, &answer),
                    server: SERVER.into(),
                    transport: if answer.udp { Transport::Udp } else { Transport::Tcp },
                    elapsed: start.elapsed(),
                }),
            }
        })
    }
}
