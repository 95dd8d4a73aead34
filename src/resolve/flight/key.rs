//! Under what a flight stands in the table.

use crate::cache::Flags;
use std::sync::Arc;

/// Question, flags, RD, view, generation: what two misses must share to share a flight.
pub(super) fn key(question: &[u8], flags: Flags, recursion: bool, generation: u64) -> Arc<[u8]> {
    let bits = u8::from(flags.dnssec_ok()) | u8::from(flags.checking_disabled()) << 1 | u8::from(recursion) << 2;
    [question, &[bits, flags.view()], &generation.to_be_bytes()].concat().into()
}

/// A key's part that outlives a flush.
pub(in crate::resolve) fn without_generation(key: &[u8]) -> &[u8] {
    key.get(..key.len().saturating_sub(8)).unwrap_or_default()
}
