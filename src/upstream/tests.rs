//! Rows of the behaviour list, against scripted servers: real sockets on loopback, raw octets.

mod encrypted;
mod failover;
mod health;
mod hedging;
mod limits;
mod options;
mod replies;
mod support;
mod tcp;
mod udp;
