//! One client as it is remembered between its pushes: when it may come again, and what it said last.
//!
//! Pure: the caller brings the time. The order of the checks is that of Kafka's brokers, so that a client
//! hears the same first complaint. What a client says is kept by slot of the table in `standard`, so a
//! client takes the same memory whatever it pushes.

use std::time::Duration;

use streamhouse_observability::families::{
    ClientGauge, ClientKind, ClientMetrics, ClientSoftware, ClientStatistic,
};
use tokio::time::Instant;

use super::otlp::{Pushed, Reading};
use super::standard::{self, Meaning, STANDARD};
use super::{Asked, COMPRESSION_TYPES, PUSH_BYTES_MAX, Push, TelemetryFault};

/// A client that was not heard of for this long, or three of its intervals, is gone.
const SILENCE_MIN: Duration = Duration::from_secs(60);
const SILENCE_INTERVALS: u32 = 3;
/// The most that one push can add to a counter: what is beyond is a mistake or a lie.
const INCREASE_MAX: f64 = 1e6;

#[derive(Clone, Debug, Default)]
pub(super) struct Instance {
    subscription: Option<i32>,
    interval: Duration,
    seen: Option<Instant>,
    last_get: Option<Instant>,
    last_push: Option<Instant>,
    /// Its last complaint tells a client to ask again at once.
    may_ask: bool,
    terminated: bool,
    /// `None` until something of a producer or consumer was pushed.
    is: Option<(ClientKind, ClientSoftware)>,
    /// By slot: a gauge's last value, in seconds where it is a time, or a cumulative sum's last total.
    last: [Option<f64>; STANDARD.len()],
}

impl Instance {
    /// A request came; a client that is asked for something else than before may come at once.
    pub(super) fn meet(&mut self, asked: &Asked, now: Instant) {
        if self.subscription != Some(asked.id) {
            self.subscription = Some(asked.id);
            self.last_get = None;
            self.last_push = None;
        }
        self.interval = asked.interval;
        self.seen = Some(now);
    }

    pub(super) fn seen(&self) -> Option<Instant> {
        self.seen
    }

    pub(super) fn is_gone(&self, now: Instant) -> bool {
        let patience = SILENCE_MIN.max(self.interval * SILENCE_INTERVALS);
        self.seen
            .is_none_or(|seen| now.saturating_duration_since(seen) >= patience)
    }

    fn is_due(&self, last: Option<Instant>, now: Instant) -> bool {
        last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval)
    }

    /// A client asks what it is to push.
    pub(super) fn get(&mut self, asked: &Asked, now: Instant) -> Result<(), TelemetryFault> {
        debug_assert_eq!(self.subscription, Some(asked.id), "met first");
        let due = self.is_due(self.last_get.max(self.last_push), now);
        if !due && !self.may_ask {
            return Err(TelemetryFault::TooEarly);
        }
        if due {
            self.last_get = Some(now);
        }
        self.may_ask = false;
        Ok(())
    }

    /// A client pushes; its payload has not been looked at yet.
    pub(super) fn push(&mut self, asked: &Asked, push: Push<'_>, now: Instant) -> Result<(), TelemetryFault> {
        let judged = self.judge(asked, push, now);
        self.may_ask = matches!(
            judged,
            Err(TelemetryFault::UnknownSubscription | TelemetryFault::Compression(_))
        );
        self.terminated = push.terminating;
        judged
    }

    fn judge(&mut self, asked: &Asked, push: Push<'_>, now: Instant) -> Result<(), TelemetryFault> {
        if self.terminated {
            return Err(TelemetryFault::Terminated);
        }
        // The first push after it asked may come early: clients draw when.
        let due = self.last_get > self.last_push || self.is_due(self.last_push, now);
        if due {
            self.last_push = Some(now);
        } else if !push.terminating {
            return Err(TelemetryFault::TooEarly);
        }
        if push.subscription != asked.id {
            return Err(TelemetryFault::UnknownSubscription);
        }
        if push.compression != 0 && !COMPRESSION_TYPES.contains(&push.compression) {
            return Err(TelemetryFault::Compression(push.compression));
        }
        if push.payload.len() > PUSH_BYTES_MAX as usize {
            return Err(TelemetryFault::TooLarge);
        }
        Ok(())
    }

    /// Adds what was pushed to the counters and keeps the rest for the gauges.
    pub(super) fn apply(&mut self, pushed: &Pushed, software: ClientSoftware, metrics: &ClientMetrics) {
        for (slot, standard) in STANDARD.iter().enumerate() {
            let reading = pushed.readings[slot];
            if let Meaning::Gauge(_, _, unit) = standard.meaning {
                // A gauge that is not in the newest push says nothing any more.
                self.last[slot] = reading.map(|reading| unit.of(reading.value()));
            } else if let Some(increase) = reading.and_then(|reading| self.increase(slot, reading)) {
                match standard.meaning {
                    Meaning::Connections => metrics
                        .connections(standard.kind, software)
                        .add(increase.round() as u64),
                    Meaning::RebalanceTime => metrics
                        .rebalances(software)
                        .add(Duration::from_secs_f64(increase / 1e3)),
                    Meaning::Gauge(..) => {}
                }
            }
            if reading.is_some() {
                self.is = Some((standard.kind, software));
            }
        }
    }

    /// By how much a sum grew. The first total of a cumulative one is where it is counted from: what of it
    /// was counted before, by another agent perhaps, is not known.
    fn increase(&mut self, slot: usize, reading: Reading) -> Option<f64> {
        let increase = match reading {
            Reading::Increase(increase) => increase,
            Reading::Total(total) => {
                let before = self.last[slot].replace(total)?;
                // It started anew.
                if total < before { total } else { total - before }
            }
            Reading::Gauge(_) => return None,
        };
        (0.0..=INCREASE_MAX).contains(&increase).then_some(increase)
    }

    /// Whom the client counts as, while it counts.
    pub(super) fn shown(&self, now: Instant) -> Option<(ClientKind, ClientSoftware)> {
        self.is.filter(|_| !self.terminated && !self.is_gone(now))
    }

    /// What it said last of a gauge.
    pub(super) fn gauge(&self, wanted: ClientGauge) -> impl Iterator<Item = (ClientStatistic, f64)> + '_ {
        standard::slots(wanted).filter_map(|(slot, statistic)| Some((statistic, self.last[slot]?)))
    }
}
