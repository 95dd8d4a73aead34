//! A stand-in for one kube-dns pod: authoritative for `cluster.local`, refuses all else. Also for node-cache itself, in
//! the tests of what its rules do (`--local`).

use crate::message::{explained, framed};
use crate::until_input_ends;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;

/// The headless Service that names all kube-dns pods.
const ENDPOINTS: &str = "kube-dns-endpoints.kube-system.svc.cluster.local.";

/// Arguments of `backend`.
#[derive(clap::Args, Clone)]
pub struct Args {
    /// What `who.cluster.local` TXT says.
    #[arg(long)]
    name: String,
    /// Explains answers, as a cache on the node does.
    #[arg(long)]
    local: bool,
    /// Addresses of the kube-dns pods, for the headless Service.
    #[arg(long)]
    endpoint: Vec<IpAddr>,
    /// Where it answers.
    addresses: Vec<SocketAddr>,
}

/// Binds everything, says so, and serves.
pub fn run(args: &Args) {
    let args = Arc::new(args.clone());
    for &address in &args.addresses {
        let udp = UdpSocket::bind(address).unwrap_or_else(|error| panic!("cannot bind {address} (udp): {error}"));
        let tcp = TcpListener::bind(address).unwrap_or_else(|error| panic!("cannot bind {address} (tcp): {error}"));
        let (for_udp, for_tcp) = (args.clone(), args.clone());
        thread::spawn(move || datagrams(&udp, &for_udp));
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let args = for_tcp.clone();
                thread::spawn(move || connection(stream, &args));
            }
        });
    }
    println!("serving");
    until_input_ends();
}

fn datagrams(socket: &UdpSocket, args: &Args) {
    let mut room = [0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut room) else { continue };
        if let Some(reply) = answer(&room[..length], args) {
            let _ = socket.send_to(&reply, from);
        }
    }
}

/// Serves one connection to its end.
fn connection(mut stream: TcpStream, args: &Args) -> Option<()> {
    let _ = stream.set_nodelay(true);
    loop {
        let mut length = [0; 2];
        stream.read_exact(&mut length).ok()?;
        let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut packet).ok()?;
        stream.write_all(&framed(&answer(&packet, args)?)).ok()?;
    }
}

/// The reply to `packet`; `None` when it is no query.
fn answer(packet: &[u8], args: &Args) -> Option<Vec<u8>> {
    let query = Message::from_vec(packet).ok()?;
    let question = query.queries.first()?.clone();
    let mut reply = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.authoritative = true;
    let name = question.name().clone();
    let zone = Name::from_ascii("cluster.local.").unwrap();
    if zone.zone_of(&name) {
        let data = data(&name, question.query_type(), args);
        if data.is_empty() {
            let soa =
                SOA::new(Name::from_ascii("ns.dns.cluster.local.").unwrap(), zone.clone(), 1, 7200, 1800, 86400, 5);
            reply.authorities.push(Record::from_rdata(zone, 5, RData::SOA(soa)));
        }
        reply.answers = data.into_iter().map(|data| Record::from_rdata(name.clone(), 30, data)).collect();
    } else {
        reply.metadata.response_code = ResponseCode::Refused;
    }
    reply.add_query(question);
    if query.edns.is_some() {
        reply.edns = Some(if args.local { explained(b"source=hit".to_vec()) } else { hickory_proto::op::Edns::new() });
    }
    reply.to_vec().ok()
}

/// What the zone holds; nothing for a type that a name does not have.
fn data(name: &Name, rtype: RecordType, args: &Args) -> Vec<RData> {
    let text = name.to_ascii().to_ascii_lowercase();
    if text == "who.cluster.local." {
        let who = RData::TXT(TXT::new(vec![args.name.clone()]));
        return if rtype == RecordType::TXT { vec![who] } else { Vec::new() };
    }
    let fixed = ["10.9.9.9", "fd00:9::9"].map(|ip| ip.parse().unwrap());
    let addresses = if text == ENDPOINTS { args.endpoint.as_slice() } else { &fixed };
    let of_type = |ip: &IpAddr| match (*ip, rtype) {
        (IpAddr::V4(ip), RecordType::A) => Some(RData::A(A(ip))),
        (IpAddr::V6(ip), RecordType::AAAA) => Some(RData::AAAA(AAAA(ip))),
        _ => None,
    };
    addresses.iter().filter_map(of_type).collect()
}
