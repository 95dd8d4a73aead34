//! Arguments to command; exit codes; nothing else.

fn main() {}
