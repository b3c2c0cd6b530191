//! Length-framed requests off one connection.
//!
//! The length is checked against the API's limit before anything is allocated for it. A frame that fits
//! the small read buffer is copied out of it; a larger one gets a buffer of its exact size, which the
//! socket then fills directly, so records are never moved. Memory behind that buffer is touched only as
//! bytes arrive, and so is the budget: see [`super::budget`]. Produce frames are charged to the in-flight
//! budget, all others to a budget of their own, so that a full house of producers cannot silence
//! consumers.
//!
//! Not here: what is inside a frame.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::budget::{Budget, Charge};

/// What is read ahead of the frame in hand.
const READ_AHEAD_BYTES: usize = 16 << 10;
/// How much is charged at a time.
const CHARGE_BYTES: usize = 256 << 10;
/// API key, version, correlation id: no request is shorter.
const REQUEST_BYTES_MIN: usize = 8;
/// Only Produce carries data; anything else of this size is an attack or a mistake.
pub const PLAIN_BYTES_MAX: usize = 8 << 20;
/// A frame may arrive slowly but must arrive: a dripping client would hold its charge for ever.
const FRAME_TIME_MAX: Duration = Duration::from_secs(300);

/// How a connection's frames are limited.
#[derive(Clone, Debug)]
pub struct Limits {
    pub frame_bytes_max: usize,
    pub idle_timeout: Duration,
    pub stall_timeout: Duration,
    /// Charged for Produce.
    pub inflight: Budget,
    /// Charged for everything else.
    pub plain: Budget,
    /// Charged for requests that wait for other clients, so that these have the budget above to come.
    pub waiting: Budget,
}

/// A whole request without its length, and what it is charged with.
#[derive(Debug)]
pub struct Frame {
    pub bytes: Bytes,
    pub charge: Charge,
    /// When its last byte had been read.
    pub read_at: Instant,
    /// How long the budget made it wait.
    pub waited: Duration,
}

/// Why a connection ends. `Closed` and `Idle` are ordinary.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the client closed the connection")]
    Closed,
    #[error("the connection was idle")]
    Idle,
    #[error("the connection was closed in the middle of a request")]
    Truncated,
    #[error("a request stopped arriving half-way")]
    Stalled,
    #[error("a request announced {announced} bytes; the limit is {limit}")]
    Length { announced: i64, limit: usize },
    #[error("the connection failed: {0}")]
    Io(#[from] std::io::Error),
}

/// Reads frames one after the other.
pub struct FrameReader<R> {
    io: R,
    ahead: BytesMut,
    limits: Limits,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(io: R, limits: Limits) -> Self {
        Self {
            io,
            ahead: BytesMut::new(),
            limits,
        }
    }

    /// The next frame. Not to be called again once it was dropped half-way: bytes may be lost.
    pub async fn next(&mut self) -> Result<Frame, FrameError> {
        self.opening().await?;
        let announced = i32::from_be_bytes([self.ahead[0], self.ahead[1], self.ahead[2], self.ahead[3]]);
        let produce = i16::from_be_bytes([self.ahead[4], self.ahead[5]]) == ApiKey::Produce as i16;
        let (limit, budget) = if produce {
            (self.limits.frame_bytes_max, self.limits.inflight.clone())
        } else {
            let limit = self.limits.frame_bytes_max.min(PLAIN_BYTES_MAX);
            (limit, self.limits.plain.clone())
        };
        let length = match usize::try_from(announced) {
            Ok(length) if (REQUEST_BYTES_MIN..=limit).contains(&length) => length,
            _ => {
                return Err(FrameError::Length {
                    announced: i64::from(announced),
                    limit,
                });
            }
        };
        self.ahead.advance(4);
        let mut charge = Charge::default();
        let mut clock = Clock {
            deadline: Instant::now() + FRAME_TIME_MAX,
            stall_timeout: self.limits.stall_timeout,
            waited: Duration::ZERO,
        };
        let bytes = if length <= READ_AHEAD_BYTES {
            clock.pay(&budget, &mut charge, length).await;
            while self.ahead.len() < length {
                self.read_ahead(&clock).await?;
            }
            let bytes = Bytes::copy_from_slice(&self.ahead[..length]);
            self.ahead.advance(length);
            bytes
        } else {
            // Nothing of its size is allocated before a read buffer of it has arrived.
            while self.ahead.len() < READ_AHEAD_BYTES {
                self.read_ahead(&clock).await?;
            }
            clock.pay(&budget, &mut charge, CHARGE_BYTES.min(length)).await;
            let mut frame = BytesMut::with_capacity(length);
            let buffered = self.ahead.len().min(length);
            frame.extend_from_slice(&self.ahead[..buffered]);
            self.ahead.advance(buffered);
            while frame.len() < length {
                let paid = charge.bytes();
                if frame.len() == paid {
                    clock
                        .pay(&budget, &mut charge, CHARGE_BYTES.min(length - paid))
                        .await;
                }
                let room = charge.bytes() - frame.len();
                let mut part = (&mut self.io).take(room as u64);
                clock.arrived(part.read_buf(&mut frame)).await?;
            }
            frame.freeze()
        };
        Ok(Frame {
            bytes,
            charge,
            read_at: Instant::now(),
            waited: clock.waited,
        })
    }

    /// Waits for the length and the API key of the next frame.
    async fn opening(&mut self) -> Result<(), FrameError> {
        if self.ahead.is_empty() {
            self.ahead.reserve(READ_AHEAD_BYTES + 4);
            match timeout(self.limits.idle_timeout, self.io.read_buf(&mut self.ahead)).await {
                Ok(Ok(0)) => return Err(FrameError::Closed),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(FrameError::Io(error)),
                Err(_) => return Err(FrameError::Idle),
            }
        }
        let clock = Clock {
            deadline: Instant::now() + FRAME_TIME_MAX,
            stall_timeout: self.limits.stall_timeout,
            waited: Duration::ZERO,
        };
        while self.ahead.len() < 6 {
            self.read_ahead(&clock).await?;
        }
        Ok(())
    }

    /// Reads what there is into the read buffer.
    async fn read_ahead(&mut self, clock: &Clock) -> Result<(), FrameError> {
        self.ahead
            .reserve((READ_AHEAD_BYTES + 4).saturating_sub(self.ahead.len()).max(1));
        clock.arrived(self.io.read_buf(&mut self.ahead)).await
    }
}

/// How long one frame may take.
struct Clock {
    deadline: Instant,
    stall_timeout: Duration,
    waited: Duration,
}

impl Clock {
    /// Charges bytes; waiting for the budget is not held against the client.
    async fn pay(&mut self, budget: &Budget, charge: &mut Charge, bytes: usize) {
        let start = Instant::now();
        if budget.charge(charge, bytes).await {
            let time = start.elapsed();
            self.deadline += time;
            self.waited += time;
        }
    }

    /// One read that must bring something.
    async fn arrived(&self, read: impl Future<Output = std::io::Result<usize>>) -> Result<(), FrameError> {
        match timeout_at(self.deadline.min(Instant::now() + self.stall_timeout), read).await {
            Ok(Ok(0)) => Err(FrameError::Truncated),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(FrameError::Io(error)),
            Err(_) => Err(FrameError::Stalled),
        }
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
