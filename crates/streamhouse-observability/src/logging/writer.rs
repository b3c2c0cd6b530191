//! The log's way out: a bounded queue and one thread that writes.
//!
//! Whoever logs never waits: a line that finds no room is dropped and counted. The thread reports the
//! count in a line of its own as soon as it gets to write again. Lines are written whole.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

use crate::registry::Counter;

/// Lines that may wait.
pub(super) const LINES_MAX: usize = 8_192;
/// Bytes that may wait.
const QUEUED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long the end of the process waits for the last lines.
const DRAIN_MAX: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Drain(SyncSender<()>),
}

#[derive(Default)]
struct Counts {
    queued_bytes: AtomicUsize,
    dropped: AtomicU64,
}

/// Hands lines to the thread. Cloning shares the queue.
#[derive(Clone)]
pub(super) struct LineSender {
    sender: SyncSender<Message>,
    counts: Arc<Counts>,
    /// The metric of dropped lines.
    dropped: Option<Counter>,
}

impl LineSender {
    /// Starts the thread. `dropped_line` makes the line that reports a number of dropped ones.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        lines_max: usize,
        dropped_line: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::sync_channel(lines_max);
        let counts = Arc::new(Counts::default());
        let shared = counts.clone();
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || write_lines(&receiver, out, &shared, dropped_line))?;
        Ok(Self {
            sender,
            counts,
            dropped: None,
        })
    }

    /// Dropped lines show in this metric, too.
    pub(super) fn counting_dropped(self, dropped: Counter) -> Self {
        Self {
            dropped: Some(dropped),
            ..self
        }
    }

    /// Lines dropped since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Relaxed)
    }

    fn send(&self, line: &[u8]) {
        let queued = self.counts.queued_bytes.fetch_add(line.len(), Relaxed);
        let sent = queued + line.len() <= QUEUED_BYTES_MAX
            && self.sender.try_send(Message::Line(line.to_vec())).is_ok();
        if !sent {
            self.counts.queued_bytes.fetch_sub(line.len(), Relaxed);
            self.counts.dropped.fetch_add(1, Relaxed);
            if let Some(dropped) = &self.dropped {
                dropped.inc();
            }
        }
    }

    /// Waits until what was logged before is written, at most a second.
    pub(super) fn drain(&self) {
        let deadline = Instant::now() + DRAIN_MAX;
        let (done, written) = mpsc::sync_channel(1);
        let mut message = Message::Drain(done);
        loop {
            match self.sender.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => {
                    message = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(_) => return,
            }
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn write_lines(
    receiver: &Receiver<Message>,
    mut out: impl Write,
    counts: &Counts,
    dropped_line: impl Fn(u64) -> String,
) {
    let mut reported = 0;
    while let Ok(message) = receiver.recv() {
        match message {
            Message::Line(line) => {
                // There is nowhere to report that the log cannot be written.
                let _ = out.write_all(&line);
                counts.queued_bytes.fetch_sub(line.len(), Relaxed);
            }
            Message::Drain(done) => {
                let _ = out.flush();
                let _ = done.try_send(());
            }
        }
        let dropped = counts.dropped.load(Relaxed);
        if dropped > reported {
            let _ = out.write_all(dropped_line(dropped - reported).as_bytes());
            reported = dropped;
        }
    }
}

impl Write for LineSender {
    /// The formatter hands over one whole line at a time.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.send(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineSender {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Blocks in its first write until it is released.
    struct Gated {
        entered: SyncSender<()>,
        release: Receiver<()>,
        open: bool,
        written: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Gated {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.open {
                self.entered.send(()).unwrap();
                self.release.recv().unwrap();
                self.open = true;
            }
            self.written.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_blocked_output_costs_lines_that_are_counted_and_never_blocks_who_logs() {
        let (entered, has_entered) = mpsc::sync_channel(1);
        let (release, released) = mpsc::sync_channel(1);
        let written = Arc::new(Mutex::new(Vec::new()));
        let out = Gated {
            entered,
            release: released,
            open: false,
            written: written.clone(),
        };
        let mut sender = LineSender::start(out, 4, |n| format!("dropped {n}\n")).unwrap();

        sender.write_all(b"first\n").unwrap();
        has_entered.recv().unwrap();
        for n in 0..10 {
            sender.write_all(format!("line {n}\n").as_bytes()).unwrap();
        }
        assert_eq!(sender.dropped(), 6);

        release.send(()).unwrap();
        sender.drain();
        let text = String::from_utf8(written.lock().clone()).unwrap();
        assert_eq!(text, "first\ndropped 6\nline 0\nline 1\nline 2\nline 3\n");
    }

    #[test]
    fn a_line_beyond_the_byte_bound_is_dropped_and_frees_its_room() {
        let metrics = crate::Metrics::new(crate::MetricsOptions::default());
        let shown = || {
            metrics
                .render()
                .contains("\nstreamhouse_log_lines_dropped_total 1\n")
        };
        let mut sender = LineSender::start(io::sink(), 4, |n| format!("dropped {n}\n"))
            .unwrap()
            .counting_dropped(metrics.log_events.dropped.clone());
        assert!(!shown());
        sender.write_all(&vec![b'x'; QUEUED_BYTES_MAX + 1]).unwrap();
        assert_eq!(sender.dropped(), 1);
        assert!(shown());
        sender.write_all(b"small\n").unwrap();
        assert_eq!(sender.dropped(), 1);
        assert!(shown());
    }
}
