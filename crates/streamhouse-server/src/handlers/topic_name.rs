//! Which names a topic may have: Kafka's rules, and Kafka's own names kept free.
//!
//! Deviation: names that differ only in `.` and `_` may exist side by side; Kafka refuses the second
//! because its metrics cannot tell them apart, ours can.

use super::error_code::RequestFault;

/// Longest name, characters.
const LENGTH_MAX: usize = 249;

/// Topics that Kafka makes for itself; a client's tools treat them as internal.
const RESERVED: [&str; 4] = [
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
    "__cluster_metadata",
];

/// Checks a name that somebody wants to create.
pub fn check(name: &str) -> Result<(), RequestFault> {
    let wrong = |why| RequestFault::TopicName(name.chars().take(LENGTH_MAX).collect(), why);
    if name.is_empty() {
        return Err(wrong("it is empty"));
    }
    if name.len() > LENGTH_MAX {
        return Err(wrong("it is longer than 249 characters"));
    }
    if matches!(name, "." | "..") {
        return Err(wrong("`.` and `..` are no names"));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.chars().all(legal) {
        return Err(wrong("only letters, digits, `.`, `_` and `-` are allowed"));
    }
    if RESERVED.contains(&name) {
        return Err(wrong("it is reserved"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafkas_rules_hold_and_its_own_names_stay_free() {
        for good in ["a", "A.b_c-1", "__mine", &"x".repeat(249)] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a b",
            "ä",
            "a/b",
            "~unknown",
            "__consumer_offsets",
            &"x".repeat(250),
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
