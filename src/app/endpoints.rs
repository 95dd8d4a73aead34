//! Where queries go when nobody answers here: the addresses behind `network.failOpen.endpoints`, looked up and followed.
//!
//! They are asked of ourselves, so that the zone's upstreams, validation and the cache hold for them as for any client.
//! What is found is only ever replaced, never taken back: an old address that may answer beats none.

use crate::config::Endpoint;
use crate::observe::limit::RateLimit;
use crate::sys::clock::Moment;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{TokioResolver, net::NetError};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Between two look-ups.
const OFTEN: Duration = Duration::from_secs(10);
/// The same until something is found.
const EAGER: Duration = Duration::from_secs(1);
/// Look-ups without any result before anybody is told.
const PATIENCE: u32 = 10;
/// Most addresses that are used.
const MOST: usize = 32;

/// Keeps what nobody mends from filling the log.
static NOTHING: RateLimit = RateLimit::new(Duration::from_secs(600));

/// Follows `endpoint` for ever, and has `tell` told whenever its addresses are others. `own` is where we listen.
pub(super) async fn follow(
    endpoint: Endpoint,
    own: Vec<SocketAddr>,
    mut tell: impl FnMut(&[SocketAddr]) -> io::Result<()>,
) {
    let mut found = Found::default();
    let mut told = Vec::new();
    let mut in_vain = 0_u32;
    let resolver = match (&endpoint, own.first()) {
        (Endpoint::Name { .. }, Some(server)) => resolver(*server),
        _ => None,
    };
    loop {
        let port = match (&endpoint, &resolver) {
            (Endpoint::Address(address), _) => {
                found.set(address.ip());
                address.port()
            }
            (Endpoint::Name { host, port }, Some(resolver)) => {
                found.look_up(resolver, host).await;
                *port
            }
            (Endpoint::Name { .. }, None) => return tracing::error!("cannot look up where to fail over to"),
        };
        let usable = usable(&found, port, &own);
        if usable.is_empty() && told.is_empty() {
            in_vain += 1;
            if in_vain >= PATIENCE
                && let Some(suppressed) = NOTHING.allow(Moment::now())
            {
                let remedy = "create a headless Service of this name that selects the kube-dns pods, or set \
                              network.failOpen.endpoints";
                tracing::warn!(%endpoint, suppressed, remedy, "nobody to fail over to: no address is found");
            }
        } else if !usable.is_empty() && usable != told {
            // What could not be told is told next time.
            match tell(&usable) {
                Ok(()) => {
                    tracing::info!(%endpoint, addresses = ?usable, "endpoints for failing over");
                    told = usable;
                }
                Err(error) => tracing::warn!(%error, "cannot tell the guardian where to fail over to"),
            }
        }
        tokio::time::sleep(if told.is_empty() { EAGER } else { OFTEN }).await;
    }
}

/// A resolver that asks `server` alone, the names as they are.
fn resolver(server: SocketAddr) -> Option<TokioResolver> {
    let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
    name_server.connections.iter_mut().for_each(|connection| connection.port = server.port());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![name_server]);
    let mut options = ResolverOpts::default();
    options.ndots = 0;
    options.attempts = 1;
    // The cache is the one we ask.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.try_tcp_on_error = true;
    TokioResolver::builder_with_config(config, Default::default()).with_options(options).build().ok()
}

/// The addresses known last, by family.
#[derive(Debug, Default)]
struct Found {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

impl Found {
    /// One address, once and for all.
    fn set(&mut self, address: IpAddr) {
        let list = if address.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        *list = vec![address];
    }

    /// Asks for both families. One whose look-up failed keeps what it had.
    async fn look_up(&mut self, resolver: &TokioResolver, host: &str) {
        let name = format!("{host}.");
        let (v4, v6) =
            tokio::join!(addresses(resolver, name.clone(), RecordType::A), addresses(resolver, name, RecordType::AAAA));
        for (list, answer) in [(&mut self.v4, v4), (&mut self.v6, v6)] {
            match answer {
                Ok(answer) => *list = answer,
                Err(error) => tracing::debug!(host, %error, "cannot look up where to fail over to"),
            }
        }
    }
}

/// The addresses of one family that `name` has; that there are none is an answer.
async fn addresses(resolver: &TokioResolver, name: String, rtype: RecordType) -> Result<Vec<IpAddr>, NetError> {
    match resolver.lookup(name, rtype).await {
        Ok(lookup) => Ok(lookup.answers().iter().filter_map(|record| address(&record.data)).collect()),
        Err(error) if error.is_no_records_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
        _ => None,
    }
}

/// What of `found` can be sent packets to: sorted, at most [`MOST`], neither family crowding the other out.
fn usable(found: &Found, port: u16, own: &[SocketAddr]) -> Vec<SocketAddr> {
    let can_be = |ip: &IpAddr| {
        let ip = ip.to_canonical();
        let ours = own.iter().any(|own| own.ip().to_canonical() == ip);
        !(ours || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
    };
    let list = |list: &[IpAddr]| {
        let mut list: Vec<IpAddr> = list.iter().copied().filter(can_be).collect();
        list.sort();
        list.dedup();
        list
    };
    let (mut v4, mut v6) = (list(&found.v4), list(&found.v6));
    v6.truncate(MOST - v4.len().min(MOST / 2));
    v4.truncate(MOST - v6.len());
    v4.into_iter().chain(v6).map(|ip| SocketAddr::new(ip, port)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::{Record, rdata};
    use std::sync::{Arc, Mutex};
    use tokio::net::UdpSocket;
    use tokio::sync::mpsc;

    fn found(v4: &[&str], v6: &[&str]) -> Found {
        let list = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
        Found { v4: list(v4), v6: list(v6) }
    }

    fn texts(found: &Found, own: &[&str]) -> Vec<String> {
        let own: Vec<SocketAddr> = own.iter().map(|a| a.parse().unwrap()).collect();
        usable(found, 53, &own).iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn only_addresses_that_packets_can_be_sent_to_are_used_in_order() {
        let v4 = ["10.0.0.2", "127.0.0.1", "0.0.0.0", "224.0.0.251", "10.0.0.1", "10.0.0.2", "169.254.20.10"];
        let v6 = ["fd00::2", "::1", "::", "ff02::fb", "::ffff:127.0.0.1", "::ffff:169.254.20.10", "fd00::1"];
        let expected = ["10.0.0.1:53", "10.0.0.2:53", "[fd00::1]:53", "[fd00::2]:53"];
        assert_eq!(texts(&found(&v4, &v6), &["169.254.20.10:53"]), expected);
    }

    #[test]
    fn many_addresses_of_one_family_leave_room_for_the_other() {
        let v4: Vec<String> = (0..40).map(|n| format!("10.0.0.{n}")).collect();
        let v6: Vec<String> = (0..40).map(|n| format!("fd00::{n:x}")).collect();
        let (v4, v6): (Vec<&str>, Vec<&str>) =
            (v4.iter().map(String::as_str).collect(), v6.iter().map(String::as_str).collect());
        for (found, families) in [
            (found(&v4, &v6), (16, 16)),
            (found(&v4, &v6[..3]), (29, 3)),
            (found(&v4[..2], &v6), (2, 30)),
            (found(&v4, &[]), (32, 0)),
        ] {
            let used = usable(&found, 53, &[]);
            let v4 = used.iter().filter(|a| a.is_ipv4()).count();
            assert_eq!((v4, used.len() - v4), families);
        }
    }

    /// What the scripted server says of a type: addresses, or a failure.
    type Script = Arc<Mutex<(Result<Vec<IpAddr>, ResponseCode>, Result<Vec<IpAddr>, ResponseCode>)>>;

    /// A server on loopback that answers as `script` says, and shows each question's name.
    async fn server(script: Script) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (asked, names) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut room = [0; 1500];
            while let Ok((len, peer)) = socket.recv_from(&mut room).await {
                let query = Message::from_vec(&room[..len]).unwrap();
                let question = query.queries[0].clone();
                let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
                answer.metadata.recursion_available = true;
                let (v4, v6) = script.lock().unwrap().clone();
                match if question.query_type() == RecordType::A { v4 } else { v6 } {
                    Ok(list) => answer.add_answers(list.into_iter().map(|ip| {
                        let data = match ip {
                            IpAddr::V4(ip) => RData::A(rdata::A(ip)),
                            IpAddr::V6(ip) => RData::AAAA(rdata::AAAA(ip)),
                        };
                        Record::from_rdata(question.name().clone(), 5, data)
                    })),
                    Err(code) => {
                        answer.metadata.response_code = code;
                        &mut answer
                    }
                };
                let _ = asked.send(question.name().to_string());
                answer.add_query(question);
                socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        (address, names)
    }

    fn ips(list: &[&str]) -> Result<Vec<IpAddr>, ResponseCode> {
        Ok(list.iter().map(|ip| ip.parse().unwrap()).collect())
    }

    #[tokio::test]
    async fn what_is_found_is_followed_and_a_failure_takes_nothing_back() {
        let script = Script::new(Mutex::new((ips(&["10.0.0.1"]), ips(&["fd00::1"]))));
        let (server, mut names) = server(Arc::clone(&script)).await;
        let resolver = resolver(server).unwrap();
        let mut found = Found::default();
        let say = |v4, v6| *script.lock().unwrap() = (v4, v6);
        found.look_up(&resolver, "dns.example").await;
        assert_eq!(texts(&found, &[]), ["10.0.0.1:53", "[fd00::1]:53"]);
        assert_eq!(names.recv().await.unwrap(), "dns.example.", "no search path, and that at the first question");
        say(ips(&["10.0.0.3", "10.0.0.2"]), Err(ResponseCode::ServFail));
        found.look_up(&resolver, "dns.example").await;
        assert_eq!(texts(&found, &[]), ["10.0.0.2:53", "10.0.0.3:53", "[fd00::1]:53"], "the failed family stays");
        say(ips(&["10.0.0.2"]), ips(&[]));
        found.look_up(&resolver, "dns.example").await;
        assert_eq!(texts(&found, &[]), ["10.0.0.2:53"], "a family that is gone is gone");
    }

    #[tokio::test]
    async fn changes_are_told_once_and_nothing_is_never_told() {
        let script = Script::new(Mutex::new((ips(&[]), Err(ResponseCode::NXDomain))));
        let (server, mut names) = server(Arc::clone(&script)).await;
        let (send, mut told) = mpsc::unbounded_channel();
        let tell = move |addresses: &[SocketAddr]| send.send(addresses.to_vec()).map_err(io::Error::other);
        let endpoint = Endpoint::Name { host: "dns.example".to_owned(), port: 5353 };
        tokio::spawn(follow(endpoint, vec![server], tell));
        for _ in 0..4 {
            names.recv().await.unwrap();
        }
        assert!(told.try_recv().is_err());
        *script.lock().unwrap() = (ips(&["10.0.0.1"]), ips(&[]));
        assert_eq!(told.recv().await.unwrap(), ["10.0.0.1:5353".parse().unwrap()]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_told_once_without_asking_anybody_and_again_when_that_failed() {
        let (send, mut told) = mpsc::unbounded_channel();
        let mut first = true;
        let tell = move |addresses: &[SocketAddr]| {
            send.send(addresses.to_vec()).unwrap();
            if std::mem::take(&mut first) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        };
        let task = tokio::spawn(follow(Endpoint::Address("10.0.0.1:54".parse().unwrap()), Vec::new(), tell));
        let address = ["10.0.0.1:54".parse().unwrap()];
        assert_eq!(told.recv().await.unwrap(), address);
        assert_eq!(told.recv().await.unwrap(), address);
        tokio::time::sleep(OFTEN * 5).await;
        assert!(told.try_recv().is_err(), "it has not changed");
        task.abort();
    }
}
