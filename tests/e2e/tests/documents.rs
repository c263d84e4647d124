//! The documents say what is true where a machine can tell: their links lead somewhere, and their example of a release
//! is one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use comber_test_support::Binaries;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in ["", "docs", "docs/decisions", "packaging"] {
        let entries = fs::read_dir(workspace().join(place)).expect("the directory is there");
        found.extend(
            entries
                .map(|entry| entry.expect("it can be listed").path())
                .filter(|path| path.extension().is_some_and(|end| end == "md")),
        );
    }
    found
}

/// What stands in the round brackets of `[text](target)`, without the part of a page and without other sites.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|after| after.split_once(')'))
        .map(|(target, _)| target.split('#').next().unwrap_or_default())
        .filter(|target| !target.is_empty() && !target.contains("://"))
}

/// The blocks of one language, in order.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    document
        .split(&fence)
        .skip(1)
        .filter_map(|after| after.split_once("```"))
        .map(|(block, _)| block.to_owned())
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let (mut dead, mut seen) = (Vec::new(), 0);
    for document in documents() {
        let text = fs::read_to_string(&document).expect("it can be read");
        let beside = document.parent().expect("it lies in a directory");
        for target in targets(&text) {
            seen += 1;
            if !beside.join(target).exists() {
                dead.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(seen >= 10, "only {seen} links were found");
    assert!(dead.is_empty(), "{dead:#?}");
}

/// Every installer that is shown, with the checks that are shown.
#[test]
fn the_releases_of_the_reference_can_be_built() {
    let reference = fs::read_to_string(workspace().join("docs/releases.md")).expect("it is there");
    let examples = blocks(&reference, "toml");
    let (installers, others): (Vec<_>, Vec<_>) = examples
        .into_iter()
        .partition(|example| example.contains("[installer]"));
    assert_eq!(installers.len(), 4, "each installer is shown once");
    assert_eq!(others.len(), 2, "a check and what holds of the system");
    for installer in installers {
        builds(&installer, &others);
    }
}

#[track_caller]
fn builds(installer: &str, others: &[String]) {
    let home = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(home.path().join("files")).expect("a new directory");
    fs::write(home.path().join("files/comber-agent"), "").expect("a new file");
    let name = if installer.contains("name ") {
        ""
    } else {
        "name = \"hello\"\nversion = \"1\"\n"
    };
    let source = format!("{name}{installer}\n{}", others.join("\n"));
    fs::write(home.path().join("release.toml"), source).expect("a new file");
    let output = Command::new(Binaries::get().expect("the binaries").comber)
        .args(["release", "build"])
        .arg(home.path())
        .arg("--out")
        .arg(home.path().join("hello.comber"))
        .output()
        .expect("the command starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{installer}: {error}");
}
