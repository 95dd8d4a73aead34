//! A configuration file of any octets: an answer in bounded time, without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nodens::config;

fuzz_target!(|bytes: &[u8]| {
    let overrides = config::Overrides::default();
    if let Err(problems) = config::load_bytes("fuzz", bytes, &overrides) {
        assert!(!problems.is_empty() && !problems.to_string().is_empty());
    }
});
