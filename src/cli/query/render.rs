//! An answer on paper: text like `dig`'s for people, one JSON object for machines.
//!
//! Everything a server sent is untrusted: whatever could steer a terminal is escaped before it is printed.

use super::Answer;
use super::explanation::Explanation;
use crate::cli::output::Style;
use crate::wire::question::DisplayName;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// The whole output for people: what was tried (when more than one name was), the chosen answer, its explanation.
pub fn text(answers: &[Answer], chosen: usize, style: Style) -> String {
    let mut out = String::new();
    if answers.len() > 1 {
        for answer in answers {
            let source = answer.explanation.as_ref().and_then(|e| e.source.as_deref()).unwrap_or("-");
            let question = format!("{} {}", name_text(&answer.name), type_name(answer.rtype));
            let elapsed = milliseconds(answer.exchanged.elapsed);
            let _ = writeln!(out, "tried {question}  {}  {source}  {elapsed}", rcode_name(answer.rcode()));
        }
        out.push('\n');
    }
    if let Some(answer) = answers.get(chosen) {
        one(&mut out, answer, style);
    }
    out
}

fn one(out: &mut String, answer: &Answer, style: Style) {
    let reply = &answer.exchanged.reply;
    let rcode = rcode_name(answer.rcode());
    let rcode = match answer.rcode() {
        ResponseCode::NoError => style.green(&rcode),
        ResponseCode::NXDomain => style.yellow(&rcode),
        _ => style.red(&rcode),
    };
    let question = style.bold(&format!("{} {}", name_text(&answer.name), type_name(answer.rtype)));
    let _ = writeln!(out, "{question}: {rcode}, flags {}", flags(reply).join(" "));
    let sections = [("", &reply.answers), ("authority", &reply.authorities), ("additional", &reply.additionals)];
    for (title, records) in sections.into_iter().filter(|(_, records)| !records.is_empty()) {
        out.push('\n');
        if !title.is_empty() {
            let _ = writeln!(out, "{}", style.faint(&format!("; {title}")));
        }
        for record in records {
            let _ = writeln!(out, "{}", record_line(record));
        }
    }
    if reply.answers.is_empty() && answer.rcode() == ResponseCode::NoError {
        let _ = writeln!(out, "\n{}", style.faint("; the name exists, but has no record of this type"));
    }
    out.push('\n');
    let mut line = |key: &str, value: String| {
        let _ = writeln!(out, "{} {value}", style.faint(&format!("{key:<9}")));
    };
    match &answer.explanation {
        Some(explanation) => explained(explanation, &mut line),
        None => line("source", "no explanation from this server: not nodens, or too old".to_owned()),
    }
    line("time", milliseconds(answer.exchanged.elapsed));
    let exchanged = &answer.exchanged;
    let retried = if exchanged.truncated { ", truncated over udp and asked again" } else { "" };
    line("server", format!("{} ({}{retried}), {} octets", answer.server, exchanged.transport, exchanged.octets));
}

fn explained(explanation: &Explanation, line: &mut impl FnMut(&str, String)) {
    if let Some(source) = &explanation.source {
        line("source", format!("{source}{}", meaning(source)));
    }
    if let Some(zone) = &explanation.zone {
        line("zone", zone.clone());
    }
    if let Some(age) = explanation.age {
        line("age", format!("{age} s"));
    }
    if let Some(ttl) = explanation.ttl {
        line("ttl", format!("{ttl} s left"));
    }
    match (&explanation.upstream, &explanation.protocol) {
        (Some(upstream), Some(protocol)) => line("upstream", format!("{upstream} ({protocol})")),
        (Some(upstream), None) => line("upstream", upstream.clone()),
        (None, Some(protocol)) => line("protocol", protocol.clone()),
        (None, None) => {}
    }
    for (key, value) in &explanation.other {
        line(key, value.clone());
    }
}

fn meaning(source: &str) -> &'static str {
    match source {
        "hit" => " (from the cache)",
        "negative_hit" => " (from the cache: there is no such record)",
        "miss" => " (asked the upstream just now)",
        "local" => " (made by the server itself)",
        "refused" => " (the server does not serve this question or this client)",
        "failure" => " (no upstream gave an answer)",
        _ => "",
    }
}

/// The chosen answer as one object; `tried` lists every name that was asked for, in order.
pub fn json(answers: &[Answer], chosen: usize) -> Value {
    let tried: Vec<Value> = answers
        .iter()
        .map(|a| {
            json!({
                "name": name_text(&a.name),
                "rcode": rcode_name(a.rcode()),
                "source": a.explanation.as_ref().and_then(|e| e.source.clone()),
                "microseconds": microseconds(a.exchanged.elapsed),
            })
        })
        .collect();
    let Some(answer) = answers.get(chosen) else { return json!({ "tried": tried }) };
    let reply = &answer.exchanged.reply;
    json!({
        "name": name_text(&answer.name),
        "type": type_name(answer.rtype),
        "rcode": rcode_name(answer.rcode()),
        "flags": flags(reply),
        "answers": records(&reply.answers),
        "authorities": records(&reply.authorities),
        "additionals": records(&reply.additionals),
        "explanation": answer.explanation.as_ref().map(explanation_json),
        "server": answer.server.to_string(),
        "transport": answer.exchanged.transport.to_string(),
        "truncatedOverUdp": answer.exchanged.truncated,
        "octets": answer.exchanged.octets,
        "microseconds": microseconds(answer.exchanged.elapsed),
        "tried": tried,
    })
}

fn explanation_json(e: &Explanation) -> Value {
    let other: serde_json::Map<String, Value> = e.other.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    json!({
        "source": e.source,
        "zone": e.zone,
        "ageSeconds": e.age,
        "ttlSeconds": e.ttl,
        "upstream": e.upstream,
        "protocol": e.protocol,
        "other": other,
    })
}

fn records(records: &[Record]) -> Vec<Value> {
    records
        .iter()
        .map(|r| {
            json!({
                "name": name_text(&r.name),
                "ttl": r.ttl,
                "class": r.dns_class.to_string(),
                "type": type_name(r.record_type()),
                "data": data(r),
            })
        })
        .collect()
}

fn record_line(r: &Record) -> String {
    let owner = name_text(&r.name);
    format!("{owner}\t{}\t{}\t{}\t{}", r.ttl, r.dns_class, type_name(r.record_type()), data(r))
}

/// RDATA in presentation format; of a type that is not known here, as RFC 3597 §5 has it.
fn data(r: &Record) -> String {
    match &r.data {
        RData::TXT(txt) => {
            let strings: Vec<String> = txt.txt_data.iter().map(|s| quoted(s)).collect();
            strings.join(" ")
        }
        RData::Unknown { rdata, .. } => {
            let octets = rdata.to_bytes().unwrap_or_default();
            let mut out = format!("\\# {}", octets.len());
            for (i, octet) in octets.iter().enumerate() {
                let _ = write!(out, "{}{octet:02x}", if i == 0 { " " } else { "" });
            }
            out
        }
        known => escaped(&known.to_string()),
    }
}

/// A character string as in a zone file (RFC 1035 §5.1).
fn quoted(octets: &[u8]) -> String {
    let mut out = String::from("\"");
    for &octet in octets {
        let _ = match octet {
            b'"' | b'\\' => write!(out, "\\{}", char::from(octet)),
            b' '..=b'~' => write!(out, "{}", char::from(octet)),
            _ => write!(out, "\\{octet:03}"),
        };
    }
    out.push('"');
    out
}

fn escaped(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { format!("\\u{{{:x}}}", u32::from(c)) } else { c.to_string() }).collect()
}

fn flags(reply: &Message) -> Vec<&'static str> {
    let m = &reply.metadata;
    let dnssec_ok = reply.edns.as_ref().is_some_and(|e| e.flags().dnssec_ok);
    [
        (true, "qr"),
        (m.authoritative, "aa"),
        (m.truncation, "tc"),
        (m.recursion_desired, "rd"),
        (m.recursion_available, "ra"),
        (m.authentic_data, "ad"),
        (m.checking_disabled, "cd"),
        (dnssec_ok, "do"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}

/// The mnemonic of the IANA registry, `RCODE3841` where it has none.
fn rcode_name(rcode: ResponseCode) -> String {
    let name = match rcode {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::YXDomain => "YXDOMAIN",
        ResponseCode::YXRRSet => "YXRRSET",
        ResponseCode::NXRRSet => "NXRRSET",
        ResponseCode::NotAuth => "NOTAUTH",
        ResponseCode::NotZone => "NOTZONE",
        ResponseCode::BADVERS | ResponseCode::BADSIG => "BADVERS",
        ResponseCode::BADCOOKIE => "BADCOOKIE",
        other => return format!("RCODE{}", u16::from(other)),
    };
    name.to_owned()
}

fn type_name(rtype: RecordType) -> String {
    match rtype {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    }
}

/// The name as RFC 1035 §5.1 spells it, absolute.
fn name_text(name: &Name) -> String {
    let mut wire = Vec::with_capacity(name.len() + 1);
    for label in name.iter() {
        // A label has at most 63 octets.
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
    }
    wire.push(0);
    DisplayName(&wire).to_string()
}

fn microseconds(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

fn milliseconds(elapsed: Duration) -> String {
    format!("{:.2} ms", elapsed.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests;
