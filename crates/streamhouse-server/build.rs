//! Which source revision a build is of: `SOURCE_REVISION` where a packager says it, else, for a release
//! build in a checkout, the commit that is checked out. Otherwise it is not known and stays empty: a debug build
//! would be made anew with each commit for it. Cargo gives the variable to what it runs as well, so its name is none of
//! the server's settings.
#![allow(clippy::print_stdout)] // How a build script speaks to cargo.

use std::path::Path;
use std::process::Command;

const VARIABLE: &str = "SOURCE_REVISION";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={VARIABLE}");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let given = std::env::var(VARIABLE).ok();
    let revision = given.or_else(|| if release { checked_out() } else { None });
    println!("cargo:rustc-env={VARIABLE}={}", revision.unwrap_or_default());
}

/// None outside of a checkout of this very project, and where there is no git.
fn checked_out() -> Option<String> {
    // Of sources that were unpacked in somebody else's repository git knows nothing.
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let revision = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Every commit and every checkout adds a line there.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo:rerun-if-changed={log}");
    }
    Some(revision)
}

fn git(arguments: &[&str]) -> Option<String> {
    let done = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(done.stdout).ok()?;
    done.status.success().then(|| text.trim().to_owned())
}
