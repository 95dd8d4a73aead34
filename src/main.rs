//! Arguments to command; exit codes; the allocator; nothing else.

use std::process::ExitCode;

/// Entries are allocated by one thread and freed by another, all day long: glibc's arenas grow to more than twice what
/// mimalloc takes for the same cache, and cost more time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    nodens::cli::main()
}
