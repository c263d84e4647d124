//! The bill of materials of a program: every crate that is linked into it, as `CycloneDX` 1.5 JSON.
//!
//! Taken from cargo's own resolution of what is linked for this platform (`cargo tree`, normal edges only) and the checksums of
//! `Cargo.lock`. The tools that exist (cargo-cyclonedx, cargo-sbom) start from `cargo metadata`, which also has what only tests,
//! builds and other platforms take, so they would list what nobody ships; and each is one more program to build first.
//! Invariant: the same sources give the same bytes, so a package can be made again and compared.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::programs::Program;

/// The file's name beside the license.
const NAME: &str = "sbom.cdx.json";

/// What is read of `Cargo.lock`.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// Writes it into the program's directory of what is made.
pub(crate) fn write(program: &Program, root: &Path, dir: &Path) -> Result<()> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let lock: Lock = toml::from_str(&lock).context("Cargo.lock is not as expected")?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--edges", "normal", "--prefix", "none"]);
    cargo.args(["--format", "{p}|{l}", "--package", program.krate]);
    let output = cargo.current_dir(root).output();
    let output = output.context("cannot ask cargo what is linked")?;
    ensure!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let bill = bill(program, &String::from_utf8(output.stdout)?, &lock)?;
    let text = serde_json::to_string_pretty(&bill).context("cannot write JSON")?;
    fs::write(dir.join(NAME), text + "\n").context("cannot write the bill of materials")
}

fn bill(program: &Program, tree: &str, lock: &Lock) -> Result<Value> {
    let checksums: BTreeMap<_, _> = lock
        .package
        .iter()
        .map(|locked| {
            (
                (locked.name.as_str(), locked.version.as_str()),
                &locked.checksum,
            )
        })
        .collect();
    let mut linked = BTreeMap::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let (package, license) = line
            .split_once('|')
            .context("cargo tree said something else")?;
        let mut words = package.split_whitespace();
        let (Some(name), Some(version)) = (words.next(), words.next()) else {
            continue;
        };
        let version = version.trim_start_matches('v');
        // Cargo marks what it has told already.
        let license = license.trim_end_matches(" (*)");
        let checksum = checksums
            .get(&(name, version))
            .and_then(|checksum| checksum.as_ref());
        linked.insert((name, version), component(name, version, license, checksum));
    }
    let own = linked.remove(&(program.krate, env!("CARGO_PKG_VERSION")));
    ensure!(
        own.is_some(),
        "cargo tree does not begin with {}",
        program.krate
    );
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": {
            "type": "application",
            "name": program.name,
            "version": env!("CARGO_PKG_VERSION"),
            "licenses": [{ "expression": env!("CARGO_PKG_LICENSE") }],
        } },
        "components": linked.into_values().collect::<Vec<_>>(),
    }))
}

fn component(name: &str, version: &str, license: &str, checksum: Option<&String>) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": format!("pkg:cargo/{name}@{version}"),
        "name": name,
        "version": version,
        "purl": format!("pkg:cargo/{name}@{version}"),
    });
    if !license.is_empty() {
        // Some still write the old way.
        component["licenses"] =
            json!([{ "expression": license.replace(" / ", " OR ").replace('/', " OR ") }]);
    }
    if let Some(checksum) = checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::PROGRAMS;

    #[test]
    fn every_program_names_what_is_linked_and_nothing_that_only_tests_take() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let dir = tempfile::tempdir().unwrap();
        for program in &PROGRAMS {
            write(program, &root, dir.path()).unwrap();
            let text = fs::read(dir.path().join(NAME)).unwrap();
            let bill: Value = serde_json::from_slice(&text).unwrap();
            let components = bill["components"].as_array().unwrap();
            let named = |name: &str| {
                components
                    .iter()
                    .find(|component| component["name"] == name)
            };
            let rustls = named("rustls").unwrap();
            assert_eq!(rustls["hashes"][0]["content"].as_str().unwrap().len(), 64);
            assert!(
                named("aws-lc-sys").is_some(),
                "C code that is linked is named too"
            );
            for other in ["proptest", "insta", "protox", "ring"] {
                assert!(named(other).is_none(), "{} names {other}", program.name);
            }
        }
    }
}
