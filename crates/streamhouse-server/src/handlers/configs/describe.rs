//! DescribeConfigs v1–v4: configurations of topics and client metrics, and the settings of this agent.
//!
//! Brokers are shown what has a counterpart in Kafka (see `broker`), all of it read-only. Other kinds of
//! resources (broker loggers, groups) are refused by name. A resource named twice is described once, where Kafka
//! repeats itself; its keys are then those of both.

use std::collections::HashMap;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::model::client_metrics::Entry as ClientMetricsEntry;
use streamhouse_metadata::model::topic_config::{ENTRIES, Entry, Kind, TopicConfig};

use super::broker::{self, Setting};
use super::{BROKER, CLIENT_METRICS, Refusal, TOPIC, check_broker, client_metrics, topic, verdict};
use crate::handlers::context::RequestContext;
use crate::handlers::error_code::{self, RequestFault};
use crate::handlers::response::{EncodeError, Response};

/// Kafka's numbers of where a value comes from.
const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;
const SOURCE_CLIENT_METRICS: i8 = 7;
/// First version with types and documentation.
const TYPED: i16 = 3;

/// What of each entry is asked for.
#[derive(Clone, Copy)]
struct Wanted {
    synonyms: bool,
    documentation: bool,
    typed: bool,
}

pub async fn handle(
    context: &RequestContext,
    request: DescribeConfigsRequest,
) -> Result<Response, EncodeError> {
    let typed = context.head.version >= TYPED;
    let wanted = Wanted {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation && typed,
        typed,
    };
    let resources = together(request.resources);
    let mut results = Vec::with_capacity(resources.len());
    for resource in resources {
        let described = describe(context, &resource, wanted).await;
        let (result, configs) = match described {
            Ok(configs) => (Ok(()), configs),
            Err(refusal) => (Err(refusal), Vec::new()),
        };
        let (code, message) = verdict(context, &result);
        results.push(
            DescribeConfigsResult::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name)
                .with_configs(configs),
        );
    }
    let outcome = error_code::worst(results.iter().map(|result| result.error_code));
    let response = DescribeConfigsResponse::default().with_results(results);
    Response::encode(&context.head, &response, outcome)
}

/// Each resource once, with all keys that are asked for; no keys mean all.
fn together(resources: Vec<DescribeConfigsResource>) -> Vec<DescribeConfigsResource> {
    let mut all: Vec<DescribeConfigsResource> = Vec::with_capacity(resources.len());
    let mut at = HashMap::new();
    for resource in resources {
        let key = (resource.resource_type, resource.resource_name.clone());
        let first = *at.entry(key).or_insert(all.len());
        let Some(first) = all.get_mut(first) else {
            all.push(resource);
            continue;
        };
        match (&mut first.configuration_keys, resource.configuration_keys) {
            (Some(keys), Some(more)) if !keys.is_empty() && !more.is_empty() => keys.extend(more),
            (keys, _) => *keys = None,
        }
    }
    all
}

async fn describe(
    context: &RequestContext,
    resource: &DescribeConfigsResource,
    wanted: Wanted,
) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
    // No keys mean all.
    let keys = resource.configuration_keys.as_deref().unwrap_or_default();
    let asked = |name: &str| keys.is_empty() || keys.iter().any(|key| key.as_str() == name);
    match resource.resource_type {
        TOPIC => {
            let known = topic(context, &resource.resource_name).await?;
            let entries = ENTRIES.iter().filter(|entry| asked(entry.name));
            Ok(entries
                .map(|entry| topic_entry(context, &known.topic.config, entry, wanted))
                .collect())
        }
        BROKER => {
            check_broker(context, &resource.resource_name)?;
            // The defaults of all brokers can be changed in Kafka; here there are none.
            let shown = if resource.resource_name.is_empty() {
                Vec::new()
            } else {
                broker::settings(&context.agent)
            };
            let shown = shown.into_iter().filter(|setting| asked(setting.name));
            Ok(shown.map(|setting| broker_entry(setting, wanted)).collect())
        }
        CLIENT_METRICS => {
            let entries = client_metrics::entries(context, &resource.resource_name).await?;
            let entries = entries.into_iter().filter(|(entry, _)| asked(entry.name));
            Ok(entries
                .map(|(entry, set)| client_metrics_entry(entry, set, wanted))
                .collect())
        }
        other => Err(RequestFault::ResourceType(other).into()),
    }
}

fn text(value: impl Into<String>) -> StrBytes {
    StrBytes::from_string(value.into())
}

fn topic_entry(
    context: &RequestContext,
    config: &TopicConfig,
    entry: &'static Entry,
    wanted: Wanted,
) -> DescribeConfigsResourceResult {
    let told = context.agent.settings.message_bytes_max.to_string();
    let (default, default_source) = if entry.name == "max.message.bytes" && told != entry.default {
        (told, SOURCE_STATIC_BROKER)
    } else {
        (entry.default.to_owned(), SOURCE_DEFAULT)
    };
    let own = config.entries.get(entry.name);
    let mut synonyms = Vec::new();
    if wanted.synonyms {
        let synonym = |name: &str, value: &str, source| {
            DescribeConfigsSynonym::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
                .with_source(source)
        };
        synonyms.extend(own.map(|value| synonym(entry.name, value, SOURCE_TOPIC)));
        synonyms.push(synonym(
            &broker::default_name(entry.name),
            &default,
            default_source,
        ));
    }
    let (value, source) = match own {
        Some(value) => (value.clone(), SOURCE_TOPIC),
        None => (default, default_source),
    };
    DescribeConfigsResourceResult::default()
        .with_name(text(entry.name))
        .with_value(Some(text(value)))
        .with_config_source(source)
        .with_synonyms(synonyms)
        .with_config_type(kind(entry.kind, wanted))
        .with_documentation(wanted.documentation.then(|| text(entry.doc)))
}

fn client_metrics_entry(
    entry: &'static ClientMetricsEntry,
    set: Option<String>,
    wanted: Wanted,
) -> DescribeConfigsResourceResult {
    let source = if set.is_some() {
        SOURCE_CLIENT_METRICS
    } else {
        SOURCE_DEFAULT
    };
    DescribeConfigsResourceResult::default()
        .with_name(text(entry.name))
        .with_value(Some(text(set.unwrap_or_else(|| entry.default.to_owned()))))
        .with_config_source(source)
        .with_config_type(kind(entry.kind, wanted))
        .with_documentation(wanted.documentation.then(|| text(entry.doc)))
}

fn broker_entry(setting: Setting, wanted: Wanted) -> DescribeConfigsResourceResult {
    let value = text(setting.value);
    let synonym = DescribeConfigsSynonym::default()
        .with_name(text(setting.name))
        .with_value(Some(value.clone()))
        .with_source(SOURCE_STATIC_BROKER);
    DescribeConfigsResourceResult::default()
        .with_name(text(setting.name))
        .with_value(Some(value))
        .with_read_only(true)
        .with_config_source(SOURCE_STATIC_BROKER)
        .with_synonyms(wanted.synonyms.then_some(synonym).into_iter().collect())
        .with_config_type(kind(setting.kind, wanted))
        .with_documentation(wanted.documentation.then(|| text(setting.doc)))
}

/// Kafka's number of a type; before version 3 there is no field for it.
fn kind(kind: Kind, wanted: Wanted) -> i8 {
    if !wanted.typed {
        return 0;
    }
    match kind {
        Kind::Boolean => 1,
        Kind::Text => 2,
        Kind::Int => 3,
        Kind::Long => 5,
        Kind::Double => 6,
        Kind::List => 7,
    }
}
