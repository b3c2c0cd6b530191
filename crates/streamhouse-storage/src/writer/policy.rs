//! When to seal (DESIGN §2.8–2.9), as a pure function of what the pipeline sees.

use std::time::Duration;

use streamhouse_observability::families::SealReason;
use tokio::time::Instant;

/// A buffer of up to this many inline objects is committed piece by piece while it has to wait for the
/// interval; a larger one is better off as one stored object.
const INLINE_PIECES_MAX: u64 = 16;

/// Sealed objects that may wait for their commit: more would only lengthen the queue.
const QUEUE_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) now: Instant,
    pub(super) buffered_bytes: u64,
    /// Of the oldest batch.
    pub(super) front_bytes: u64,
    pub(super) flush_bytes: u64,
    pub(super) flush_interval: Duration,
    /// 0 where inline objects are off or the store has no room for them just now.
    pub(super) inline_bytes_max: u64,
    pub(super) queued: usize,
    pub(super) uploading: usize,
    pub(super) slots: usize,
    pub(super) last_upload_began: Option<Instant>,
    pub(super) closing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All that fits into one object: an inline one, or one to be uploaded.
    Seal {
        reason: SealReason,
        inline: bool,
    },
    At(Instant),
    /// Until something else happens: bytes, a free slot, a commit.
    Wait,
}

const INLINE: Verdict = Verdict::Seal {
    reason: SealReason::Inline,
    inline: true,
};

pub(super) fn decide(view: &View) -> Verdict {
    if view.buffered_bytes == 0 {
        return Verdict::Wait;
    }
    if view.buffered_bytes < view.inline_bytes_max {
        // A small object waits for what is older, since it could not be committed before it anyway
        // (TRACES 11), and what arrives meanwhile shares its commit.
        return if view.queued == 0 { INLINE } else { Verdict::Wait };
    }
    if view.uploading >= view.slots || view.queued >= QUEUE_MAX {
        return Verdict::Wait;
    }
    let upload = |reason| Verdict::Seal {
        reason,
        inline: false,
    };
    if view.buffered_bytes >= view.flush_bytes {
        return upload(SealReason::Bytes);
    }
    if view.closing {
        return upload(SealReason::Shutdown);
    }
    match view.last_upload_began {
        _ if view.flush_interval.is_zero() => upload(SealReason::Slot),
        Some(began) if view.now < began + view.flush_interval => {
            // Many small requests would else be served once an interval, all that may wait at a time.
            let pieces = view.buffered_bytes <= view.inline_bytes_max * INLINE_PIECES_MAX;
            if view.queued == 0 && view.front_bytes < view.inline_bytes_max && pieces {
                return INLINE;
            }
            Verdict::At(began + view.flush_interval)
        }
        _ => upload(SealReason::Interval),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            now: Instant::now() + Duration::from_secs(100),
            buffered_bytes: 100_000,
            front_bytes: 20_000,
            flush_bytes: 8 << 20,
            flush_interval: Duration::from_millis(250),
            inline_bytes_max: 16 << 10,
            queued: 0,
            uploading: 0,
            slots: 2,
            last_upload_began: None,
            closing: false,
        }
    }

    #[test]
    fn an_empty_buffer_is_never_sealed() {
        assert_eq!(
            decide(&View {
                buffered_bytes: 0,
                closing: true,
                ..view()
            }),
            Verdict::Wait
        );
    }

    #[test]
    fn a_lone_object_leaves_at_once_and_the_next_waits_for_the_interval() {
        assert_eq!(
            decide(&view()),
            Verdict::Seal {
                reason: SealReason::Interval,
                inline: false
            }
        );
        let began = view().now - Duration::from_millis(100);
        let second = View {
            last_upload_began: Some(began),
            queued: 1,
            uploading: 1,
            ..view()
        };
        assert_eq!(decide(&second), Verdict::At(began + Duration::from_millis(250)));
    }

    #[test]
    fn what_waits_for_the_interval_goes_inline_piece_by_piece_if_it_is_small() {
        let waiting = View {
            last_upload_began: Some(view().now),
            front_bytes: 1_000,
            ..view()
        };
        assert_eq!(decide(&waiting), INLINE);
        let not = |other: View| {
            let due = Verdict::At(other.now + Duration::from_millis(250));
            let other = View {
                last_upload_began: Some(other.now),
                ..other
            };
            assert_eq!(decide(&other), due, "{other:?}");
        };
        // Something older on its way; a batch that is no inline object; too many pieces; no inline at all.
        not(View { queued: 1, ..waiting });
        not(View {
            front_bytes: 16 << 10,
            ..waiting
        });
        not(View {
            buffered_bytes: (256 << 10) + 1,
            ..waiting
        });
        not(View {
            inline_bytes_max: 0,
            ..waiting
        });
    }

    #[test]
    fn the_byte_limit_does_not_wait_for_the_interval_but_for_a_slot() {
        let full = View {
            buffered_bytes: 8 << 20,
            last_upload_began: Some(view().now),
            ..view()
        };
        assert_eq!(
            decide(&full),
            Verdict::Seal {
                reason: SealReason::Bytes,
                inline: false
            }
        );
        assert_eq!(
            decide(&View {
                uploading: 2,
                queued: 2,
                ..full
            }),
            Verdict::Wait
        );
    }

    #[test]
    fn trace_11_nothing_goes_inline_while_something_older_is_queued() {
        let small = View {
            buffered_bytes: 1_000,
            ..view()
        };
        assert_eq!(
            decide(&small),
            Verdict::Seal {
                reason: SealReason::Inline,
                inline: true
            }
        );
        assert_eq!(
            decide(&View {
                queued: 1,
                uploading: 1,
                ..small
            }),
            Verdict::Wait
        );
    }

    #[test]
    fn without_inline_a_small_object_is_uploaded() {
        let small = View {
            buffered_bytes: 1_000,
            inline_bytes_max: 0,
            ..view()
        };
        assert_eq!(
            decide(&small),
            Verdict::Seal {
                reason: SealReason::Interval,
                inline: false
            }
        );
    }

    #[test]
    fn with_no_interval_a_free_slot_is_reason_enough() {
        let local = View {
            flush_interval: Duration::ZERO,
            last_upload_began: Some(view().now),
            uploading: 1,
            ..view()
        };
        assert_eq!(
            decide(&local),
            Verdict::Seal {
                reason: SealReason::Slot,
                inline: false
            }
        );
    }
}
