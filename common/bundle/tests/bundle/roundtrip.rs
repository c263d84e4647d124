//! What is built is what is unpacked, and building has one answer.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{RELEASE, Source, decoded, small};
use comber_bundle::{
    BuildError, Limits, UnpackError, build, inspect, is_partial, remove_partial, unpack, verify,
};
use proptest::prelude::*;

/// What is at a place, as far as a bundle carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Dir,
    File(Vec<u8>, bool),
    Link(String),
}

fn tree(dir: &Path) -> BTreeMap<String, Place> {
    let mut found = BTreeMap::new();
    let mut todo = vec![String::new()];
    while let Some(prefix) = todo.pop() {
        for entry in fs::read_dir(dir.join(&prefix)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            let place = if metadata.is_dir() {
                todo.push(format!("{path}/"));
                Place::Dir
            } else if metadata.is_symlink() {
                Place::Link(
                    fs::read_link(entry.path())
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .into(),
                )
            } else {
                let executable = metadata.permissions().mode() & 0o111 != 0;
                Place::File(fs::read(entry.path()).unwrap(), executable)
            };
            found.insert(path, place);
        }
    }
    found
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]",
        "[a-zA-Z0-9._ äß\\\\-]{1,12}".prop_filter("reserved", |name| name != "." && name != ".."),
        // Around the length at which the name leaves the header.
        "[x]{85,110}",
        Just("y".repeat(255)),
    ]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::Dir),
        (prop::collection::vec(any::<u8>(), 0..1600), any::<bool>())
            .prop_map(|(content, executable)| Place::File(content, executable)),
        name().prop_map(Place::Link),
        "[z]{95,140}".prop_map(Place::Link),
    ]
}

fn places() -> impl Strategy<Value = Vec<(Vec<String>, Place)>> {
    prop::collection::vec((prop::collection::vec(name(), 1..4), place()), 0..12)
}

/// Makes those of the places that are free, in the order given.
fn plant(places: &[(Vec<String>, Place)]) -> Source {
    let mut source = Source::new();
    for (names, place) in places {
        let path = names.join("/");
        let parents: Vec<String> = (1..names.len())
            .map(|count| names[..count].join("/"))
            .collect();
        let real = |path: &String| {
            fs::symlink_metadata(source.at(path)).is_ok_and(|metadata| !metadata.is_dir())
        };
        if parents.iter().any(real) || fs::symlink_metadata(source.at(&path)).is_ok() {
            continue;
        }
        source = match place {
            Place::Dir => source.dir(&path),
            Place::File(content, executable) => {
                source.file(&path, content, if *executable { 0o700 } else { 0o600 })
            }
            Place::Link(target) => {
                fs::create_dir_all(source.at(&path).parent().unwrap()).unwrap();
                source.link(&path, target)
            }
        };
    }
    source
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_is_built_is_what_is_unpacked(places in places()) {
        let source = plant(&places);
        let built = source.build();
        let bytes = fs::read(&built.path).unwrap();
        let verified = verify(&bytes[..], &built.artifact).unwrap();
        prop_assert_eq!(&verified.listing, &built.listing);
        prop_assert_eq!(verified.artifact, built.artifact);
        let target = source.dir.path().join("target");
        unpack(&bytes[..], &built.artifact, &target).unwrap();
        prop_assert_eq!(tree(&target), tree(&source.at("")));
    }

    #[test]
    fn building_has_one_answer(places in places()) {
        let one = plant(&places);
        let first = one.build();
        let again = one.build_as("again.bundle");
        prop_assert_eq!(fs::read(&first.path).unwrap(), fs::read(&again.path).unwrap());
        // Planting in another order gives the directories another order, and the files other times.
        let reversed: Vec<_> = tree(&one.at("")).into_iter().rev()
            .map(|(path, place)| (path.split('/').map(str::to_owned).collect(), place))
            .collect();
        let other = plant(&reversed).build();
        prop_assert_eq!(other.artifact, first.artifact);
    }

    #[test]
    fn a_common_tar_reads_it(places in places()) {
        let source = plant(&places);
        let tar = decoded(&source.build().path);
        let mut found = BTreeMap::new();
        for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let Some(path) = path.strip_prefix("files/") else {
                prop_assert_eq!(path, "manifest.json");
                continue;
            };
            let place = match entry.header().entry_type() {
                tar::EntryType::Directory => Place::Dir,
                tar::EntryType::Symlink => {
                    Place::Link(entry.link_name().unwrap().unwrap().to_str().unwrap().into())
                }
                _ => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content).unwrap();
                    Place::File(content, entry.header().mode().unwrap() == 0o755)
                }
            };
            found.insert(path.trim_end_matches('/').to_owned(), place);
        }
        prop_assert_eq!(found, tree(&source.at("")));
    }
}

#[test]
fn the_identity_of_a_bundle_stays_the_same_for_ever() {
    let source = Source::new()
        .file("bin/app", b"hello\n", 0o755)
        .link("app", "bin/app")
        .file(&"n".repeat(150), b"", 0o644);
    // A change here gives a release that is built again another identity, and old agents may refuse it.
    assert_eq!(source.build().artifact.digest.to_string(), GOLDEN);
}

const GOLDEN: &str = "16d92b2dd73bc1dd768adcfcd43fba8eefe8ca9e8afbdf99284d8e914c78755f";

#[test]
fn the_list_says_what_there_is() {
    let source = small();
    let built = source.build();
    let contents = inspect(
        fs::File::open(&built.path).unwrap(),
        Limits { length: 1 << 20 },
    );
    let listing = contents.unwrap().listing;
    let paths: Vec<&str> = listing
        .members()
        .iter()
        .map(comber_bundle::Member::path)
        .collect();
    assert_eq!(paths, ["app", "bin", "bin/app", "readme"]);
    assert_eq!(listing.unpacked_size(), 721);
    assert_eq!(listing.manifest().id().to_string(), "webapp@2.4.1");
}

#[test]
fn every_problem_of_a_release_is_told_at_once() {
    let source = Source::new()
        .file("bin/su", b"x", 0o4755)
        .link("out", "/etc/passwd");
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        source.at("pipe"),
        rustix::fs::Mode::from_raw_mode(0o644),
    )
    .unwrap();
    let broken = RELEASE.replace("2.4.1", "2 4").replace("/opt", "opt");
    fs::write(source.dir.path().join("release.toml"), broken).unwrap();
    let out = source.dir.path().join("out.bundle");
    let error = build(source.dir.path(), &out, &mut |_| {}).unwrap_err();
    let BuildError::Invalid(problems) = &error else {
        panic!("{error:?}");
    };
    let mut fields: Vec<&str> = problems
        .iter()
        .map(|problem| problem.field.as_str())
        .collect();
    fields.sort_unstable();
    assert_eq!(
        fields,
        ["files/bin/su", "files/out", "files/pipe", "release.toml"]
    );
    assert!(!out.exists());
}

#[test]
fn progress_reaches_its_total() {
    let source = small();
    let mut last = None;
    let out = source.dir.path().join("out.bundle");
    build(source.dir.path(), &out, &mut |progress| {
        last = Some(progress);
    })
    .unwrap();
    let last = last.unwrap();
    assert_eq!((last.done, last.total), (2 * 721, 2 * 721));
}

#[test]
fn a_bundle_is_not_built_into_itself() {
    let source = small();
    let out = source.at("out.bundle");
    let error = build(source.dir.path(), &out, &mut |_| {}).unwrap_err();
    assert!(matches!(error, BuildError::Inside { .. }), "{error:?}");
}

#[test]
fn what_a_crash_left_is_known_and_removed() {
    let source = small();
    let built = source.build();
    let releases = tempfile::tempdir().unwrap();
    let target = releases.path().join("2.4.1");
    let left = releases.path().join("2.4.1.partial");
    fs::create_dir_all(left.join("bin")).unwrap();
    fs::write(left.join("bin/app"), b"half").unwrap();
    assert!(is_partial(left.file_name().unwrap()));

    // Starting over needs no cleaning before.
    let carried = || fs::File::open(&built.path).unwrap();
    unpack(carried(), &built.artifact, &target).unwrap();
    assert!(!left.exists());

    fs::create_dir(&left).unwrap();
    assert_eq!(remove_partial(releases.path()).unwrap(), 1);
    assert_eq!(remove_partial(releases.path()).unwrap(), 0);
    assert_eq!(tree(&target), tree(&source.at("")));
    assert_eq!(remove_partial(&releases.path().join("absent")).unwrap(), 0);
}

#[test]
fn what_is_there_is_never_replaced() {
    let source = small();
    let built = source.build();
    let releases = tempfile::tempdir().unwrap();
    let target = releases.path().join("2.4.1");
    fs::create_dir(&target).unwrap();
    let error = unpack(
        fs::File::open(&built.path).unwrap(),
        &built.artifact,
        &target,
    );
    assert!(
        matches!(error, Err(UnpackError::Exists { .. })),
        "{error:?}"
    );
    assert_eq!(tree(&target).len(), 0);
}
