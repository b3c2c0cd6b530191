//! How a batch came to its answer, stage by stage: what the slow-request log tells.
//!
//! Stages of a batch that was answered before its commit end with the answer, so a store that hangs
//! shows as the stage that took all the time. The histograms of the same stages are fed elsewhere, per
//! object; here nothing is counted.

use std::time::Duration;

use streamhouse_metadata::ids::ObjectName;
use tokio::time::Instant;

/// The way of the batch that was answered last among those of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Journey {
    /// The object that holds the batch; `None` where it never left the buffer.
    pub object: Option<ObjectName>,
    pub buffer: Duration,
    pub upload: Duration,
    pub commit_wait: Duration,
    pub commit: Duration,
}

impl Journey {
    /// Of a batch that was answered while it was still in the buffer.
    pub(super) fn in_buffer(accepted_at: Instant, now: Instant) -> Self {
        Self {
            buffer: now - accepted_at,
            ..Self::default()
        }
    }
}

/// The moments of one sealed object, which its batches share.
#[derive(Clone, Copy)]
pub(super) struct Moments {
    pub(super) object: ObjectName,
    pub(super) sealed_at: Instant,
    /// `None` while it is on its way to the object store.
    pub(super) durable_at: Option<Instant>,
    /// When its commit began.
    pub(super) commit_began_at: Option<Instant>,
}

impl Moments {
    pub(super) fn journey(&self, accepted_at: Instant, now: Instant) -> Journey {
        let durable_at = self.durable_at.unwrap_or(now);
        let commit_began_at = self.commit_began_at.unwrap_or(now);
        Journey {
            object: Some(self.object),
            buffer: self.sealed_at - accepted_at,
            upload: durable_at - self.sealed_at,
            commit_wait: commit_began_at - durable_at,
            commit: now - commit_began_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use streamhouse_metadata::ids::IncarnationId;

    use super::*;

    #[test]
    fn the_stages_of_a_batch_add_up_to_its_time_in_the_writer_wherever_it_was_answered() {
        let accepted_at = Instant::now();
        let after = |seconds| accepted_at + Duration::from_secs(seconds);
        let moments = |durable_at: Option<u64>, commit_began_at: Option<u64>| Moments {
            object: ObjectName {
                incarnation: IncarnationId(uuid::Uuid::nil()),
                counter: 1,
            },
            sealed_at: after(1),
            durable_at: durable_at.map(after),
            commit_began_at: commit_began_at.map(after),
        };
        for (moments, stages) in [
            (moments(None, None), [1, 14, 0, 0]),
            (moments(Some(3), None), [1, 2, 12, 0]),
            (moments(Some(3), Some(7)), [1, 2, 4, 8]),
        ] {
            let Journey {
                buffer,
                upload,
                commit_wait,
                commit,
                ..
            } = moments.journey(accepted_at, after(15));
            assert_eq!(
                [buffer, upload, commit_wait, commit],
                stages.map(Duration::from_secs)
            );
        }
        assert_eq!(
            Journey::in_buffer(accepted_at, after(4)).buffer,
            Duration::from_secs(4)
        );
    }
}
