//! DescribeUserScramCredentials v0: nobody has any (KIP-554).
//!
//! There is no authentication here yet. `kafka-configs.sh --describe --entity-type users` asks for credentials
//! together with quotas, and would show neither without this answer.

use std::collections::HashSet;

use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use kafka_protocol::messages::{DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse};

use super::context::RequestContext;
use super::error_code::{self, RequestFault};
use super::response::{EncodeError, Response};

pub async fn handle(
    context: &RequestContext,
    request: DescribeUserScramCredentialsRequest,
) -> Result<Response, EncodeError> {
    // Without names everybody who has credentials is meant. A name is answered once.
    let names = request
        .users
        .unwrap_or_default()
        .into_iter()
        .map(|user| user.name);
    let mut seen = HashSet::new();
    let mut twice = HashSet::new();
    let mut results = Vec::new();
    for name in names {
        if !seen.insert(name.clone()) {
            twice.insert(name);
            continue;
        }
        results.push(DescribeUserScramCredentialsResult::default().with_user(name));
    }
    for result in &mut results {
        let fault = if twice.contains(&result.user) {
            RequestFault::UserTwice
        } else {
            RequestFault::NoCredentials(result.user.to_string())
        };
        result.error_code = error_code::request_fault(&fault).code();
        result.error_message = Some(context.explain(&fault));
    }
    let outcome = error_code::worst(results.iter().map(|result| result.error_code));
    let response = DescribeUserScramCredentialsResponse::default().with_results(results);
    Response::encode(&context.head, &response, outcome)
}
