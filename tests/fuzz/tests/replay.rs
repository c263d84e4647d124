//! Every seed and every finding, once, in an ordinary `cargo test`.

use std::fs;
use std::path::{Path, PathBuf};

use comber_fuzz::TARGETS;

fn place(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind)
}

#[expect(clippy::unwrap_used, reason = "a test that cannot read has failed")]
fn names(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn no_seed_and_no_finding_panics() {
    for target in TARGETS {
        for kind in ["corpus", "regressions"] {
            for path in names(&place(kind).join(target.name)) {
                let bytes = fs::read(&path).unwrap();
                assert!(
                    bytes.len() <= target.longest,
                    "{} is too long",
                    path.display()
                );
                let run = std::panic::catch_unwind(|| (target.run)(&bytes));
                assert!(run.is_ok(), "{} on {}", target.name, path.display());
            }
        }
    }
}

#[test]
fn every_target_has_seeds_and_every_directory_is_one_of_a_target() {
    for target in TARGETS {
        let seeds = names(&place("corpus").join(target.name));
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
    }
    for kind in ["corpus", "regressions"] {
        for dir in names(&place(kind)) {
            let name = dir.file_name().unwrap().to_str().unwrap().to_owned();
            let is_known = comber_fuzz::find(&name).is_some() || name == "README.md";
            assert!(is_known, "{} is no target's", dir.display());
        }
    }
}

/// Bytes of every kind, so that also a machine without the engine tries what no seed has.
#[test]
fn changed_seeds_do_not_panic() {
    for target in TARGETS {
        for path in names(&place("corpus").join(target.name)) {
            let seed = fs::read(&path).unwrap();
            for round in 0..8_usize {
                let mut bytes = seed.clone();
                let at = round * 7919 % bytes.len().max(1);
                match round % 4 {
                    0 => bytes.truncate(at),
                    1 => bytes
                        .iter_mut()
                        .skip(at)
                        .take(1)
                        .for_each(|byte| *byte ^= 1 << (round / 4 % 8)),
                    2 => bytes.extend_from_within(at..),
                    _ => bytes.insert(at.min(bytes.len()), [0, b'"', 0xff, b'9'][round / 4 % 4]),
                }
                bytes.truncate(target.longest);
                let run = std::panic::catch_unwind(|| (target.run)(&bytes));
                assert!(
                    run.is_ok(),
                    "{} on {} round {round}",
                    target.name,
                    path.display()
                );
            }
        }
    }
}
