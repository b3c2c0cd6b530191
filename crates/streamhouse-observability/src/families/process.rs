//! The process itself: uptime, build, and what `/proc` tells. Where there is no `/proc` the `process_*`
//! metrics are absent.

use std::fs;
use std::time::Instant;

use crate::registry::{Kind, Registry, Sample};

pub(super) fn register(registry: &Registry, version: &str, revision: &str) {
    let started = Instant::now();
    registry.computed(
        "streamhouse_uptime_seconds",
        "Seconds since the process started.",
        Kind::Gauge,
        &[],
        move || one(started.elapsed().as_secs_f64()),
    );
    let build = vec![version.to_owned(), revision.to_owned()];
    registry.computed(
        "streamhouse_build_info",
        "Always 1; the labels name the build, `revision` the commit of a release build.",
        Kind::Gauge,
        &["version", "revision"],
        move || {
            vec![Sample {
                values: build.clone(),
                value: 1.0,
            }]
        },
    );
    register_proc(registry);
}

fn register_proc(registry: &Registry) {
    registry.computed(
        "process_cpu_seconds_total",
        "User and system CPU time of the process.",
        Kind::Counter,
        &[],
        || optional(ProcStat::read().map(|stat| stat.cpu_seconds)),
    );
    registry.computed(
        "process_resident_memory_bytes",
        "Resident memory of the process.",
        Kind::Gauge,
        &[],
        || optional(ProcStat::read().map(|stat| stat.resident_bytes)),
    );
    registry.computed(
        "process_virtual_memory_bytes",
        "Virtual memory of the process.",
        Kind::Gauge,
        &[],
        || optional(ProcStat::read().map(|stat| stat.virtual_bytes)),
    );
    registry.computed(
        "process_open_fds",
        "Open file descriptors.",
        Kind::Gauge,
        &[],
        || {
            // Reading the directory opens one descriptor itself.
            optional(
                fs::read_dir("/proc/self/fd")
                    .ok()
                    .map(|entries| entries.count().saturating_sub(1) as f64),
            )
        },
    );
    registry.computed(
        "process_max_fds",
        "File descriptors allowed.",
        Kind::Gauge,
        &[],
        || {
            optional(
                fs::read_to_string("/proc/self/limits")
                    .ok()
                    .as_deref()
                    .and_then(max_fds),
            )
        },
    );
    let start_time = ProcStat::read().and_then(|stat| {
        let boot = boot_time(&fs::read_to_string("/proc/stat").ok()?)?;
        Some(boot + stat.start_seconds_after_boot)
    });
    registry.computed(
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        Kind::Gauge,
        &[],
        move || optional(start_time),
    );
}

struct ProcStat {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    start_seconds_after_boot: f64,
}

impl ProcStat {
    fn read() -> Option<Self> {
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let page = rustix::param::page_size() as f64;
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?, ticks, page)
    }

    /// Fields as `proc(5)` numbers them. The program's name, field 2, may hold spaces and
    /// parentheses, so counting begins after its last one.
    fn parse(stat: &str, ticks_per_second: f64, page_bytes: f64) -> Option<Self> {
        let rest = &stat[stat.rfind(')')? + 1..];
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / ticks_per_second,
            start_seconds_after_boot: field(22)? / ticks_per_second,
            virtual_bytes: field(23)?,
            resident_bytes: field(24)? * page_bytes,
        })
    }
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

fn max_fds(limits: &str) -> Option<f64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn one(value: f64) -> Vec<Sample> {
    vec![Sample {
        values: Vec::new(),
        value,
    }]
}

fn optional(value: Option<f64>) -> Vec<Sample> {
    value.map(one).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stat_line_is_read_behind_a_name_with_spaces_and_parentheses() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 4200 8192 3 18446744";
        let stat = ProcStat::parse(line, 100.0, 4096.0).unwrap();
        assert_eq!(stat.cpu_seconds, 2.0);
        assert_eq!(stat.start_seconds_after_boot, 42.0);
        assert_eq!(stat.virtual_bytes, 8192.0);
        assert_eq!(stat.resident_bytes, 3.0 * 4096.0);
    }

    #[test]
    fn a_truncated_stat_line_gives_nothing() {
        assert!(ProcStat::parse("7 (a) S 1 7", 100.0, 4096.0).is_none());
        assert!(ProcStat::parse("", 100.0, 4096.0).is_none());
    }

    #[test]
    fn limits_and_boot_time_are_found_among_other_lines() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024  4096  files\n";
        assert_eq!(max_fds(limits), Some(1024.0));
        assert_eq!(max_fds("Max open files  unlimited  unlimited  files"), None);
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
    }
}
