//! Patterns of topic names, as members give them.
//!
//! They have the syntax and the guarantees of RE2: no pattern takes more than linear time. What one takes in
//! memory is bounded, and so is what all of the process take together: members with the same text share one
//! automaton, which goes with the last of them. Not here: which topics there are.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;
use regex_automata::meta;
use regex_automata::nfa::thompson::WhichCaptures;

use crate::group::GroupFault;

const TEXT_BYTES_MAX: usize = 4_096;
const COMPILED_BYTES_MAX: usize = 256 << 10;
/// Of a pattern that is stored already. It never shrinks: a group of which one pattern is refused cannot be loaded
/// any more, and earlier versions admitted what takes this much.
const STORED_BYTES_MAX: usize = 1 << 20;
/// What matching may keep of what it worked out, for each thread that matches. Without it a match goes through all
/// states for each byte, so it is enough for any pattern of that size.
const CACHE_BYTES: usize = 256 << 10;
/// Threads that are reckoned with; groups are looked after by few.
const CACHES: usize = 2;
/// Of all patterns of the process.
const TOTAL_BYTES_MAX: usize = 64 << 20;

static PATTERNS: LazyLock<Arc<Patterns>> = LazyLock::new(|| Arc::new(Patterns::new(TOTAL_BYTES_MAX)));

/// A pattern as a member gave it, ready to match. Equal if the texts are.
#[derive(Clone, Debug)]
pub struct Pattern(Arc<Compiled>);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// A pattern that a client gives.
    ///
    /// # Errors
    /// [`GroupFault::InvalidPattern`], also if there is no memory left for it.
    pub fn new(text: &str) -> Result<Self, GroupFault> {
        PATTERNS.get(text, Admission::WhileThereIsRoom)
    }

    /// A pattern that was admitted before and stored, maybe when more was admitted than now.
    ///
    /// # Errors
    /// [`GroupFault::InvalidPattern`].
    pub fn stored(text: &str) -> Result<Self, GroupFault> {
        PATTERNS.get(text, Admission::Always)
    }

    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether it matches all of `name`.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.0.regex.is_match(name)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Admission {
    WhileThereIsRoom,
    Always,
}

#[derive(Debug)]
struct Compiled {
    text: Arc<str>,
    regex: meta::Regex,
    bytes: usize,
    among: Arc<Patterns>,
}

impl Drop for Compiled {
    fn drop(&mut self) {
        let mut known = self.among.known.lock();
        known.bytes -= self.bytes;
        // The same text may have been compiled anew since the last member let go of this one.
        if let Some(of_text) = known.by_text.get(&self.text)
            && of_text.strong_count() == 0
        {
            known.by_text.remove(&self.text);
        }
    }
}

/// Patterns that are in use, each compiled once.
#[derive(Debug)]
struct Patterns {
    known: Mutex<Known>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Known {
    by_text: HashMap<Arc<str>, Weak<Compiled>>,
    bytes: usize,
}

impl Patterns {
    fn new(bytes_max: usize) -> Self {
        Self {
            known: Mutex::default(),
            bytes_max,
        }
    }

    fn get(self: &Arc<Self>, text: &str, admission: Admission) -> Result<Pattern, GroupFault> {
        if let Some(found) = self.known.lock().by_text.get(text).and_then(Weak::upgrade) {
            return Ok(Pattern(found));
        }
        let compiled_bytes_max = match admission {
            Admission::WhileThereIsRoom => COMPILED_BYTES_MAX,
            Admission::Always => STORED_BYTES_MAX,
        };
        let regex = compile(text, compiled_bytes_max).map_err(GroupFault::InvalidPattern)?;
        // What a thread keeps grows with the automaton: twice its size where all states are gone through.
        let cache_bytes = (2 * regex.memory_usage()).min(CACHE_BYTES);
        let bytes = size_of::<Compiled>() + text.len() + regex.memory_usage() + CACHES * cache_bytes;
        let mut known = self.known.lock();
        // Somebody else may have been faster.
        if let Some(found) = known.by_text.get(text).and_then(Weak::upgrade) {
            return Ok(Pattern(found));
        }
        if admission == Admission::WhileThereIsRoom && known.bytes + bytes > self.bytes_max {
            let why = format!(
                "the patterns of all members take {} bytes, and no more fit",
                known.bytes
            );
            return Err(GroupFault::InvalidPattern(why));
        }
        known.bytes += bytes;
        let text: Arc<str> = text.into();
        let compiled = Arc::new(Compiled {
            text: text.clone(),
            regex,
            bytes,
            among: self.clone(),
        });
        known.by_text.insert(text, Arc::downgrade(&compiled));
        Ok(Pattern(compiled))
    }
}

fn compile(text: &str, bytes_max: usize) -> Result<meta::Regex, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("it is longer than {TEXT_BYTES_MAX} bytes"));
    }
    let bounds = meta::Config::new()
        // Where groups begin and end is never asked, and keeping it would take memory for each state and group.
        .which_captures(WhichCaptures::None)
        .nfa_size_limit(Some(bytes_max))
        .hybrid_cache_capacity(CACHE_BYTES);
    let bounded = |text: &str| {
        let built = meta::Builder::new().configure(bounds.clone()).build(text);
        built.map_err(|error| match error.syntax_error() {
            Some(syntax) => syntax.to_string(),
            None => match error.size_limit() {
                Some(limit) => format!("compiled it takes more than {limit} bytes"),
                None => error.to_string(),
            },
        })
    };
    // Alone first: a pattern such as "a)(b" must not become one by what is put around it.
    bounded(text).and_then(|_| bounded(&format!("^(?:{text})$")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names_and_are_bounded() {
        let matches = |text: &str, name: &str| Pattern::new(text).unwrap().matches(name);
        assert!(matches("a|b", "b") && !matches("a|b", "ab") && !matches("a", "ba"));
        assert!(matches("[a-z]+-\\d{2}", "orders-11") && !matches("(?i)ORDERS", "orders1"));
        for invalid in ["(", "a)(b", "a{99999}{99999}", "(?=a)", &"a".repeat(5_000)] {
            assert!(
                matches!(Pattern::new(invalid), Err(GroupFault::InvalidPattern(_))),
                "{invalid}"
            );
        }
    }

    #[test]
    fn groups_of_which_nobody_asks_where_they_are_cost_nothing_beyond_the_bounds() {
        let many = format!("[a-z]*(?:{}[a-z]{{1000}})?", "()".repeat(1_000));
        let pattern = Pattern::new(&many).unwrap();
        assert!(pattern.matches(&"a".repeat(1_000)) && !pattern.matches("A"));
        assert!(pattern.0.bytes < 1 << 20, "{}", pattern.0.bytes);
        let large = Pattern::new("[a-z]{24000}").unwrap_err();
        assert!(
            format!("{large}").contains("compiled it takes more than"),
            "{large}"
        );
    }

    #[test]
    fn what_was_stored_when_more_was_admitted_is_still_read() {
        let text = "x?[a-z]{10000}";
        assert!(matches!(Pattern::new(text), Err(GroupFault::InvalidPattern(_))));
        let stored = Pattern::stored(text).unwrap();
        assert!(stored.matches(&"a".repeat(10_000)) && !stored.matches("a"));
        assert!(Pattern::stored("[a-z]{99999}{99999}").is_err());
    }

    #[test]
    fn the_same_text_is_compiled_once_and_goes_with_its_last_member() {
        let patterns = Arc::new(Patterns::new(1 << 20));
        let get = |text: &str| patterns.get(text, Admission::WhileThereIsRoom).unwrap();
        let (first, second) = (get("a.*"), get("a.*"));
        assert!(Arc::ptr_eq(&first.0, &second.0) && first == second);
        let one = patterns.known.lock().bytes;
        let other = get("b.*");
        assert!(patterns.known.lock().bytes > one && first != other);
        drop((first, other));
        assert_eq!(patterns.known.lock().bytes, one);
        drop(second);
        let known = patterns.known.lock();
        assert!(known.bytes == 0 && known.by_text.is_empty());
    }

    #[test]
    fn many_different_patterns_are_refused_before_they_take_much_memory() {
        let patterns = Arc::new(Patterns::new(1 << 18));
        let get = |number: u32| patterns.get(&format!("a{number}.*"), Admission::WhileThereIsRoom);
        let mut held: Vec<Pattern> = (0..100).map_while(|number| get(number).ok()).collect();
        assert!((2..100).contains(&held.len()), "{}", held.len());
        assert!(matches!(get(1_000), Err(GroupFault::InvalidPattern(_))));
        assert!(get(0).is_ok(), "what others have takes nothing more");
        assert!(patterns.get("a1000.*", Admission::Always).is_ok());
        held.pop();
        assert!(get(1_000).is_ok());
        assert!(patterns.known.lock().bytes <= 1 << 18);
    }
}
