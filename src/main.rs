//! Arguments to command; exit codes; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    nodens::cli::main()
}
