//! What the loads have in common: a server of their own, and requests as they go over the wire.

mod frame;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub(crate) use frame::framed;

/// A server's process, which ends with this. It may still be starting.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) kafka: SocketAddr,
    /// Only one of the loads asks it for anything.
    #[allow(dead_code)]
    pub(crate) http: SocketAddr,
}

impl Server {
    /// Starts `streamhouse serve` on free ports, told by `arguments` where its data goes.
    pub(crate) fn start(binary: &Path, arguments: &[&str]) -> Self {
        let (kafka, http) = (free(), free());
        let child = Command::new(binary)
            .arg("serve")
            .args(["--kafka-listen", &kafka.to_string()])
            .args(["--http-listen", &http.to_string()])
            .args(arguments)
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
