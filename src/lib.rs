//! nodens: a NodeLocal DNS caching daemon for Kubernetes.
//!
//! # The life of a query
//!
//! 1. A thread of [`serve::udp`] wakes in `recvmmsg` with a batch of packets. For each, [`wire::query`] reads the header
//!    and walks the one question, lower-casing it on the stack. What is no plain query is answered or dropped there.
//! 2. The question is hashed once and looked up: in the worker's own list ([`cache::hot`]), then in the store that all
//!    share ([`cache::store`]: two moka caches, positive and negative, each bounded in bytes).
//!    What a zone's rules have a say in ([`resolve::Before`]: who may ask, DNS64, the order of addresses, a query log)
//!    is handed over as a miss is, and found in the store there.
//! 3. A hit is a copy: [`wire::reply`] writes the stored message into the send buffer and patches id, flags, the client's
//!    spelling, the aged TTLs and the OPT. No lock is taken that a look-up could hold, nothing is allocated, and the
//!    whole batch leaves by `sendmmsg`.
//! 4. A miss goes through a queue to the thread of all look-ups. [`resolve`] finds the zone, which may depend on the listen
//!    address that was asked (a view), has its rules judge the query, checks the budgets, and has
//!    the query join the flight that asks this question already, or starts one. A flight belongs to no client. Where an
//!    expired answer is still held, nobody waits for longer than 1.8 s, nor at all while the upstream is known to fail:
//!    the old answer goes out, and the flight goes on (`resolve`). A hit late in the life of an answer that is asked for
//!    often starts a flight that nobody waits for.
//! 5. A zone's other rules ([`resolve::Behind`]) may rewrite the question or answer it here: hosts, templates. Else
//!    [`upstream`] sends it on, without anything of the client's but the question, DO, CD and RD, and what rules add: over
//!    a TCP connection of its own while there are few, or over UDP; to another server when one fails or is slow.
//! 6. The reply must be about the question in every record ([`wire::validate`], by hickory-proto); [`cache::policy`] says
//!    whether and how long it is kept; it is stored, and everybody who waits is answered.
//!
//! Over TCP ([`serve::stream`]) the same happens on the look-up thread, many queries per connection, answered in the
//! order in which answers come.
//!
//! # Processes and threads
//!
//! `nodens serve` on a node is two processes. The [`guardian`] has the privileges: it makes interface and rules
//! ([`network`]), binds all sockets, starts the server with copies of them, asks it four times a second, and replaces it
//! when it dies or hangs. It is one thread, and reads no packet but the replies to its own questions. The server
//! ([`app::supervised`]) reads everybody's packets and may do nothing else: no capability, few system calls, no file to be
//! written but the saved cache ([`sys::confine`]). They talk over a socket pair ([`guardian::control`]). Where nothing is to be made of the
//! network there is no guardian, and one process binds its own sockets.
//!
//! Threads of the server: one per UDP worker and address, which never waits for anything but packets; one for look-ups and
//! TCP; one beside them for metrics, health, reload and the addresses of upstreams ([`app`]); one that loads and saves the
//! cache, if that is to be kept ([`cache::persist`]). One more in each process writes the log ([`observe::log`]).
//!
//! # Who may use whom
//!
//! `wire, sys, observe, config → cache, upstream → resolve → serve → admin → app → cli → main`, and beside it
//! `wire, sys, observe → network → guardian → app`: a module uses what stands to its left, and modules side by side do not
//! use each other, but for [`observe`] and [`config::limits`], which all may; [`network`] does not even use [`wire`].
//! `tests/architecture.rs` holds this against the code. Only [`sys`] contains unsafe code. Time below `app` is an
//! argument ([`sys::clock::Moment`]), but for the guardian's loop, and neither what is below `upstream` nor the guardian
//! knows tokio.

pub mod admin;
pub mod app;
pub mod cache;
pub mod cli;
pub mod config;
pub mod guardian;
pub mod network;
pub mod observe;
pub mod resolve;
pub mod serve;
pub mod sys;
pub mod upstream;
pub mod wire;
