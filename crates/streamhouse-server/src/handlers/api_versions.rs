//! ApiVersions v0–v4: what this server speaks (KIP-35, KIP-511, KIP-584).
//!
//! A version we do not know is answered in version 0 with UNSUPPORTED_VERSION and our own range, so that
//! a newer client can step down. Finalized features are those whose code keeps their promise.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::error_code;
use super::response::{EncodeError, Response};
use super::{SERVED, Served};
use crate::listener::guard::RequestHead;
use crate::telemetry::Software;

/// First version that tells of features.
const FEATURES_FROM: i16 = 3;
/// Each with its level: `group.version` 1 is KIP-848, `transaction.version` 2 KIP-890 part 2.
const FEATURES: &[(&str, i16)] = &[("group.version", 1), ("transaction.version", 2)];

pub async fn handle(context: &RequestContext, request: ApiVersionsRequest) -> Result<Response, EncodeError> {
    let named = context.head.version < 3
        || (is_software_word(&request.client_software_name)
            && is_software_word(&request.client_software_version));
    let mut response = ApiVersionsResponse::default().with_finalized_features_epoch(-1);
    if named {
        if context.head.version >= 3 {
            let told = Software::new(&request.client_software_name, &request.client_software_version);
            *context.software.lock() = told;
        }
        response.api_keys = SERVED.iter().map(range).collect();
        if context.head.version >= FEATURES_FROM {
            response.finalized_features_epoch = 0;
            response.supported_features = FEATURES.iter().map(supported).collect();
            response.finalized_features = FEATURES.iter().map(finalized).collect();
        }
    } else {
        response.error_code = ResponseError::InvalidRequest.code();
    }
    let outcome = error_code::outcome(response.error_code);
    Response::encode(&context.head, &response, outcome)
}

fn supported((name, level): &(&'static str, i16)) -> SupportedFeatureKey {
    SupportedFeatureKey::default()
        .with_name(StrBytes::from_static_str(name))
        .with_max_version(*level)
}

fn finalized((name, level): &(&'static str, i16)) -> FinalizedFeatureKey {
    FinalizedFeatureKey::default()
        .with_name(StrBytes::from_static_str(name))
        .with_max_version_level(*level)
        .with_min_version_level(*level)
}

/// The answer to a version we do not know; see the module's head.
pub fn unsupported(correlation_id: i32) -> Result<Response, EncodeError> {
    let head = RequestHead {
        api: ApiKey::ApiVersions,
        version: 0,
        correlation_id,
        client_id: None,
    };
    let code = ResponseError::UnsupportedVersion.code();
    let ours = SERVED.iter().filter(|served| served.api == ApiKey::ApiVersions);
    let response = ApiVersionsResponse::default()
        .with_error_code(code)
        .with_api_keys(ours.map(range).collect());
    Response::encode(&head, &response, error_code::outcome(code))
}

fn range(served: &Served) -> ApiVersion {
    ApiVersion::default()
        .with_api_key(served.api as i16)
        .with_min_version(served.advertised_min)
        .with_max_version(served.max)
}

/// KIP-511: letters, digits, dots and dashes, beginning and ending with a letter or digit.
fn is_software_word(word: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    word.chars().all(inner) && edge(word.chars().next()) && edge(word.chars().last())
}
