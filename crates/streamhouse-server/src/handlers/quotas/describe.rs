//! DescribeClientQuotas v0–v1: the byte rates of users and client ids (KIP-546).
//!
//! Quotas of addresses do not exist here: asking for them finds none.

use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use kafka_protocol::protocol::StrBytes;
use streamhouse_metadata::model::quota::{QuotaEntity, QuotaName};

use super::{CLIENT_ID, USER, written};
use crate::handlers::context::RequestContext;
use crate::handlers::error_code::{self, RequestFault};
use crate::handlers::response::{EncodeError, Response};

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

/// What one part of an entity has to be.
#[derive(Clone, Debug)]
enum Wanted {
    Exactly(QuotaName),
    Any,
}

impl Wanted {
    fn fits(wanted: Option<&Self>, part: Option<&QuotaName>, strict: bool) -> bool {
        match (wanted, part) {
            (Some(Self::Exactly(name)), part) => part == Some(name),
            (Some(Self::Any), part) => part.is_some(),
            (None, part) => !strict || part.is_none(),
        }
    }
}

#[derive(Default)]
struct Filter {
    user: Option<Wanted>,
    client_id: Option<Wanted>,
    /// Of a kind that has no quotas here.
    other: bool,
}

pub async fn handle(
    context: &RequestContext,
    request: DescribeClientQuotasRequest,
) -> Result<Response, EncodeError> {
    let response = DescribeClientQuotasResponse::default();
    let response = match filter(&request.components) {
        Err(fault) => response
            .with_error_code(error_code::request_fault(&fault).code())
            .with_error_message(Some(context.explain(&fault)))
            .with_entries(None),
        Ok(filter) => match context.agent.metadata.client_quotas().await {
            Err(error) => {
                context.report(&error);
                response
                    .with_error_code(error_code::store(&error).code())
                    .with_error_message(Some(context.explain(&error)))
                    .with_entries(None)
            }
            Ok(quotas) => {
                let fits = |entity: &QuotaEntity| {
                    !filter.other
                        && Wanted::fits(filter.user.as_ref(), entity.user.as_ref(), request.strict)
                        && Wanted::fits(
                            filter.client_id.as_ref(),
                            entity.client_id.as_ref(),
                            request.strict,
                        )
                };
                let found = quotas.iter().filter(|(entity, _)| fits(entity));
                let entries = found.map(|(entity, rates)| {
                    let values = rates.iter().map(|(key, rate)| {
                        ValueData::default()
                            .with_key(StrBytes::from_static_str(key.name()))
                            .with_value(*rate)
                    });
                    EntryData::default()
                        .with_entity(parts(entity))
                        .with_values(values.collect())
                });
                response
                    .with_error_message(None)
                    .with_entries(Some(entries.collect()))
            }
        },
    };
    let outcome = error_code::outcome(response.error_code);
    Response::encode(&context.head, &response, outcome)
}

fn filter(components: &[ComponentData]) -> Result<Filter, RequestFault> {
    let mut filter = Filter::default();
    for component in components {
        let wanted = match (component.match_type, &component._match) {
            (EXACT, Some(name)) => Wanted::Exactly(QuotaName::Named(name.to_string())),
            (DEFAULT, None) => Wanted::Exactly(QuotaName::Default),
            (SPECIFIED, None) => Wanted::Any,
            _ => return Err(RequestFault::QuotaFilter),
        };
        let place = match component.entity_type.as_str() {
            USER => &mut filter.user,
            CLIENT_ID => &mut filter.client_id,
            "ip" => {
                filter.other = true;
                continue;
            }
            other => return Err(RequestFault::QuotaEntity(other.to_owned())),
        };
        if place.replace(wanted).is_some() {
            return Err(RequestFault::QuotaFilter);
        }
    }
    Ok(filter)
}

fn parts(entity: &QuotaEntity) -> Vec<EntityData> {
    let both = [(USER, &entity.user), (CLIENT_ID, &entity.client_id)];
    let set = both.into_iter().filter_map(|(kind, name)| {
        let name = name.as_ref()?;
        Some(
            EntityData::default()
                .with_entity_type(StrBytes::from_static_str(kind))
                .with_entity_name(written(name)),
        )
    });
    set.collect()
}
