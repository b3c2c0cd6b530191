//! What the tests need beside Rust, installed where it is missing.
//!
//! Debian packages come with apt where we are root on Debian; elsewhere the missing ones are named and the
//! task fails. Python packages are pinned in `tests/requirements.txt` and live in a venv of our own, Apache
//! Kafka's jars and `rdkafka_performance` in folders beside it. Each is made once: a stamp holds what it
//! was made from. The client programs in other languages have a file of their own (`clients`). The benchmark and
//! the oracle need more than the tests and ask for it themselves.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::places;
use crate::run::{cargo, command, run, which};

const KAFKA_VERSION: &str = "4.3.0";
/// The crate whose source carries librdkafka with its examples.
const RDKAFKA_SYS_VERSION: &str = "4.9.0";

/// A program and the Debian package that has it.
pub(crate) type Wanted = (&'static str, &'static str);

/// What the whole workspace needs to build, beyond what the server does: librdkafka's own build, for the Rust
/// client. Without zlib's header it would be built, and know no gzip.
pub(crate) fn compilers() -> anyhow::Result<()> {
    debian(&[("gcc", "gcc"), ("g++", "g++"), ("make", "make")])?;
    if which("apt-get").is_some() && !Path::new("/usr/include/zlib.h").exists() {
        apt(&["zlib1g-dev"])?;
    }
    Ok(())
}

/// Everything `cargo xtask test` needs; the venv's Python.
pub(crate) fn tests() -> anyhow::Result<PathBuf> {
    compilers()?;
    debian(&[
        ("kcat", "kcat"),
        ("python3", "python3"),
        ("promtool", "prometheus"),
    ])?;
    venv()
}

/// Everything `cargo xtask bench` needs; the venv's Python and the load generator.
pub(crate) fn bench() -> anyhow::Result<(PathBuf, PathBuf)> {
    let python = tests()?;
    kafka()?;
    Ok((python, rdkafka_performance()?))
}

/// Apache Kafka's jars.
pub(crate) fn kafka() -> anyhow::Result<PathBuf> {
    debian(&[("java", "default-jre-headless"), ("mvn", "maven")])?;
    let folder = places::tools().join("kafka");
    let libs = folder.join("libs");
    once(&folder, KAFKA_VERSION, || {
        fs::write(folder.join("pom.xml"), pom())?;
        let mut mvn = command("mvn");
        mvn.args([
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DoutputDirectory=libs",
        ]);
        run(mvn.current_dir(&folder))
    })?;
    Ok(libs)
}

/// librdkafka's own load generator, built from the source that its crate ships.
fn rdkafka_performance() -> anyhow::Result<PathBuf> {
    debian(&[("gcc", "gcc"), ("g++", "g++"), ("make", "make")])?;
    let folder = places::tools().join("rdkafka");
    once(&folder, RDKAFKA_SYS_VERSION, || {
        let manifest = format!(
            "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[lib]\npath = \"lib.rs\"\n\n\
             [dependencies]\nrdkafka-sys = {{ version = \"={RDKAFKA_SYS_VERSION}\", default-features = false }}\n\n[workspace]\n"
        );
        fs::write(folder.join("Cargo.toml"), manifest)?;
        fs::write(folder.join("lib.rs"), "")?;
        let vendor = folder.join("vendor");
        // A vendored copy may be built in place; the registry's own may not be touched.
        run(cargo()
            .args(["vendor", "--quiet"])
            .arg(&vendor)
            .current_dir(&folder)
            .stdout(Stdio::null()))?;
        let source = vendor.join("rdkafka-sys").join("librdkafka");
        let configure = [
            "--disable-ssl",
            "--disable-gssapi",
            "--disable-curl",
            "--disable-zstd",
            "--disable-lz4-ext",
        ];
        run(command("bash")
            .arg("./configure")
            .args(configure)
            .current_dir(&source)
            .stdout(Stdio::null()))?;
        for arguments in [&["-j2", "libs"][..], &["-C", "examples", "rdkafka_performance"]] {
            run(command("make")
                .args(arguments)
                .current_dir(&source)
                .stdout(Stdio::null()))?;
        }
        fs::copy(
            source.join("examples/rdkafka_performance"),
            folder.join("rdkafka_performance"),
        )?;
        Ok(())
    })?;
    Ok(folder.join("rdkafka_performance"))
}

fn venv() -> anyhow::Result<PathBuf> {
    let requirements = places::root().join("tests/requirements.txt");
    let wanted = fs::read_to_string(&requirements).with_context(|| requirements.display().to_string())?;
    let folder = places::tools().join("venv");
    let python = places::venv("python3");
    once(&folder, &wanted, || {
        if run(command("python3").args(["-m", "venv"]).arg(&folder)).is_err() {
            // Debian's python3 comes without it.
            apt(&["python3-venv"])?;
            run(command("/usr/bin/python3")
                .args(["-m", "venv", "--clear"])
                .arg(&folder))?;
        }
        let mut pip = command(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&requirements);
        run(&mut pip)
    })?;
    Ok(python)
}

/// Makes `folder` with `make`, unless its stamp says that it was made from the same `recipe`.
pub(crate) fn once(
    folder: &Path,
    recipe: &str,
    make: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let stamp = folder.join("made-from");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    make()?;
    fs::write(&stamp, recipe).with_context(|| stamp.display().to_string())
}

/// Installs the packages whose programs the PATH lacks.
pub(crate) fn debian(wanted: &[Wanted]) -> anyhow::Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(program, _)| which(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() { Ok(()) } else { apt(&missing) }
}

fn apt(packages: &[&str]) -> anyhow::Result<()> {
    let names = packages.join(", ");
    if which("apt-get").is_none() || !is_root() {
        bail!("missing: {names} (as Debian names them). Install them, or run this as root on Debian.");
    }
    let apt_get = |arguments: &[&str]| {
        let mut apt = command("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .arg("-q")
            .args(arguments);
        run(apt.stdout(Stdio::null()))
    };
    apt_get(&["update"])?;
    apt_get(&[&["install", "-y", "--no-install-recommends"], packages].concat())
        .with_context(|| format!("cannot install {names}"))
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn pom() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>oracle</groupId><artifactId>oracle</artifactId><version>1</version><dependencies>{}{}{}</dependencies></project>\n",
        dependency("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
        dependency("org.apache.kafka", "kafka-tools", KAFKA_VERSION),
        dependency("org.slf4j", "slf4j-simple", "1.7.36"),
    )
}
