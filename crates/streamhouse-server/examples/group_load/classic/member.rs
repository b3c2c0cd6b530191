//! One member of a classic group, as far as a group can tell: it joins, takes part in assigning, heartbeats.

use std::net::SocketAddr;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{GroupId, HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};
use kafka_protocol::protocol::StrBytes;

use crate::connection::Connection;

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
    connection: Connection,
    group: GroupId,
    id: StrBytes,
    generation: i32,
}

impl Member {
    pub(crate) async fn connect(address: SocketAddr, group: &str) -> Self {
        Self {
            connection: Connection::open(address).await,
            group: StrBytes::from_string(group.to_owned()).into(),
            id: StrBytes::new(),
            generation: -1,
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
            let joined = self.connection.call(JOIN_VERSION, &join).await;
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
            let synced = self.connection.call(SYNC_VERSION, &sync).await;
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
        let code = self
            .connection
            .call(HEARTBEAT_VERSION, &heartbeat)
            .await
            .error_code;
        if code == ResponseError::RebalanceInProgress.code() {
            return false;
        }
        assert_eq!(code, 0, "Heartbeat");
        true
    }
}
