//! What `docs/security.md` says is shown by tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Names of all test functions in a tree of sources.
#[expect(clippy::unwrap_used, reason = "a test that cannot read has failed")]
fn collect(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") && !path.ends_with(".git") {
                collect(&path, names);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests(&fs::read_to_string(&path).unwrap(), names);
        }
    }
}

/// The functions behind `#[test]` and its kind, whatever other attributes stand between.
fn tests(source: &str, names: &mut BTreeSet<String>) {
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        let name = line.trim_start_matches("async ").strip_prefix("fn ");
        if let Some(name) = name {
            if is_test {
                names.extend(name.split('(').next().map(str::to_owned));
            }
            is_test = false;
        }
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
    }
}

#[test]
fn every_test_that_the_document_names_exists() {
    let mut names = BTreeSet::new();
    for part in ["agent", "common", "controller", "packaging", "tests"] {
        collect(&workspace().join(part), &mut names);
    }
    let document = fs::read_to_string(workspace().join("docs/security.md")).unwrap();
    let mut count = 0;
    let mut names_tests = false;
    for line in document.lines() {
        // Tables end with a line that is none; one that names tests says so in its head.
        names_tests = line.starts_with('|') && (names_tests || line.ends_with("| shown by |"));
        if !names_tests {
            continue;
        }
        let shown_by = line
            .trim_end_matches('|')
            .rsplit('|')
            .next()
            .unwrap_or_default();
        for name in shown_by.split('`').skip(1).step_by(2) {
            count += 1;
            assert!(
                names.contains(name),
                "there is no test {name}, which stands in: {line}"
            );
        }
    }
    assert!(count > 50, "the tables name tests, here are {count}");
}

#[test]
fn tests_are_found_whatever_stands_before_them() {
    let source = "#[test]\n#[expect(x)]\nfn one() {}\nfn helper() {}\n#[tokio::test(flavor = \"x\")]\nasync fn two() {}\n";
    let mut names = BTreeSet::new();
    tests(source, &mut names);
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["one", "two"]);
}
