//! The process `streamhouse`: its configuration, its Kafka listener, its handlers, its start and stop.
//!
//! A library only so that tests can start a server inside themselves; other programs use the Kafka
//! protocol.

pub mod cli;
pub mod cluster_view;
pub mod config;
pub mod consumption;
pub mod fetch_session;
pub mod group;
pub mod handlers;
pub mod http;
pub mod ids;
pub mod listener;
pub mod quota;
pub mod start;
pub mod telemetry;
pub mod transaction;
mod watched;
