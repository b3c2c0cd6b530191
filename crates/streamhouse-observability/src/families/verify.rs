//! Whether what is stored is still there and still what was written, as reading it back says: verification counts
//! every segment once a pass, consumers and compaction count what they find missing or damaged each time they do.

use crate::registry::{Counter, Family, Registry, closed_label};

closed_label! {
    /// What reading a stored segment back has shown.
    VerifyResult, "result" {
        Ok = "ok",
        /// Its object is gone although a segment names it.
        Missing = "missing",
        /// The bytes are not those that were written.
        Corrupt = "corrupt",
    }
}

/// The handles, born together.
#[derive(Clone)]
pub struct VerifyMetrics {
    segments: [Counter; 3],
}

impl VerifyMetrics {
    pub(super) fn new(registry: &Registry) -> Self {
        let segments: Family<(VerifyResult,), Counter> = registry.family(
            "streamhouse_verify_segments_total",
            "Stored segments that verification read back, by what it found; and each time that anybody else found one missing or corrupt.",
            (),
        );
        let all = [VerifyResult::Ok, VerifyResult::Missing, VerifyResult::Corrupt];
        Self {
            segments: all.map(|result| segments.get(&(result,))),
        }
    }

    #[must_use]
    pub fn segments(&self, result: VerifyResult) -> &Counter {
        &self.segments[result as usize]
    }
}
