//! What the loads have in common: a server of their own, and requests as they go over the wire.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};

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

/// A whole request, its length in front.
pub(crate) fn framed<R: Request>(client: &'static str, version: i16, correlation: i32, request: &R) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32(0);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str(client)));
    let api = ApiKey::try_from(R::KEY).unwrap();
    header
        .encode(&mut frame, api.request_header_version(version))
        .unwrap();
    request.encode(&mut frame, version).unwrap();
    let length = u32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}
