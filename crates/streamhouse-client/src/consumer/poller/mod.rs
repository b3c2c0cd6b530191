//! The thread that speaks with librdkafka for a consumer.
//!
//! It does what it is ordered, one thing after the other: gather records, commit, seek, close. Rebalances come
//! with the records, so they happen only while the program waits for some. Everything that changes what is
//! ours happens on this thread; a seek cannot meet a record that is on its way.

mod commit;
mod membership;
mod moving;
mod shared;

use std::collections::VecDeque;
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, TopicPartitionList};
use tokio::sync::oneshot;

use super::assignment::{Assignment, Slot};
use super::builder::{RebalanceHook, TopicPartition};
use super::{ConsumeError, Consumer};
use crate::config::{Commits, ConfigError, ConsumerSettings};
use crate::log;
use crate::metrics::{ClientMetrics, ConsumerErrorType, GroupMetrics};
use crate::native::{Event, EventQueue, Fetched, Kind};
use crate::record::Received;
use shared::Lines;

pub(super) use shared::Shared;

/// A thread that nobody wakes looks after this time whether something is due.
const LOOK: Duration = Duration::from_secs(1);
/// How long a call that asks the broker may hold up the records.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// A batch is handed over when it holds this many bytes.
const BATCH_BYTES_MAX: usize = 4 << 20;

pub(super) type Reply = oneshot::Sender<Result<(), ConsumeError>>;
pub(super) type Batch = VecDeque<Result<Received, ConsumeError>>;

pub(super) enum Order {
    /// The program waits for records.
    Fill,
    Commit(Reply),
    Pause {
        place: TopicPartition,
        reply: Reply,
    },
    Resume {
        place: TopicPartition,
        reply: Reply,
    },
    Seek {
        place: TopicPartition,
        offset: i64,
        reply: Reply,
    },
    Rewind(Reply),
    Close {
        limit: Duration,
        reply: Reply,
    },
}

pub(super) fn start(
    config: &ClientConfig,
    settings: &ConsumerSettings,
    metrics: ClientMetrics,
    hook: Option<RebalanceHook>,
) -> Result<Consumer, ConfigError> {
    let base: BaseConsumer<Lines> = config
        .create_with_context(Lines)
        .map_err(|error| ConfigError::refused(&error))?;
    let topics: Vec<&str> = settings.topics.iter().map(String::as_str).collect();
    base.subscribe(&topics)
        .map_err(|error| ConfigError::refused(&error))?;
    let shared = Arc::new(Shared {
        base,
        assignment: Assignment::default(),
        group: Arc::from(settings.group.as_str()),
        commits: settings.commits,
    });
    let watched: Weak<Shared> = Arc::downgrade(&shared);
    metrics.watch_lag(watched);
    let (orders, received) = mpsc::channel();
    // The program asks for one batch at a time, so there is room for the answer.
    let (batches, incoming) = tokio::sync::mpsc::channel(1);
    let group_metrics = metrics.group(&settings.group);
    for topic in topics.iter().filter(|topic| !topic.starts_with('^')) {
        let _born = group_metrics.topic(topic);
    }
    let mut poller = Poller {
        shared: shared.clone(),
        metrics: group_metrics,
        hook,
        batches,
        records_max: settings.prefetch_records_max,
        is_wanted: false,
        commit_due: Instant::now(),
        last: None,
    };
    poller.commit_again_later();
    let thread = thread::Builder::new().name("kafka-consumer".to_owned());
    let spawned = thread.spawn(move || {
        poller.run(&received);
        let shared = poller.shared;
        drop((poller.batches, received));
        // Others let go of it any moment now; the last one out closes connections and waits for threads.
        while Arc::strong_count(&shared) > 1 {
            thread::sleep(Duration::from_millis(1));
        }
    });
    spawned.map_err(|error| ConfigError::Refused {
        reason: error.to_string(),
    })?;
    Ok(Consumer {
        shared,
        orders,
        batches: incoming,
        buffer: VecDeque::new(),
        is_asked: false,
        metrics,
    })
}

struct Poller {
    shared: Arc<Shared>,
    metrics: GroupMetrics,
    hook: Option<RebalanceHook>,
    batches: tokio::sync::mpsc::Sender<Batch>,
    records_max: usize,
    /// The program waits for records.
    is_wanted: bool,
    commit_due: Instant,
    /// The slot of the last record: the next one's is usually the same.
    last: Option<Arc<Slot>>,
}

impl Poller {
    fn run(&mut self, orders: &mpsc::Receiver<Order>) {
        let shared = self.shared.clone();
        let Some(queue) = EventQueue::consumer(shared.base.client()) else {
            return;
        };
        loop {
            let until_due = self
                .commit_due
                .saturating_duration_since(Instant::now())
                .min(LOOK);
            let order = if self.is_wanted {
                orders
                    .try_recv()
                    .map_err(|error| error == TryRecvError::Disconnected)
            } else {
                let waited = orders.recv_timeout(until_due);
                waited.map_err(|error| error == RecvTimeoutError::Disconnected)
            };
            match order {
                Ok(Order::Close { limit, reply }) => {
                    let _ = reply.send(self.close(&queue, limit));
                    return;
                }
                Ok(order) => self.obey(order),
                Err(true) => {
                    if let Err(error) = self.close(&queue, CALL_LIMIT) {
                        tracing::warn!(consumer_group = %self.shared.group, %error, "consumer dropped");
                    }
                    return;
                }
                Err(false) => {}
            }
            if self.is_wanted {
                self.gather(&queue, until_due);
            }
            if Instant::now() >= self.commit_due {
                // It was counted and is said here; what was not committed stays to be.
                if let Err(error) = self.commit(None) {
                    tracing::warn!(consumer_group = %self.shared.group, %error, "commit");
                }
                self.commit_again_later();
            }
        }
    }

    fn obey(&mut self, order: Order) {
        // Whoever asked may have gone away.
        match order {
            Order::Fill => self.is_wanted = true,
            Order::Commit(reply) => drop(reply.send(self.commit_asked())),
            Order::Pause { place, reply } => drop(reply.send(self.pause(&place, true))),
            Order::Resume { place, reply } => drop(reply.send(self.pause(&place, false))),
            Order::Seek { place, offset, reply } => drop(reply.send(self.seek(&place, offset))),
            Order::Rewind(reply) => drop(reply.send(self.rewind())),
            Order::Close { .. } => {}
        }
    }

    /// Waits for a record, takes what else is at hand, and hands it over.
    fn gather(&mut self, queue: &EventQueue<'_>, limit: Duration) {
        let mut batch = Batch::new();
        let mut bytes = 0;
        let mut patience = limit;
        while let Some(event) = queue.poll(patience) {
            self.take(&event, &mut batch, &mut bytes);
            if batch.len() >= self.records_max || bytes >= BATCH_BYTES_MAX {
                break;
            }
            // Nothing is waited for any more, but what is there comes along.
            patience = Duration::ZERO;
        }
        if !batch.is_empty() {
            self.is_wanted = false;
            // A program that is gone needs no records.
            let _ = self.batches.blocking_send(batch);
        }
    }

    fn take(&mut self, event: &Event, batch: &mut Batch, bytes: &mut usize) {
        match event.kind() {
            Kind::Fetch => {
                if let Some(fetched) = event.fetched() {
                    *bytes += fetched.size_bytes();
                    batch.extend(self.received(&fetched));
                }
            }
            Kind::Assigned => self.assigned(&event.partitions()),
            Kind::Revoked => {
                // What cannot be committed is consumed again, by whoever gets the partition.
                if let Err(error) = self.revoked(&event.partitions(), None) {
                    tracing::warn!(consumer_group = %self.shared.group, %error, "commit before a rebalance");
                }
            }
            Kind::Error => batch.extend(self.failed(event).map(Err)),
            Kind::Log => {
                let line = event.log_line();
                log::line(line.level, &line.facility, &line.text);
            }
            Kind::Delivery | Kind::Other => {}
        }
    }

    fn received(&mut self, fetched: &Fetched<'_>) -> Option<Result<Received, ConsumeError>> {
        if let Some(code) = fetched.error() {
            let topic = fetched.topic();
            self.metrics.failed(topic, ConsumerErrorType::of(code));
            return Some(Err(ConsumeError::Fetch {
                topic: Arc::from(topic),
                partition: Some(fetched.partition()),
                offset: (fetched.offset() >= 0).then_some(fetched.offset()),
                code,
            }));
        }
        // A record of a partition that is not ours any more is nobody's: librdkafka drops them as well.
        let slot = self.slot(fetched.topic(), fetched.partition())?;
        slot.came(fetched.offset());
        Some(Ok(Received {
            offset: fetched.offset(),
            timestamp_ms: fetched.timestamp_ms(),
            key: fetched.key(),
            value: fetched.value(),
            headers: fetched.headers(),
            slot,
        }))
    }

    fn slot(&mut self, topic: &str, partition: i32) -> Option<Arc<Slot>> {
        if let Some(last) = &self.last
            && last.partition == partition
            && *last.topic == *topic
            && last.is_live()
        {
            return Some(last.clone());
        }
        self.last = self.shared.assignment.get(topic, partition);
        self.last.clone()
    }

    /// An error of the client as a whole, or of a topic. Connections come and go: those are log lines.
    fn failed(&mut self, event: &Event) -> Option<ConsumeError> {
        let code = event.code();
        if matches!(
            code.known(),
            Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve)
        ) {
            log::error(event);
            return None;
        }
        let group = self.shared.group.clone();
        let place = event.place();
        let topic = place.as_ref().map_or("", |(topic, _)| topic);
        self.metrics.failed(topic, ConsumerErrorType::of(code));
        let reason = event.text();
        Some(match place {
            _ if event.is_fatal() => ConsumeError::Fatal { group, code, reason },
            Some((topic, partition)) => ConsumeError::Fetch {
                topic: Arc::from(topic),
                partition,
                offset: None,
                code,
            },
            None => ConsumeError::Group { group, code, reason },
        })
    }

    fn commit_again_later(&mut self) {
        let interval = match self.shared.commits {
            Commits::Every(interval) => interval,
            Commits::InTransactions => Duration::from_secs(3600),
        };
        self.commit_due = Instant::now() + interval;
    }
}

fn places(partitions: &[(String, i32)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (topic, partition) in partitions {
        list.add_partition(topic, *partition);
    }
    list
}
