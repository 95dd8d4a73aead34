//! One round of probes: every listen address asked over UDP and TCP, without waiting anywhere.
//!
//! Probes come from addresses that no client has: rules keep them out of the fallback's way, so that it is always our
//! own sockets that are asked. Ports are new in each round, so that the kernel spreads rounds over all UDP workers: one
//! that is stuck is found within a few rounds even if the others answer.

use crate::network::{PROBE_V4, PROBE_V6};
use crate::wire::{header, probe};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

/// Datagrams to each address and round.
const DATAGRAMS: usize = 2;

/// Most steps of a probe before others have their turn.
const STEPS: usize = 16;

/// A round under way.
pub struct Round(Vec<Probe>);

/// One question; an error of its socket ends it.
struct Probe {
    socket: Option<Socket>,
    id: u16,
    state: State,
}

/// How far a probe is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Over TCP: the connection is not there yet, and nothing is asked.
    Connecting,
    /// A reply is due.
    Asked,
    /// It came.
    Answered,
    /// It will not come.
    Failed,
}

impl Round {
    /// Asks all of `addresses`. What cannot be asked, for want of a descriptor or of the address, is not answered.
    pub fn start(addresses: &[SocketAddr]) -> Round {
        let kinds = || [Type::DGRAM; DATAGRAMS].into_iter().chain([Type::STREAM]);
        let probes = addresses.iter().flat_map(|&address| kinds().map(move |kind| Probe::start(address, kind)));
        Round(probes.collect())
    }

    /// Goes on with whatever is ready.
    pub fn advance(&mut self) {
        self.0.iter_mut().for_each(Probe::advance);
    }

    /// Has all come to an end? And if so, has all been answered?
    pub fn verdict(&self) -> Option<bool> {
        let open = self.0.iter().any(Probe::is_open);
        (!open).then(|| self.0.iter().all(|probe| probe.state == State::Answered))
    }

    /// What to wait for: descriptors, and whether for room to write.
    pub fn waits(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let open = self.0.iter().filter(|probe| probe.is_open());
        open.filter_map(|probe| Some((probe.socket.as_ref()?.as_fd(), probe.state == State::Connecting)))
    }
}

impl Probe {
    fn start(address: SocketAddr, kind: Type) -> Probe {
        let mut probe = Probe { socket: None, id: rand::random(), state: State::Connecting };
        probe.socket = connect(address, kind).ok();
        if probe.socket.is_none() {
            probe.state = State::Failed;
        }
        probe.advance();
        probe
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Connecting | State::Asked)
    }

    /// Goes on as far as that goes at once. A server that has been taken over may send without end: then it goes on later.
    fn advance(&mut self) {
        for _ in 0..STEPS {
            if !self.is_open() {
                return;
            }
            match self.step() {
                Ok(next) => self.state = next,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.state = State::Failed,
            }
        }
    }

    fn step(&mut self) -> io::Result<State> {
        let Some(socket) = &mut self.socket else { return Ok(State::Failed) };
        let datagram = socket.r#type()? == Type::DGRAM;
        let prefix = if datagram { 0 } else { 2 };
        if self.state == State::Connecting {
            // A message this short is written as a whole or not at all.
            socket.write_all(&probe::framed(self.id)[2 - prefix..])?;
            return Ok(State::Asked);
        }
        let mut head = [0; 2 + header::LEN];
        let len = socket.read(&mut head[..prefix + header::LEN])?;
        let answered = head.get(prefix..len).is_some_and(|message| probe::answers(message, self.id));
        // Over UDP something else may come first; over TCP the first octets are the reply's.
        Ok(if answered {
            State::Answered
        } else if datagram {
            State::Asked
        } else {
            State::Failed
        })
    }
}

/// A socket that is connected, or about to be.
fn connect(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let source: IpAddr = if address.is_ipv4() { PROBE_V4.into() } else { PROBE_V6.into() };
    let protocol = if kind == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(socket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    /// A UDP and a TCP socket at one address.
    fn listeners(ip: &str) -> (UdpSocket, TcpListener, SocketAddr) {
        loop {
            let tcp = TcpListener::bind((ip.parse::<IpAddr>().unwrap(), 0)).unwrap();
            let address = tcp.local_addr().unwrap();
            if let Ok(udp) = UdpSocket::bind(address) {
                return (udp, tcp, address);
            }
        }
    }

    /// Answers what a round asks over UDP.
    fn answer_udp(socket: &UdpSocket) {
        for _ in 0..DATAGRAMS {
            let mut buffer = [0; 512];
            let (len, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!(from.ip(), IpAddr::from(PROBE_V4));
            socket.send_to(b"something else", from).unwrap();
            buffer[2] |= 0x80;
            socket.send_to(&buffer[..len], from).unwrap();
        }
    }

    #[test]
    fn g13_both_transports_must_answer() {
        let (udp, tcp, address) = listeners("127.0.0.1");
        let mut round = Round::start(&[address]);
        assert_eq!(round.verdict(), None);
        answer_udp(&udp);
        round.advance();
        assert_eq!(round.verdict(), None, "TCP has not answered");
        assert_eq!(round.waits().count(), 1);
        let (mut stream, _) = tcp.accept().unwrap();
        let mut query = [0; 2 + probe::LEN];
        stream.read_exact(&mut query).unwrap();
        query[4] |= 0x80;
        stream.write_all(&query).unwrap();
        round.advance();
        assert_eq!(round.verdict(), Some(true));
    }

    #[test]
    fn g13_a_closed_port_has_failed_at_once() {
        let (udp, tcp, address) = listeners("127.0.0.1");
        drop(tcp);
        let mut round = Round::start(&[address]);
        answer_udp(&udp);
        round.advance();
        assert_eq!(round.verdict(), Some(false));
        drop(udp);
        assert_eq!(Round::start(&[address]).verdict(), Some(false));
    }

    #[test]
    fn g13_a_listener_that_closes_or_answers_something_else_fails() {
        let (udp, tcp, address) = listeners("127.0.0.1");
        let mut round = Round::start(&[address]);
        answer_udp(&udp);
        drop(tcp.accept().unwrap());
        round.advance();
        assert_eq!(round.verdict(), Some(false));
    }
}
