//! What is stored, one kind a file. Plain data: no I/O, no rules.

pub mod client_metrics;
pub mod commit;
pub mod group;
pub mod object;
pub mod partition;
pub mod producer;
pub mod quota;
pub mod retention;
pub mod segment;
pub mod topic;
pub mod topic_config;
pub mod transaction;
