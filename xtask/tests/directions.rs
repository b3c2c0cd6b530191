//! Who may use whom: `server → storage → metadata`, the client none of these, everybody `observability`.
//!
//! A dependency in the other direction compiles as well, and pulls a whole room after it; so it is refused here.
//! Dependencies of tests count too.

#![allow(clippy::unwrap_used)] // a test in helpers: a failure is the result

use std::collections::BTreeMap;
use std::process::Command;

const ALLOWED: &[(&str, &[&str])] = &[
    ("streamhouse-observability", &[]),
    ("streamhouse-metadata", &["streamhouse-observability"]),
    (
        "streamhouse-storage",
        &["streamhouse-metadata", "streamhouse-observability"],
    ),
    ("streamhouse-client", &["streamhouse-observability"]),
    (
        "streamhouse-server",
        &[
            "streamhouse-metadata",
            "streamhouse-observability",
            "streamhouse-storage",
        ],
    ),
    ("xtask", &[]),
];

/// Each crate of the workspace, and those of the workspace that it depends on.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version=1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap_or_default().to_owned();
    let of = |package: &serde_json::Value| {
        let own = list(&package["dependencies"]);
        // A crate of the workspace is named by its path.
        own.iter()
            .filter(|dependency| dependency["path"].is_string())
            .map(name)
            .collect()
    };
    let packages = list(&metadata["packages"]);
    packages
        .iter()
        .map(|package| (name(package), of(package)))
        .collect()
}

#[test]
fn crates_use_each_other_in_one_direction_only() {
    let found = dependencies();
    assert!(found.len() >= ALLOWED.len(), "{found:?}");
    for (name, uses) in found {
        let allowed = ALLOWED.iter().find(|(known, _)| *known == name);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{name} is new: say here whom it may use"));
        let wrong: Vec<_> = uses
            .iter()
            .filter(|other| !allowed.contains(&other.as_str()))
            .collect();
        assert!(wrong.is_empty(), "{name} may not use {wrong:?}");
    }
}
