//! Whose rate applies: Kafka's order of precedence, from user and client id down to everybody.
//!
//! A default is a rate for each client that it applies to, not one that they share.

use streamhouse_metadata::model::quota::{ClientQuotas, QuotaEntity, QuotaKey, QuotaName};

/// Who shares one bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Payer {
    user: Option<String>,
    client_id: Option<String>,
}

/// The first rate that applies, and who pays for it.
pub(super) fn payer(
    quotas: &ClientQuotas,
    key: QuotaKey,
    user: &str,
    client_id: &str,
) -> Option<(Payer, f64)> {
    if quotas.is_empty() {
        return None;
    }
    let named = |name: &str| Some(QuotaName::Named(name.to_owned()));
    let default = || Some(QuotaName::Default);
    let order = [
        (named(user), named(client_id)),
        (named(user), default()),
        (named(user), None),
        (default(), named(client_id)),
        (default(), default()),
        (default(), None),
        (None, named(client_id)),
        (None, default()),
    ];
    order.into_iter().find_map(|(of_user, of_client)| {
        let payer = Payer {
            user: of_user.is_some().then(|| user.to_owned()),
            client_id: of_client.is_some().then(|| client_id.to_owned()),
        };
        let entity = QuotaEntity {
            user: of_user,
            client_id: of_client,
        };
        let rate = quotas.get(&entity)?.get(&key)?;
        Some((payer, *rate))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_most_particular_rate_applies() {
        let named = |name: &str| Some(QuotaName::Named(name.to_owned()));
        let default = Some(QuotaName::Default);
        let entities = [
            (None, default.clone()),
            (None, named("c")),
            (default.clone(), None),
            (default.clone(), default.clone()),
            (default.clone(), named("c")),
            (named("u"), None),
            (named("u"), default),
            (named("u"), named("c")),
        ];
        let mut quotas = ClientQuotas::new();
        let key = QuotaKey::ProducerByteRate;
        for (rate, (user, client_id)) in (1..).zip(entities) {
            let rates = BTreeMap::from([(key, f64::from(rate))]);
            quotas.insert(QuotaEntity { user, client_id }, rates);
            let (payer, found) = payer(&quotas, key, "u", "c").unwrap();
            assert_eq!(found, f64::from(rate), "each of these precedes those before");
            assert!(payer.client_id.is_some() || payer.user.is_some());
        }
        assert_eq!(payer(&quotas, QuotaKey::ConsumerByteRate, "u", "c"), None);
        let (everybody, rate) = payer(&quotas, key, "other", "d").unwrap();
        assert_eq!((rate, everybody.user.as_deref()), (4.0, Some("other")));
    }
}
