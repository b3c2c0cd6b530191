//! DescribeCluster v0–v2: the agents and the cluster's id (KIP-700).
//!
//! There are no controllers to be described (KIP-919): asking for their endpoints is refused as a broker
//! of Kafka refuses it. No agent is ever fenced and listed at the same time (KIP-1073).

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::error_code::{self, RequestFault};
use super::metadata::{CLUSTER_OPERATIONS, NOT_ASKED};
use super::response::{EncodeError, Response};

const BROKERS: i8 = 1;

pub async fn handle(
    context: &RequestContext,
    request: DescribeClusterRequest,
) -> Result<Response, EncodeError> {
    let node = &context.agent.node;
    let mut response = DescribeClusterResponse::default()
        .with_cluster_id(StrBytes::from_string(node.cluster_id.clone()))
        .with_controller_id(BrokerId(-1))
        .with_cluster_authorized_operations(NOT_ASKED);
    if context.head.version >= 1 && request.endpoint_type != BROKERS {
        let fault = RequestFault::EndpointType(request.endpoint_type);
        response.error_code = error_code::request_fault(&fault).code();
        response.error_message = Some(context.explain(&fault));
    } else {
        let broker = DescribeClusterBroker::default()
            .with_broker_id(BrokerId(node.id))
            .with_host(StrBytes::from_string(node.address.host.clone()))
            .with_port(i32::from(node.address.port));
        response.brokers = vec![broker];
        response.controller_id = BrokerId(node.id);
        if request.include_cluster_authorized_operations {
            response.cluster_authorized_operations = CLUSTER_OPERATIONS;
        }
    }
    let outcome = error_code::outcome(response.error_code);
    Response::encode(&context.head, &response, outcome)
}
