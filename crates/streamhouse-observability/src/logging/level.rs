//! What is logged, changed while the process runs.
//!
//! The filter stays a filter: what it leaves out costs one relaxed load at the place that would log, before
//! and after a change.

use std::sync::Arc;

use parking_lot::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::{self, Handle};

use super::LogError;

/// Longest filter that is taken from outside.
const FILTER_BYTES_MAX: usize = 1_024;

type Set = dyn Fn(EnvFilter) -> bool + Send + Sync;

/// Reads and changes the filter of the process' log. Cloning shares it.
#[derive(Clone)]
pub struct LevelControl {
    current: Arc<Mutex<String>>,
    set: Arc<Set>,
}

impl LevelControl {
    /// Controls what `set` puts in force (it says whether it could), beginning with `filter`.
    ///
    /// # Errors
    /// `filter` does not parse.
    pub fn new(
        filter: &str,
        set: impl Fn(EnvFilter) -> bool + Send + Sync + 'static,
    ) -> Result<Self, LogError> {
        parse(filter)?;
        Ok(Self {
            current: Arc::new(Mutex::new(filter.to_owned())),
            set: Arc::new(set),
        })
    }

    /// The filter in force: a level or directives.
    #[must_use]
    pub fn current(&self) -> String {
        self.current.lock().clone()
    }

    /// Puts another filter in force, from the next event on.
    ///
    /// # Errors
    /// It does not parse, or is too long; the old one stays.
    pub fn change(&self, filter: &str) -> Result<(), LogError> {
        let parsed = parse(filter)?;
        // Held over the change, so that what is shown is what is in force.
        let mut current = self.current.lock();
        if !(self.set)(parsed) {
            return Err(LogError::Over);
        }
        filter.clone_into(&mut current);
        Ok(())
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    if filter.trim().is_empty() || filter.len() > FILTER_BYTES_MAX {
        return Err(LogError::FilterLength(filter.len()));
    }
    EnvFilter::try_new(filter).map_err(|source| LogError::Filter {
        filter: filter.to_owned(),
        source,
    })
}

/// The layer that filters, and what changes it.
pub(super) fn filter<S: 'static>(
    filter: &str,
) -> Result<(reload::Layer<EnvFilter, S>, LevelControl), LogError> {
    let (layer, handle): (_, Handle<EnvFilter, S>) = reload::Layer::new(parse(filter)?);
    let control = LevelControl::new(filter, move |filter| handle.reload(filter).is_ok())?;
    Ok((layer, control))
}
