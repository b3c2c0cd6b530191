//! Rust's tests, the system tests in Python, and the comparison benchmark.
//!
//! The system tests take the server from `target/debug`, so that one build serves both. Their last line
//! is pytest's own summary.

use std::ffi::OsString;
use std::path::Path;

use crate::run::{cargo, command, run};
use crate::{clients, places, tools};

/// Features that are off unless asked for, and tested all the same.
pub(crate) const OPTIONAL: &str = "--features=streamhouse-client/prometheus";

/// Many of the system tests wait for other processes on a machine of two cores. One that fails gets a second
/// chance and its failure is printed all the same; one that judges acknowledged records (`promise`) gets none.
const PATIENCE: [&str; 3] = ["--reruns=1", "--max-suite-reruns=2", "--rerun-show-tracebacks"];

pub(crate) fn everything(pytest: &[String]) -> anyhow::Result<()> {
    let python = tools::tests()?;
    clients::all()?;
    run(cargo().args(["build", "--workspace", "--locked", OPTIONAL]))?;
    // Builds the Rust client's examples as well, which the system tests run.
    run(cargo().args(["test", "--workspace", "--locked", OPTIONAL]))?;
    system(&python, pytest, &PATIENCE)
}

/// The client scenarios against Apache Kafka: what fails there is a wrong scenario.
pub(crate) fn oracle(pytest: &[String]) -> anyhow::Result<()> {
    let python = tools::tests()?;
    tools::kafka()?;
    clients::all()?;
    let client = ["build", "--package=streamhouse-client", "--examples", "--locked"];
    run(cargo().args(client).arg(OPTIONAL))?;
    system(&python, pytest, &["--target=kafka"])
}

pub(crate) fn bench(arguments: &[String]) -> anyhow::Result<()> {
    let (python, performance) = tools::bench()?;
    run(cargo().args([
        "build",
        "--release",
        "--locked",
        "--package",
        "streamhouse-server",
    ]))?;
    let mut bench = command(&python);
    bench
        .args(["-m", "compare"])
        .arg(format!("--performance={}", performance.display()))
        .args(arguments)
        .env("PYTHONPATH", python_path(&["benches", "tests"]));
    run(&mut bench)
}

pub(crate) fn bench_groups(arguments: &[String]) -> anyhow::Result<()> {
    let release = ["--release", "--locked", "--package", "streamhouse-server"];
    run(cargo().arg("build").args(release))?;
    let target = places::root().join("target/release/streamhouse");
    let mut load = cargo();
    load.arg("run")
        .args(release)
        .args(["--example", "group_load", "--"]);
    run(load.arg("--server").arg(target).args(arguments))
}

fn system(python: &Path, pytest: &[String], target: &[&str]) -> anyhow::Result<()> {
    let mut tests = command(python);
    tests
        .args(["-m", "pytest", "--numprocesses=2", "--dist=worksteal"])
        .args(target)
        .args(pytest)
        .current_dir(places::root().join("tests"))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    run(&mut tests)
}

fn python_path(folders: &[&str]) -> OsString {
    let folders: Vec<_> = folders.iter().map(|folder| places::root().join(folder)).collect();
    std::env::join_paths(folders).unwrap_or_default()
}
