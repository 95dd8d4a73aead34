#!/bin/sh
# The soak of tests/soak.rs with a release build: benches/soak.sh [DURATION [RATE]], by default a day at 20,000 queries a
# second. It prints how memory, descriptors, threads and slow answers went, and fails when one of them grew.
set -eu
cd "$(dirname "$0")/.."
cargo build --release --example dns_world
export NODENS_SOAK="${1:-24h}" NODENS_SOAK_RATE="${2:-20000}"
exec cargo test --release --test soak -- --nocapture
