//! TUF metadata: one file of an honest repository is replaced by what comes in, signed with the right key where it is a role.
//!
//! Without the right signature nothing behind it would ever be reached. Makes the honest repository in a temporary directory
//! once; looks at it in memory. Invariant: what a look believes, the record says too, and a look never goes back.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use comber_trust::publisher::{Lives, Publisher, ROLES};
use comber_trust::{Fetching, Record, Signed, Signer, SigningKey, Source, kept, look};
use futures_util::FutureExt as _;
use jiff::Timestamp as Instant;
use serde::de::DeserializeOwned;
use tough::schema::{Role, Root, Signed as SignedRole, Snapshot, Targets, Timestamp};

/// Files of a repository by name.
type Files = HashMap<String, Arc<[u8]>>;

/// One of the four, replaced by the input: signed anew (even first byte) or as it is.
const REPLACED: [&str; 4] = [
    "2.root.json",
    "timestamp.json",
    "1.snapshot.json",
    "1.targets.json",
];

struct Repository {
    files: Files,
    key: SigningKey,
    now: Instant,
}

struct Shown<'r> {
    honest: &'r Files,
    replaced: (&'static str, Arc<[u8]>),
}

impl Source for Shown<'static> {
    fn fetch<'a>(&'a self, name: &'a str) -> Fetching<'a> {
        let (replaced, bytes) = &self.replaced;
        let file = if name == *replaced {
            Some(bytes)
        } else {
            self.honest.get(name)
        };
        let file = file.map(|bytes| bytes.to_vec());
        Box::pin(async move { Ok(file) })
    }
}

/// The first byte chooses the file and whether it is signed; the rest is its signed part, or all of it.
pub(crate) fn metadata(bytes: &[u8]) {
    static REPOSITORY: OnceLock<Repository> = OnceLock::new();
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let repository = REPOSITORY.get_or_init(honest);
    let which = usize::from(choice / 2) % REPLACED.len();
    let signed = (choice % 2 == 0)
        .then(|| signed(repository, which, bytes))
        .flatten();
    let shown = Shown {
        honest: &repository.files,
        replaced: (
            REPLACED[which],
            signed.unwrap_or_else(|| bytes.to_vec()).into(),
        ),
    };
    let root = String::from_utf8_lossy(&repository.files["1.root.json"]).into_owned();
    let mut record = Record::pinned(root);
    let first = look(&mut record, &shown, repository.now)
        .now_or_never()
        .expect("no file is awaited");
    let before = record.clone();
    if let Ok(listing) = &first {
        assert_eq!(
            kept(&record).expect("it was just trusted").as_ref(),
            Some(listing)
        );
        for entry in listing.releases.values() {
            let target = comber_trust::target(&record, &entry.signed.target());
            assert!(target.is_ok_and(|target| target.is_some()));
        }
    } else {
        kept(&record).ok();
    }
    // The same source says the same again, and nothing moves.
    let second = look(&mut record, &shown, repository.now)
        .now_or_never()
        .expect("no file is awaited");
    assert_eq!(first.ok(), second.ok());
    assert_eq!(record, before);
}

fn signed(repository: &Repository, which: usize, bytes: &[u8]) -> Option<Vec<u8>> {
    match which {
        0 => sign::<Root>(&repository.key, bytes),
        1 => sign::<Timestamp>(&repository.key, bytes),
        2 => sign::<Snapshot>(&repository.key, bytes),
        _ => sign::<Targets>(&repository.key, bytes),
    }
}

fn sign<T: Role + DeserializeOwned>(key: &SigningKey, bytes: &[u8]) -> Option<Vec<u8>> {
    let signed: T = serde_json::from_slice(bytes).ok()?;
    let signature = key.sign(&signed.canonical_form().ok()?).ok()?;
    let signatures = vec![signature];
    serde_json::to_vec(&SignedRole { signed, signatures }).ok()
}

/// One key for everything, and one release.
fn honest() -> Repository {
    let path = Path::new("fuzz.key");
    let key = include_bytes!("../corpus/keys/plain.key");
    let key = SigningKey::parse(path, key, None).expect("the seed is a key");
    let now: Instant = "2026-11-24T12:00:00Z".parse().expect("a time");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let roles: Vec<String> = ROLES.iter().map(ToString::to_string).collect();
    let names = ["root", "targets", "snapshot", "timestamp"];
    assert!(
        names
            .iter()
            .all(|name| roles.iter().any(|role| role == name))
    );
    let keys: BTreeMap<_, _> = names.map(|name| (name, (vec![key.public()], 1))).into();
    let repo = dir.path().join("repo");
    let publisher = Publisher::init(&repo, &keys, Lives::default(), now).expect("a repository");
    let bundle = dir.path().join("bundle");
    std::fs::write(&bundle, "bytes").expect("written");
    let entry = Signed {
        product: "webapp".parse().expect("a name"),
        version: "1.0".parse().expect("a version"),
        counter: 1,
        platforms: None,
        min_agent: None,
        min_from: None,
        rollback_ok: true,
    };
    publisher.add(&bundle, entry).expect("listed");
    publisher.sign(&[&key]).expect("signed");
    publisher.finish().expect("published");
    let metadata = std::fs::read_dir(repo.join("metadata")).expect("it is there");
    let files = metadata.map(|entry| {
        let entry = entry.expect("it is there");
        let bytes = std::fs::read(entry.path()).expect("read");
        (
            entry.file_name().to_string_lossy().into_owned(),
            bytes.into(),
        )
    });
    Repository {
        files: files.collect(),
        key,
        now,
    }
}

/// The honest signed parts, for seeds: the first byte chooses the file.
///
/// # Panics
/// Where the temporary directory cannot be written.
pub fn seeds() -> Vec<Vec<u8>> {
    let repository = honest();
    let files = [
        (0, "1.root.json"),
        (2, "timestamp.json"),
        (4, "1.snapshot.json"),
        (6, "1.targets.json"),
    ];
    let mut seeds = Vec::new();
    for (choice, name) in files {
        let whole: serde_json::Value =
            serde_json::from_slice(&repository.files[name]).expect("it is JSON");
        let mut signed = whole["signed"].clone();
        if choice == 0 {
            signed["version"] = 2.into();
        }
        seeds.push([&[choice], signed.to_string().as_bytes()].concat());
        seeds.push([&[choice + 1], &*repository.files[name]].concat());
    }
    seeds
}
