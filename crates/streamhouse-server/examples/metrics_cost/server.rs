//! The server whose latency is measured: the real program, on memory stores.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub(crate) struct Server {
    child: Child,
    pub(crate) kafka: SocketAddr,
    pub(crate) http: SocketAddr,
}

impl Server {
    pub(crate) fn start(binary: &Path) -> Self {
        let (kafka, http) = (free(), free());
        let child = Command::new(binary)
            .arg("serve")
            .args(["--kafka-listen", &kafka.to_string()])
            .args(["--http-listen", &http.to_string()])
            .args(["--object-store", "memory:", "--metadata", "memory:"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, kafka, http }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
}
