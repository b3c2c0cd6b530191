//! Retention: which of a partition's oldest segments are to go, by age and by bytes.
//!
//! As Kafka's: whole segments, oldest first, and none behind one that stays. A segment is as old as its
//! newest record says; one without timestamps as old as its commit. By bytes a segment goes while what
//! remains without it still holds the limit. Pure: the caller brings the clock and the oldest segments.

use crate::ids::StoreTime;
use crate::model::topic_config::Retention;

/// One of the oldest segments of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldSegment {
    pub last_offset: i64,
    pub length_bytes: u32,
    /// Largest record timestamp, milliseconds; below 0 where there is none.
    pub max_timestamp: i64,
    pub committed_at: StoreTime,
}

/// The present: segments are as old as two kinds of clocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// For what the store stamped itself.
    pub store: StoreTime,
    /// For the timestamps of records, which come from other machines.
    pub records: StoreTime,
}

/// What becomes of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where the log is to begin; `None` where nothing is to go.
    pub log_start_offset: Option<i64>,
    /// When the oldest segment that stays becomes too old, if nothing else happens.
    pub due: Option<StoreTime>,
    /// All segments that were shown are to go: there may be more.
    pub more: bool,
}

/// Judges a partition that holds `size_bytes`, of which `oldest` are the first segments in order.
#[must_use]
pub fn judge(retention: Retention, now: Present, size_bytes: u64, oldest: &[OldSegment]) -> Verdict {
    let mut left_bytes = size_bytes;
    let mut verdict = Verdict {
        log_start_offset: None,
        due: None,
        more: false,
    };
    for segment in oldest {
        let (newest, now) = match segment.max_timestamp {
            none if none < 0 => (segment.committed_at.0, now.store),
            timestamp => (timestamp, now.records),
        };
        // Too old from this moment on.
        let due = retention
            .age_ms_max
            .map(|age| newest.saturating_add(age).saturating_add(1));
        let length = u64::from(segment.length_bytes);
        let too_old = due.is_some_and(|due| due <= now.0);
        let too_much = retention
            .bytes_max
            .is_some_and(|max| left_bytes.saturating_sub(length) >= max);
        if !too_old && !too_much {
            verdict.due = due.map(StoreTime);
            return verdict;
        }
        left_bytes = left_bytes.saturating_sub(length);
        verdict.log_start_offset = Some(segment.last_offset + 1);
    }
    verdict.more = !oldest.is_empty();
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Present = Present {
        store: StoreTime(1_000_000),
        records: StoreTime(1_000_000),
    };

    fn segment(last_offset: i64, max_timestamp: i64) -> OldSegment {
        OldSegment {
            last_offset,
            length_bytes: 100,
            max_timestamp,
            committed_at: StoreTime(990_000),
        }
    }

    fn by(age_ms_max: Option<i64>, bytes_max: Option<u64>) -> Retention {
        Retention {
            age_ms_max,
            bytes_max,
        }
    }

    #[test]
    fn whole_segments_go_when_their_newest_record_is_older_than_the_limit() {
        let log = [segment(9, 999_000), segment(19, 999_500), segment(29, 999_900)];
        let at = |age| judge(by(Some(age), None), NOW, 300, &log);
        assert_eq!(
            at(1_000).log_start_offset,
            None,
            "as old as the limit is not older"
        );
        assert_eq!(at(1_000).due, Some(StoreTime(1_000_001)));
        assert_eq!(at(999).log_start_offset, Some(10));
        assert_eq!(at(999).due, Some(StoreTime(1_000_500)));
        let all = at(0);
        assert_eq!((all.log_start_offset, all.due, all.more), (Some(30), None, true));
    }

    #[test]
    fn nothing_goes_behind_a_segment_that_stays() {
        let log = [segment(9, 2_000_000), segment(19, 1)];
        let verdict = judge(by(Some(5), None), NOW, 200, &log);
        assert_eq!(verdict.log_start_offset, None);
        assert_eq!(verdict.due, Some(StoreTime(2_000_006)));
    }

    #[test]
    fn without_timestamps_the_commit_tells_the_age() {
        let verdict = judge(by(Some(10_000), None), NOW, 100, &[segment(9, -1)]);
        assert_eq!(
            (verdict.log_start_offset, verdict.due),
            (None, Some(StoreTime(1_000_001)))
        );
        let verdict = judge(by(Some(9_999), None), NOW, 100, &[segment(9, -1)]);
        assert_eq!(verdict.log_start_offset, Some(10));
    }

    #[test]
    fn a_store_that_is_ahead_of_all_clocks_takes_no_record_for_older_than_they_say() {
        let ahead = Present {
            store: StoreTime(9_000_000),
            ..NOW
        };
        let limit = by(Some(10_000), None);
        let stamped = judge(limit, ahead, 100, &[segment(9, 999_000)]);
        assert_eq!(stamped.log_start_offset, None);
        let by_commit = judge(limit, ahead, 100, &[segment(9, -1)]);
        assert_eq!(by_commit.log_start_offset, Some(10));
    }

    #[test]
    fn by_bytes_a_segment_goes_only_while_the_rest_still_holds_the_limit() {
        let log = [segment(9, 1), segment(19, 1), segment(29, 1)];
        let start = |max| judge(by(None, Some(max)), NOW, 300, &log).log_start_offset;
        assert_eq!(start(300), None);
        assert_eq!(start(201), None);
        assert_eq!(start(200), Some(10));
        assert_eq!(start(100), Some(20));
        assert_eq!(start(1), Some(20), "the last segment holds the limit alone");
        assert_eq!(start(0), Some(30));
    }

    #[test]
    fn without_limits_nothing_goes_and_nothing_is_ever_due() {
        let verdict = judge(by(None, None), NOW, 100, &[segment(9, 1)]);
        assert_eq!(
            (verdict.log_start_offset, verdict.due, verdict.more),
            (None, None, false)
        );
        let extreme = judge(by(Some(i64::MAX), None), NOW, 100, &[segment(9, i64::MAX)]);
        assert_eq!(extreme.log_start_offset, None);
    }
}
