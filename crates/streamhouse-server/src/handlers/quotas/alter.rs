//! AlterClientQuotas v0–v1: byte rates of users and client ids (KIP-546).
//!
//! `producer_byte_rate` and `consumer_byte_rate` are enforced; request percentages, controller mutations and
//! quotas of addresses are refused by name. What is fetched beyond a rate is sent with the time to be
//! quiet, where Kafka sends an empty answer first.

use std::collections::HashSet;

use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::alter_client_quotas_response::{
    EntityData as AnsweredEntity, EntryData as Answer,
};
use kafka_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use streamhouse_metadata::model::quota::{QuotaChange, QuotaEntity, QuotaKey, QuotaName};

use super::{CLIENT_ID, ENTITIES_MAX, USER};
use crate::handlers::context::RequestContext;
use crate::handlers::error_code::{self, NONE, RequestFault};
use crate::handlers::response::{EncodeError, Response};

pub async fn handle(
    context: &RequestContext,
    request: AlterClientQuotasRequest,
) -> Result<Response, EncodeError> {
    let agent = &context.agent;
    let mut answers = Vec::with_capacity(request.entries.len());
    let mut seen = HashSet::new();
    for entry in request.entries {
        let result = change(&entry).and_then(|change| {
            if seen.insert(change.entity.clone()) {
                Ok(change)
            } else {
                Err(RequestFault::ResourceTwice)
            }
        });
        let (code, message) = match result {
            Err(fault) => (
                error_code::request_fault(&fault).code(),
                Some(context.explain(&fault)),
            ),
            Ok(_) if request.validate_only => (NONE, None),
            Ok(change) => {
                let altered = agent.metadata.alter_client_quotas(&[change], ENTITIES_MAX).await;
                match altered {
                    Ok(()) => (NONE, None),
                    Err(error) => (error_code::quota(&error).code(), Some(context.explain(&error))),
                }
            }
        };
        let entity = entry.entity.into_iter().map(|part| {
            AnsweredEntity::default()
                .with_entity_type(part.entity_type)
                .with_entity_name(part.entity_name)
        });
        answers.push(
            Answer::default()
                .with_error_code(code)
                .with_error_message(message)
                .with_entity(entity.collect()),
        );
    }
    agent.quotas.forget();
    let outcome = error_code::worst(answers.iter().map(|answer| answer.error_code));
    let response = AlterClientQuotasResponse::default().with_entries(answers);
    Response::encode(&context.head, &response, outcome)
}

fn change(entry: &EntryData) -> Result<QuotaChange, RequestFault> {
    Ok(QuotaChange {
        entity: entity(&entry.entity)?,
        ops: entry.ops.iter().map(operation).collect::<Result<_, _>>()?,
    })
}

fn entity(parts: &[EntityData]) -> Result<QuotaEntity, RequestFault> {
    let mut entity = QuotaEntity::default();
    for part in parts {
        let name = match &part.entity_name {
            None => QuotaName::Default,
            Some(name) => QuotaName::Named(name.to_string()),
        };
        let place = match part.entity_type.as_str() {
            USER => &mut entity.user,
            CLIENT_ID => &mut entity.client_id,
            other => return Err(RequestFault::QuotaEntity(other.to_owned())),
        };
        if place.replace(name).is_some() {
            return Err(RequestFault::QuotaFilter);
        }
    }
    if entity == QuotaEntity::default() {
        return Err(RequestFault::QuotaFilter);
    }
    Ok(entity)
}

fn operation(op: &OpData) -> Result<(QuotaKey, Option<f64>), RequestFault> {
    let key = QuotaKey::named(&op.key).ok_or_else(|| RequestFault::QuotaKey(op.key.to_string()))?;
    if op.remove {
        return Ok((key, None));
    }
    if !op.value.is_finite() || op.value < 1.0 {
        return Err(RequestFault::QuotaValue(op.key.to_string()));
    }
    Ok((key, Some(op.value)))
}
