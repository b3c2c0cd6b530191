//! What must hold of the sources before anything runs: format, clippy without a warning, dependencies.
//!
//! cargo-deny's advisories are left out: they need a database from outside the package registries.

use crate::run::{cargo, command, run};
use crate::tests::OPTIONAL;
use crate::{places, tools};

pub(crate) fn all() -> anyhow::Result<()> {
    run(cargo().args(["fmt", "--all", "--", "--check"]))?;
    tools::compilers()?;
    run(cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        OPTIONAL,
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    tools::tests()?;
    let mut deny = command(places::venv("cargo-deny"));
    run(deny.args(["--locked", "check", "bans", "licenses", "sources"]))
}
