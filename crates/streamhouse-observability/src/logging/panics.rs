//! Panics as lines of the log: wherever one happens and whoever drops the task that it ended.

use std::panic::{self, PanicHookInfo};
use std::thread;

use super::admit;

/// From now on a panic is an ERROR in the log, and then does what it did before: the text on standard error is
/// all that is left when the log can take no more, and the backtrace is there if it is asked for
/// (`RUST_BACKTRACE`).
pub fn log_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        log(info);
        before(info);
    }));
}

fn log(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let Some(suppressed) = admit("panic", &location, "") else {
        return;
    };
    let thread = thread::current();
    let thread = thread.name().unwrap_or_default();
    let error = info.payload_as_str().unwrap_or("no text");
    tracing::error!(thread, location, error, suppressed, "a thread panicked");
}
