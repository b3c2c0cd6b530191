//! The binary `streamhouse`. Everything it does is in the library beside it.

use std::process::ExitCode;

/// glibc's allocator keeps what large requests once needed; jemalloc gives it back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    streamhouse_server::cli::main()
}
