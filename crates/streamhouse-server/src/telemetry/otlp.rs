//! Reads OpenTelemetry's `MetricsData`, as far as the standard client metrics need it, where it lies.
//!
//! A decoder that builds every message would let two bytes become a hundred, a million times; this one walks
//! through the bytes, allocates nothing, and passes over what it does not know, as protobuf asks. Only
//! wire primitives are another's. Field numbers are those of `opentelemetry/proto/metrics/v1/metrics.proto`.
//! All points of a name are put together here, also those of metrics that are there several times, as
//! librdkafka writes one for each broker: averages to their mean, maxima to the largest, sums to their sum.

use prost::encoding::{WireType, decode_key, decode_varint};

use super::TelemetryFault;
use super::standard::{self, Meaning, STANDARD};
use streamhouse_observability::families::ClientStatistic;

/// What one standard metric says in a push.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Reading {
    Gauge(f64),
    /// Of a sum, since the last push.
    Increase(f64),
    /// Of a sum, since the client started.
    Total(f64),
}

impl Reading {
    pub(super) fn value(self) -> f64 {
        match self {
            Self::Gauge(value) | Self::Increase(value) | Self::Total(value) => value,
        }
    }
}

/// One push, by slot of the standard metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pushed {
    pub(super) readings: [Option<Reading>; STANDARD.len()],
    /// Other metrics.
    pub(super) ignored: u64,
}

enum Value<'a> {
    Varint(u64),
    /// Little endian on the wire.
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of one message, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], TelemetryFault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(TelemetryFault::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, TelemetryFault> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let malformed = |_| TelemetryFault::Malformed;
        let (number, wire) = decode_key(&mut self.0).map_err(malformed)?;
        let value = match wire {
            WireType::Varint => Value::Varint(decode_varint(&mut self.0).map_err(malformed)?),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut self.0).map_err(malformed)?;
                let length = usize::try_from(length).map_err(|_| TelemetryFault::Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            WireType::SixtyFourBit => {
                let bytes = self.take(8)?.try_into().map_err(|_| TelemetryFault::Malformed)?;
                Value::Fixed64(u64::from_le_bytes(bytes))
            }
            WireType::ThirtyTwoBit => {
                self.take(4)?;
                Value::Fixed32
            }
            // Groups are no part of proto3.
            WireType::StartGroup | WireType::EndGroup => return Err(TelemetryFault::Malformed),
        };
        Ok(Some((number, value)))
    }

    /// Hands over every message in field `number`.
    fn messages(
        mut self,
        number: u32,
        mut each: impl FnMut(Self) -> Result<(), TelemetryFault>,
    ) -> Result<(), TelemetryFault> {
        while let Some((found, value)) = self.next()? {
            match value {
                Value::Bytes(bytes) if found == number => each(Fields(bytes))?,
                _ if found == number => return Err(TelemetryFault::Malformed),
                _ => {}
            }
        }
        Ok(())
    }
}

const RESOURCE_METRICS: u32 = 1;
const SCOPE_METRICS: u32 = 2;
const METRICS: u32 = 2;
const NAME: u32 = 1;
const GAUGE: u32 = 5;
const SUM: u32 = 7;
const DATA_POINTS: u32 = 1;
const TEMPORALITY: u32 = 2;
const CUMULATIVE: u64 = 2;
const AS_DOUBLE: u32 = 4;
const AS_INT: u32 = 6;
const FLAGS: u32 = 8;
/// The point is there to say that there is no value.
const NO_VALUE: u64 = 1;

pub(super) fn read(payload: &[u8]) -> Result<Pushed, TelemetryFault> {
    let mut points: [Points; STANDARD.len()] = Default::default();
    let mut pushed = Pushed::default();
    Fields(payload).messages(RESOURCE_METRICS, |resource| {
        resource.messages(SCOPE_METRICS, |scope| {
            scope.messages(METRICS, |fields| {
                match metric(fields)? {
                    Some((slot, is_sum, data)) => points[slot].read(data, is_sum)?,
                    None => pushed.ignored += 1,
                }
                Ok(())
            })
        })
    })?;
    for (slot, standard) in STANDARD.iter().enumerate() {
        pushed.readings[slot] = points[slot].reading(standard.meaning);
    }
    Ok(pushed)
}

/// A standard metric's slot, whether it is a sum, and its data; `None` for any other.
fn metric(mut fields: Fields<'_>) -> Result<Option<(usize, bool, Fields<'_>)>, TelemetryFault> {
    let mut slot = None;
    let mut data = None;
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (NAME, Value::Bytes(name)) => slot = standard::slot(name),
            (GAUGE, Value::Bytes(bytes)) => data = Some((false, Fields(bytes))),
            (SUM, Value::Bytes(bytes)) => data = Some((true, Fields(bytes))),
            _ => {}
        }
    }
    Ok(slot.zip(data).map(|(slot, (is_sum, data))| (slot, is_sum, data)))
}

/// The points of one name: those that have a value that can be one.
#[derive(Clone, Copy, Default)]
struct Points {
    count: f64,
    sum: f64,
    max: f64,
    is_sum: bool,
    cumulative: bool,
}

impl Points {
    fn read(&mut self, mut fields: Fields<'_>, is_sum: bool) -> Result<(), TelemetryFault> {
        self.is_sum = is_sum;
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (DATA_POINTS, Value::Bytes(bytes)) => {
                    // Java pushes NaN where nothing was measured.
                    if let Some(value) = point(Fields(bytes))?.filter(|v| v.is_finite() && *v >= 0.0) {
                        self.count += 1.0;
                        self.sum += value;
                        self.max = self.max.max(value);
                    }
                }
                (TEMPORALITY, Value::Varint(temporality)) => self.cumulative = temporality == CUMULATIVE,
                _ => {}
            }
        }
        Ok(())
    }

    /// `None` without a point, or if what should be a sum is not one.
    fn reading(&self, meaning: Meaning) -> Option<Reading> {
        if self.count == 0.0 {
            return None;
        }
        match meaning {
            Meaning::Gauge(_, ClientStatistic::Average, _) => Some(Reading::Gauge(self.sum / self.count)),
            Meaning::Gauge(_, ClientStatistic::Maximum, _) => Some(Reading::Gauge(self.max)),
            Meaning::Connections | Meaning::RebalanceTime if !self.is_sum => None,
            Meaning::Connections | Meaning::RebalanceTime if self.cumulative => {
                Some(Reading::Total(self.sum))
            }
            Meaning::Connections | Meaning::RebalanceTime => Some(Reading::Increase(self.sum)),
        }
    }
}

fn point(mut fields: Fields<'_>) -> Result<Option<f64>, TelemetryFault> {
    let mut found = None;
    let mut none = false;
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (AS_DOUBLE, Value::Fixed64(bits)) => found = Some(f64::from_bits(bits)),
            (AS_INT, Value::Fixed64(bits)) => found = Some(bits.cast_signed() as f64),
            (FLAGS, Value::Varint(flags)) => none = flags & NO_VALUE != 0,
            _ => {}
        }
    }
    Ok(found.filter(|_| !none))
}
