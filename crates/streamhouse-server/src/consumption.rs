//! What a commit of offsets says was consumed.
//!
//! A group's offset that moved forward counts by how far it moved. Its first commit in a partition counts from
//! where that client was first given what it fetched, not from where it was refused: a client is its id and its
//! address, without the port, because consumers fetch and commit over different connections. Each connection
//! tells once per partition, so a client that comes back begins anew. A client that nobody saw, such as a tool
//! that sets offsets, counts nothing. What is remembered is bounded; the clients that began longest ago go first.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use streamhouse_metadata::ids::{IdMap, IdSet, TopicPartition};
use streamhouse_observability::Metrics;

/// Partitions of all clients whose start is remembered, and of one connection.
const STARTS_MAX: usize = 200_000;
const STARTS_OF_CONNECTION_MAX: usize = 20_000;

/// Who fetches and commits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    pub id: String,
    pub address: IpAddr,
}

/// The partitions that a connection has begun to fetch.
pub type Fetching = Arc<Mutex<IdSet<TopicPartition>>>;

#[derive(Debug, Default)]
struct Starts {
    clients: HashMap<Client, IdMap<TopicPartition, i64>>,
    /// Oldest first; a client is named once.
    order: VecDeque<Client>,
    total: usize,
}

impl Starts {
    fn put(&mut self, client: &Client, partition: TopicPartition, offset: i64) {
        if !self.clients.contains_key(client) {
            self.order.push_back(client.clone());
        }
        let starts = self.clients.entry(client.clone()).or_default();
        if starts.insert(partition, offset).is_none() {
            self.total += 1;
        }
        while self.total > STARTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.total -= self.clients.remove(&oldest).map_or(0, |starts| starts.len());
        }
    }

    fn get(&self, client: &Client, partition: &TopicPartition) -> Option<i64> {
        self.clients.get(client)?.get(partition).copied()
    }
}

/// See the module's head. Shared by all connections.
pub struct Consumption {
    metrics: Arc<Metrics>,
    starts: Mutex<Starts>,
}

impl Consumption {
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            starts: Mutex::default(),
        }
    }

    /// A connection of this client has fetched from these places, and is about to be told so.
    pub fn fetching(
        &self,
        client: impl FnOnce() -> Client,
        connection: &Fetching,
        places: impl Iterator<Item = (TopicPartition, i64)>,
    ) {
        let mut seen = connection.lock();
        let mut places = places.filter(|(partition, _)| {
            seen.len() < STARTS_OF_CONNECTION_MAX && !seen.contains(partition) && seen.insert(*partition)
        });
        // Mostly there is none: then the client's name is not even copied.
        let Some(first) = places.next() else { return };
        let client = client();
        let mut starts = self.starts.lock();
        for (partition, offset) in std::iter::once(first).chain(places) {
            starts.put(&client, partition, offset);
        }
    }

    /// An offset was committed, in place of `previous` if there was one.
    pub fn committed(
        &self,
        (group, topic): (&str, &str),
        client: &Client,
        partition: &TopicPartition,
        (previous, offset): (Option<i64>, i64),
    ) {
        let from = previous.or_else(|| self.starts.lock().get(client, partition));
        let records = from.map_or(0, |from| offset.saturating_sub(from).max(0).unsigned_abs());
        self.metrics.consumers.consumed(group, topic, records);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use streamhouse_metadata::ids::TopicId;
    use streamhouse_observability::families::MetricsOptions;

    use super::*;

    fn place(partition: i32) -> TopicPartition {
        TopicPartition {
            topic: TopicId(uuid::Uuid::nil()),
            partition,
        }
    }

    fn client(id: &str) -> Client {
        Client {
            id: id.to_owned(),
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    fn counted(consumption: &Consumption) -> u64 {
        let text = consumption.metrics.render();
        let line = text
            .lines()
            .find(|line| line.starts_with("streamhouse_consumer_records_total{"));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or(0)
    }

    #[test]
    fn a_first_commit_counts_from_where_that_client_began() {
        let consumption = Consumption::new(Metrics::new(MetricsOptions::default()));
        consumption.metrics.consumers.meet("g");
        let connection = Fetching::default();
        let commit = |id, previous, offset| {
            consumption.committed(("g", "t"), &client(id), &place(0), (previous, offset));
        };
        commit("tool", None, 50);
        assert_eq!(counted(&consumption), 0, "nobody saw it fetch");
        for at in [10, 14, 18] {
            consumption.fetching(|| client("reader"), &connection, [(place(0), at)].into_iter());
        }
        commit("reader", None, 15);
        assert_eq!(counted(&consumption), 5, "from its first fetch");
        commit("reader", Some(15), 25);
        assert_eq!(counted(&consumption), 15);
        commit("reader", Some(25), 20);
        assert_eq!(counted(&consumption), 15, "going back consumes nothing");
        // It comes back and begins anew, in another group.
        let again = Fetching::default();
        consumption.fetching(|| client("reader"), &again, [(place(0), 100)].into_iter());
        commit("reader", None, 101);
        assert_eq!(counted(&consumption), 16);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let consumption = Consumption::new(Metrics::new(MetricsOptions::default()));
        for id in 0..12 {
            let name = format!("client {id}");
            let places = (0..20_001).map(|partition| (place(partition), 0));
            consumption.fetching(|| client(&name), &Fetching::default(), places);
        }
        let starts = consumption.starts.lock();
        assert_eq!(starts.total, 200_000);
        assert_eq!(starts.order.len(), 10);
        assert!(starts.get(&client("client 0"), &place(0)).is_none());
        assert_eq!(starts.get(&client("client 11"), &place(19_999)), Some(0));
    }
}
