//! What a request names, each once.
//!
//! A name takes a few bytes to repeat, and what is told of a group or topic may take thousands of times as many. So
//! what is answered at length is answered once, where it was first named. Kafka does so in Metadata, DeleteGroups
//! and DescribeLogDirs and repeats the answer elsewhere; its own clients never name anything twice.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// The names in their order, without repeats.
pub fn each_once<T: Eq + Hash + Clone>(named: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    let named = named.into_iter();
    named.filter(|name| seen.insert(name.clone())).collect()
}

/// Topics with their partitions, without repeats of either: what is named again adds to where it was named first.
pub fn partitions_once<T: Eq + Hash + Clone>(
    named: impl IntoIterator<Item = (T, Vec<i32>)>,
) -> Vec<(T, Vec<i32>)> {
    let mut places: Vec<(T, Vec<i32>)> = Vec::new();
    let mut at: HashMap<T, (usize, HashSet<i32>)> = HashMap::new();
    for (topic, partitions) in named {
        let (at, seen) = at.entry(topic.clone()).or_insert_with(|| {
            places.push((topic, Vec::with_capacity(partitions.len())));
            (places.len() - 1, HashSet::with_capacity(partitions.len()))
        });
        if let Some((_, places)) = places.get_mut(*at) {
            places.extend(partitions.into_iter().filter(|partition| seen.insert(*partition)));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_again_is_left_out_and_the_order_stays() {
        assert_eq!(each_once(["b", "a", "b", "c", "a"]), ["b", "a", "c"]);
    }

    #[test]
    fn a_topic_that_is_named_again_adds_its_new_partitions_to_the_first() {
        let named = [
            ("b", vec![1, 0, 1]),
            ("a", vec![]),
            ("b", vec![2, 0]),
            ("a", vec![5]),
        ];
        assert_eq!(partitions_once(named), [("b", vec![1, 0, 2]), ("a", vec![5])]);
    }
}
