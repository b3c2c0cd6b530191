//! The server that is measured: a process of its own, with the kernel's account of it.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::shared;

const START_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    process: shared::Server,
    _directory: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts it with its defaults, on a local directory, and waits until it listens.
    pub(crate) fn start(binary: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let process = shared::Server::start(binary, &["--data-dir", directory.path().to_str().unwrap()]);
        let address = process.kafka;
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < START_MAX, "the server does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Self {
            process,
            _directory: directory,
            address,
        }
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.process.child.id())).unwrap()
    }

    /// Seconds of CPU time so far, its own and the kernel's for it.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = self.proc("stat");
        // The name in parentheses may hold anything; utime and stime are the 14th and 15th field.
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let ticks = rest.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        let pages = self
            .proc("statm")
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap();
        pages * rustix::param::page_size() as u64
    }
}
