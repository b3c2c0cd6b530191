//! One member of a classic group, as far as a group can tell: it joins, takes part in assigning, heartbeats.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ApiKey, GroupId, HeartbeatRequest, JoinGroupRequest, RequestHeader, ResponseHeader, SyncGroupRequest,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// About what Kafka's assignors write for a handful of partitions.
const METADATA_BYTES: usize = 60;
const ASSIGNMENT_BYTES: usize = 60;
/// Defaults of Kafka's consumers.
const SESSION_TIMEOUT_MS: i32 = 45_000;
const REBALANCE_TIMEOUT_MS: i32 = 300_000;

const JOIN_VERSION: i16 = 9;
const SYNC_VERSION: i16 = 5;
const HEARTBEAT_VERSION: i16 = 4;

pub(crate) struct Member {
    stream: TcpStream,
    group: GroupId,
    id: StrBytes,
    generation: i32,
    correlation: i32,
}

impl Member {
    pub(crate) async fn connect(address: SocketAddr, group: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            group: StrBytes::from_string(group.to_owned()).into(),
            id: StrBytes::new(),
            generation: -1,
            correlation: 0,
        }
    }

    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    /// Joins and syncs until a generation has been completed.
    pub(crate) async fn settle(&mut self) {
        loop {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(StrBytes::from_static_str("range"))
                .with_metadata(Bytes::from_static(&[0; METADATA_BYTES]));
            let join = JoinGroupRequest::default()
                .with_group_id(self.group.clone())
                .with_session_timeout_ms(SESSION_TIMEOUT_MS)
                .with_rebalance_timeout_ms(REBALANCE_TIMEOUT_MS)
                .with_member_id(self.id.clone())
                .with_protocol_type(StrBytes::from_static_str("consumer"))
                .with_protocols(vec![protocol]);
            let joined = self.call(JOIN_VERSION, &join).await;
            if joined.error_code == ResponseError::MemberIdRequired.code() {
                self.id = joined.member_id;
                continue;
            }
            assert_eq!(joined.error_code, 0, "JoinGroup");
            self.generation = joined.generation_id;
            // Only the leader is told who the members are.
            let assignments = joined.members.into_iter().map(|member| {
                SyncGroupRequestAssignment::default()
                    .with_member_id(member.member_id)
                    .with_assignment(Bytes::from_static(&[0; ASSIGNMENT_BYTES]))
            });
            let sync = SyncGroupRequest::default()
                .with_group_id(self.group.clone())
                .with_generation_id(self.generation)
                .with_member_id(self.id.clone())
                .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
                .with_protocol_name(Some(StrBytes::from_static_str("range")))
                .with_assignments(assignments.collect());
            let synced = self.call(SYNC_VERSION, &sync).await;
            if synced.error_code == ResponseError::RebalanceInProgress.code() {
                continue;
            }
            assert_eq!(synced.error_code, 0, "SyncGroup");
            assert_eq!(synced.assignment.len(), ASSIGNMENT_BYTES);
            return;
        }
    }

    /// False when the group rebalances.
    pub(crate) async fn heartbeat(&mut self) -> bool {
        let heartbeat = HeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        let code = self.call(HEARTBEAT_VERSION, &heartbeat).await.error_code;
        if code == ResponseError::RebalanceInProgress.code() {
            return false;
        }
        assert_eq!(code, 0, "Heartbeat");
        true
    }

    async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.correlation += 1;
        let mut frame = BytesMut::new();
        frame.put_u32(0);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("group-load")));
        let api = ApiKey::try_from(R::KEY).unwrap();
        header
            .encode(&mut frame, api.request_header_version(version))
            .unwrap();
        request.encode(&mut frame, version).unwrap();
        let length = u32::try_from(frame.len() - 4).unwrap();
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame).await.unwrap();

        let length = self.stream.read_u32().await.unwrap();
        let mut answer = vec![0; length as usize];
        self.stream.read_exact(&mut answer).await.unwrap();
        let mut answer = Bytes::from(answer);
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation);
        R::Response::decode(&mut answer, version).unwrap()
    }
}
