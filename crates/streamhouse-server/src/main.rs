//! The binary `streamhouse`. Everything it does is in the library beside it.

use std::process::ExitCode;

#[cfg(feature = "uncounted")]
compile_error!(
    "a server that counts nothing is only built to be measured against: see `cargo xtask bench-metrics`"
);

/// glibc's allocator keeps what large requests once needed; jemalloc gives it back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by jemalloc when it starts. Segments of some megabytes come and go all the time: by default such
/// large blocks go back to the kernel at once, and getting them again costs more than reading them. What is
/// free is kept for a second and not for ten, and in one arena, because what one has left over serves no other:
/// with two the peak under load is 20 to 50 MiB higher, and a small request costs 5 % less.
#[allow(unsafe_code)] // The name is the interface; nothing else in the program can have it.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_SETTINGS: &[u8] =
    b"oversize_threshold:0,narenas:1,background_thread:true,dirty_decay_ms:1000\0";

fn main() -> ExitCode {
    streamhouse_server::cli::main()
}
