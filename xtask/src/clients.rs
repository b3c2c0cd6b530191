//! The client programs of `tests/clients` that are not in Python: their libraries installed, the programs built.
//!
//! A language is left out only where its toolchain cannot be installed. That is said here, and again by every
//! test that is skipped for it: the reason lies in a file `missing` where the program would be. A program that
//! does not build is a failure like any other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::places;
use crate::run::{command, output, run};
use crate::tools::{Wanted, debian, kafka, once};

/// The first version that fetches the toolchain which a module asks for.
const GO_VERSION_MIN: (u32, u32) = (1, 21);

/// A client library in a language of its own.
struct Language {
    client: &'static str,
    /// Its folder, under `tests/clients` and under `.test-tools`.
    name: &'static str,
    toolchain: &'static [Wanted],
    usable: fn() -> anyhow::Result<()>,
    make: fn(&Path, &Path) -> anyhow::Result<()>,
}

const LANGUAGES: [Language; 3] = [
    Language {
        client: "kafkajs",
        name: "node",
        toolchain: &[("node", "nodejs"), ("npm", "npm")],
        usable: || Ok(()),
        make: node,
    },
    Language {
        client: "the Java client, and with it Kafka's command line tools,",
        name: "java",
        toolchain: &[
            ("java", "default-jre-headless"),
            ("javac", "default-jdk-headless"),
            ("mvn", "maven"),
        ],
        usable: || Ok(()),
        make: java,
    },
    Language {
        client: "franz-go",
        name: "go",
        toolchain: &[("go", "golang-go")],
        usable: go_is_new_enough,
        make: go,
    },
];

pub(crate) fn all() -> anyhow::Result<()> {
    for language in LANGUAGES {
        let sources = places::root().join("tests/clients").join(language.name);
        let folder = places::tools().join(language.name);
        let missing = folder.join("missing");
        if let Err(reason) = debian(language.toolchain).and_then(|()| (language.usable)()) {
            eprintln!("\n!!! {} is NOT tested: {reason:#}\n", language.client);
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            fs::write(&missing, format!("{reason:#}")).with_context(|| missing.display().to_string())?;
            continue;
        }
        if missing.exists() {
            fs::remove_file(&missing).with_context(|| missing.display().to_string())?;
        }
        if language.name == "java" {
            kafka()?;
        }
        once(&folder, &recipe(&sources)?, || (language.make)(&sources, &folder))
            .with_context(|| format!("the program for {}", language.client))?;
    }
    Ok(())
}

/// Everything a program is made from.
fn recipe(sources: &Path) -> anyhow::Result<String> {
    let mut recipe = String::new();
    for file in files(sources)? {
        recipe += &fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    }
    Ok(recipe)
}

/// The files of a folder, by name.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut files = entries
        .map(|entry| entry.map(|each| each.path()))
        .collect::<Result<Vec<_>, _>>()?;
    files.sort();
    Ok(files)
}

fn node(sources: &Path, folder: &Path) -> anyhow::Result<()> {
    for name in ["package.json", "package-lock.json"] {
        fs::copy(sources.join(name), folder.join(name)).with_context(|| name.to_owned())?;
    }
    let mut npm = command("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
    run(npm.current_dir(folder))
}

fn java(sources: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut javac = command("javac");
    javac.arg("-d").arg(folder.join("classes"));
    javac.arg("-cp").arg(kafka()?.join("*"));
    javac.args(files(sources)?);
    run(&mut javac)
}

fn go(sources: &Path, folder: &Path) -> anyhow::Result<()> {
    let mut go = command("go");
    go.args(["build", "-o"]).arg(folder.join("client")).arg(".");
    run(go.current_dir(sources))
}

fn go_is_new_enough() -> anyhow::Result<()> {
    let said = output(command("go").args(["env", "GOVERSION"]))?;
    let mut numbers = said
        .trim()
        .trim_start_matches("go")
        .split('.')
        .map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < GO_VERSION_MIN => {
            bail!(
                "{} is too old: {GO_VERSION_MIN:?} fetches what franz-go asks for",
                said.trim()
            )
        }
        _ => Ok(()),
    }
}
