//! The keys of a zone that say what is answered or altered here, without or around an upstream.
//!
//! Each file holds one key: how it is written, what it means, and what is wrong with it. What the values do is decided in
//! `resolve::local`.

pub(super) mod hosts;
pub(super) mod respond;
#[cfg(test)]
mod tests;
mod text;

pub(super) use hosts::HostName;
pub(super) use text::{Class, Pattern, Rcode, RrType};
