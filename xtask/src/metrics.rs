//! What metrics cost, in three parts.
//!
//! `calls`: nanoseconds, on two threads. `share`: the share of a produce's and a fetch's instructions, by valgrind,
//! against a build that counts nothing. `scrapes`: the latency of produces beside large scrapes. The first and
//! the last want an idle machine, the second does not care.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;

use crate::run::{cargo, command, run};
use crate::{places, tools};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    Calls,
    Share,
    Scrapes,
}

const SERVER: [&str; 5] = [
    "build",
    "--release",
    "--locked",
    "--package",
    "streamhouse-server",
];
const EXAMPLE: [&str; 2] = ["--example", "metrics_cost"];

pub(crate) fn bench(parts: &[Part]) -> anyhow::Result<()> {
    let parts = match parts {
        [] => Part::value_variants(),
        some => some,
    };
    if parts.contains(&Part::Calls) {
        for package in ["streamhouse-observability", "streamhouse-client"] {
            run(cargo().args(["bench", "--locked", "--package", package]))?;
        }
    }
    let built = |name: &str| places::root().join("target/release").join(name);
    if parts.contains(&Part::Share) {
        let uncounted = uncounted(&built("examples/metrics_cost"))?;
        tools::debian(&[("valgrind", "valgrind")])?;
        run(cargo().args(SERVER).args(EXAMPLE))?;
        let mut share = command(built("examples/metrics_cost"));
        run(share.args(["share", "--uncounted"]).arg(uncounted))?;
    }
    if parts.contains(&Part::Scrapes) {
        run(cargo().args(SERVER))?;
        run(cargo().args(SERVER).args(EXAMPLE))?;
        let mut scrapes = command(built("examples/metrics_cost"));
        run(scrapes.args(["scrapes", "--server"]).arg(built("streamhouse")))?;
    }
    Ok(())
}

/// The example that counts nothing, out of the way of the one that does.
fn uncounted(built: &std::path::Path) -> anyhow::Result<PathBuf> {
    run(cargo()
        .args(SERVER)
        .args(EXAMPLE)
        .args(["--features", "uncounted"]))?;
    let kept = built.with_file_name("metrics_cost_uncounted");
    fs::copy(built, &kept).with_context(|| kept.display().to_string())?;
    Ok(kept)
}
