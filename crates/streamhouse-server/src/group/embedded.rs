//! The consumer protocol, which members of classic groups embed in their requests: what they subscribe to and
//! have, and what they are assigned (KIP-429, KIP-881).
//!
//! Both messages begin with their version; a later version than we know begins with the fields that we know and
//! is read as that, as Kafka does. All of it comes from clients: what cannot be read is `None`. Topics go by
//! name here; what is made of names is the callers' to say.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition};
use kafka_protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use kafka_protocol::protocol::{Decodable, Encodable, Message, StrBytes};

use crate::listener::guard;

/// The type of a group whose members speak it.
pub const PROTOCOL_TYPE: &str = "consumer";

/// Partitions by topic.
pub type Named = Vec<(String, Vec<i32>)>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbeddedSubscription {
    pub topics: BTreeSet<String>,
    /// What the member has (from version 1).
    pub owned: Named,
    /// From version 3.
    pub rack: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbeddedAssignment {
    pub partitions: Named,
    /// The leader's assignor told the member something that only it understands.
    pub has_user_data: bool,
}

/// The version that a message says it has, bounded by the one we know.
fn version<M: Message>(message: &Bytes) -> Option<i16> {
    let said = message.clone().try_get_i16().ok()?;
    (said >= 0).then(|| said.min(M::VERSIONS.max))
}

fn decode<M: Message + Decodable>(message: &Bytes) -> Option<M> {
    let version = version::<M>(message)?;
    // Hostile counts are checked against what is there before anything is decoded.
    guard::decode_inner(&message.slice(2..), version)
}

#[must_use]
pub fn subscription(metadata: &Bytes) -> Option<EmbeddedSubscription> {
    let said: ConsumerProtocolSubscription = decode(metadata)?;
    let owned = said.owned_partitions.into_iter();
    Some(EmbeddedSubscription {
        topics: said.topics.iter().map(ToString::to_string).collect(),
        owned: owned
            .map(|topic| (topic.topic.to_string(), topic.partitions))
            .collect(),
        rack: said.rack_id.map(|rack| rack.to_string()),
    })
}

#[must_use]
pub fn assignment(bytes: &Bytes) -> Option<EmbeddedAssignment> {
    let said: ConsumerProtocolAssignment = decode(bytes)?;
    let partitions = said.assigned_partitions.into_iter();
    Some(EmbeddedAssignment {
        partitions: partitions
            .map(|topic| (topic.topic.to_string(), topic.partitions))
            .collect(),
        has_user_data: said.user_data.is_some_and(|data| !data.is_empty()),
    })
}

/// An assignment in the version in which the member subscribed with `metadata`.
#[must_use]
pub fn encode_assignment(metadata: &Bytes, partitions: Named) -> Bytes {
    let version = version::<ConsumerProtocolAssignment>(metadata).unwrap_or(0);
    let partitions = partitions.into_iter().map(|(topic, partitions)| {
        TopicPartition::default()
            .with_topic(TopicName(StrBytes::from_string(topic)))
            .with_partitions(partitions)
    });
    let message = ConsumerProtocolAssignment::default().with_assigned_partitions(partitions.collect());
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    match message.encode(&mut bytes, version) {
        Ok(()) => bytes.freeze(),
        // Into memory, of a version that we know; and nothing is what a member may always have.
        Err(_) => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Java's consumer writes it in version 3: topics t and u, owns t-0 and t-2, generation 7, rack r.
    const SUBSCRIPTION: &[u8] = b"\0\x03\0\0\0\x02\0\x01t\0\x01u\xff\xff\xff\xff\0\0\0\x01\0\x01t\0\0\0\x02\
        \0\0\0\0\0\0\0\x02\0\0\0\x07\0\x01r";

    #[test]
    fn subscriptions_of_every_version_are_read_as_far_as_it_goes() {
        let all = subscription(&Bytes::from_static(SUBSCRIPTION)).unwrap();
        assert_eq!(all.topics, ["t".to_owned(), "u".to_owned()].into());
        assert_eq!(
            (all.owned, all.rack),
            (vec![("t".to_owned(), vec![0, 2])], Some("r".to_owned()))
        );
        let mut later = SUBSCRIPTION.to_vec();
        later[1] = 9;
        later.extend(b"what came later");
        assert_eq!(
            subscription(&Bytes::from(later)).unwrap().rack,
            Some("r".to_owned())
        );
        let first = Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff");
        let first = subscription(&first).unwrap();
        assert_eq!((first.topics.len(), first.owned.len()), (1, 0));
    }

    #[test]
    fn what_is_no_subscription_is_none() {
        for cut in 0..SUBSCRIPTION.len() {
            let cut = Bytes::from_static(&SUBSCRIPTION[..cut]);
            assert_eq!(subscription(&cut), None, "{cut:?}");
        }
        let many = Bytes::from_static(b"\0\x01\x7f\xff\xff\xff\0\x01t");
        assert_eq!(subscription(&many), None);
        assert_eq!(
            subscription(&Bytes::from_static(b"\xff\xff\0\0\0\0\xff\xff\xff\xff")),
            None
        );
    }

    #[test]
    fn an_assignment_comes_back_as_it_was_given_in_the_member_s_version() {
        let given = vec![("t".to_owned(), vec![1, 3]), ("u".to_owned(), vec![0])];
        let bytes = encode_assignment(&Bytes::from_static(SUBSCRIPTION), given.clone());
        assert_eq!(bytes[..2], [0, 3]);
        let read = assignment(&bytes).unwrap();
        assert_eq!((read.partitions, read.has_user_data), (given, false));
        let custom = Bytes::from_static(b"\0\x01\0\0\0\0\0\0\0\x01x");
        assert!(assignment(&custom).unwrap().has_user_data);
        assert_eq!(assignment(&Bytes::from_static(b"A")), None);
    }
}
