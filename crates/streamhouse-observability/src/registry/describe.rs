//! What a registry can tell of its families without their samples: the reference for people.
//!
//! Generated documentation and the text of a scrape come from the same registration, so neither can say
//! what the other does not.

use std::fmt::Write as _;

use super::cells::{Buckets, Unit};

/// One family.
#[derive(Clone, Debug)]
pub struct Description {
    pub name: &'static str,
    /// As after `# TYPE`.
    pub kind: &'static str,
    pub help: &'static str,
    /// Keys in the order in which they are written; values where they are a closed set.
    pub labels: Vec<(&'static str, &'static [&'static str])>,
    pub buckets: Option<&'static Buckets>,
}

impl Description {
    /// The upper bounds of a histogram as they are written in `le`, without `+Inf`; empty for others.
    #[must_use]
    pub fn bounds(&self) -> String {
        let mut out = String::new();
        for bound in self.buckets.iter().flat_map(|buckets| buckets.bounds) {
            let space = if out.is_empty() { "" } else { " " };
            // A write into a String cannot fail.
            let _ = match self.buckets.map(|buckets| buckets.unit) {
                Some(Unit::Seconds) => write!(out, "{space}{}", *bound as f64 / 1e9),
                _ => write!(out, "{space}{bound}"),
            };
        }
        out
    }
}
