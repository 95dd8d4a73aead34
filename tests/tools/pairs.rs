//! A and AAAA at the very same time from one socket, which is what glibc does and what races in connection tracking:
//! both packets find no entry, both make one, and the address translation of one may clash with the other's.
//!
//! Two threads send, each on its processor, so that the packets really meet.

use crate::message::{Outcome, query, read};
use hickory_proto::rr::RecordType;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Pairs on their way at once: few enough that no socket's buffer overflows, which would be a loss of our making.
const UNDERWAY: usize = 64;

/// Arguments of `pairs`.
#[derive(clap::Args)]
pub struct Args {
    /// How many pairs.
    #[arg(long)]
    count: u32,
    /// How long an answer may take, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    timeout: u64,
    /// Who is asked.
    target: SocketAddr,
}

/// Sends all pairs and prints how many queries were lost.
pub fn run(args: &Args) {
    let any: IpAddr = if args.target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let timeout = Duration::from_millis(args.timeout);
    let begin = Instant::now();
    let (hand_over, sockets) = sync_channel::<(Arc<UdpSocket>, Instant)>(UNDERWAY);
    let collector = thread::spawn(move || collect(&sockets, timeout));
    let (to_second, seconds) = sync_channel::<Arc<UdpSocket>>(1);
    // The pair whose turn it is, set by the first thread when the second stands ready.
    let (ready, go) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let second = {
        let (ready, go) = (ready.clone(), go.clone());
        thread::spawn(move || {
            let aaaa = query(2, "pair.ask.cluster.local.", RecordType::AAAA);
            for (turn, socket) in (1..).zip(seconds) {
                ready.store(turn, Ordering::Release);
                spin_until(&go, turn);
                let _ = socket.send(&aaaa);
            }
        })
    };
    let a = query(1, "pair.ask.cluster.local.", RecordType::A);
    for turn in 1..=args.count {
        let socket = Arc::new(UdpSocket::bind((any, 0)).unwrap());
        socket.connect(args.target).unwrap();
        socket.set_read_timeout(Some(timeout)).unwrap();
        to_second.send(socket.clone()).unwrap();
        spin_until(&ready, turn);
        go.store(turn, Ordering::Release);
        let _ = socket.send(&a);
        hand_over.send((socket, Instant::now())).unwrap();
    }
    drop((to_second, hand_over));
    second.join().unwrap();
    let (lost, failed, local) = collector.join().unwrap();
    let (pairs, ms) = (args.count, begin.elapsed().as_millis());
    println!("{{\"pairs\":{pairs},\"lost\":{lost},\"failed\":{failed},\"local\":{local},\"ms\":{ms}}}");
}

fn spin_until(turn: &AtomicU32, wanted: u32) {
    let mut spins = 0u32;
    while turn.load(Ordering::Acquire) != wanted {
        spins += 1;
        // Somebody else may need the processor, such as the other thread.
        if spins.is_multiple_of(4096) { thread::yield_now() } else { std::hint::spin_loop() }
    }
}

/// Queries lost, refused, and answered by the node's cache.
fn collect(sockets: &Receiver<(Arc<UdpSocket>, Instant)>, timeout: Duration) -> (u32, u32, u32) {
    let (mut lost, mut failed, mut local) = (0, 0, 0);
    for (socket, sent) in sockets {
        let mut missing = 2;
        let mut room = [0; 4096];
        while missing > 0 && sent.elapsed() < timeout {
            match socket.recv(&mut room).ok().and_then(|length| read(&room[..length])) {
                Some((_, Outcome::Local | Outcome::Stale)) => local += 1,
                Some((_, Outcome::Backend)) => {}
                Some(_) => failed += 1,
                None => continue,
            }
            missing -= 1;
        }
        lost += missing;
    }
    (lost, failed, local)
}
