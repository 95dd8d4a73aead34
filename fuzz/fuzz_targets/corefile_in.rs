//! A Corefile of any text: an answer in bounded time, without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use nodens::config;

fuzz_target!(|text: &str| {
    if let Err(problems) = config::read_corefile(text) {
        assert!(!problems.is_empty() && !problems.to_string().is_empty());
    }
});
