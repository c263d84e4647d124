//! What whoever relays the metadata can try, and what nothing of it gains.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use comber_trust::publisher::{Lives, Publisher};
use comber_trust::{
    Broken, Directory, Fetching, Record, RoleType, Signer, Source, VerifyError, kept,
};
use jiff::SignedDuration;

use crate::relay::{Site, key, names, now, role_of};

/// Relays a directory, except for one file.
struct Relay {
    honest: Directory,
    name: String,
    answer: Box<dyn Fn() -> io::Result<Option<Vec<u8>>> + Send + Sync>,
}

impl Source for Relay {
    fn fetch<'a>(&'a self, name: &'a str) -> Fetching<'a> {
        if name == self.name {
            let answer = (self.answer)();
            return Box::pin(async move { answer });
        }
        self.honest.fetch(name)
    }
}

fn relay(
    metadata: PathBuf,
    name: &str,
    answer: impl Fn() -> io::Result<Option<Vec<u8>>> + Send + Sync + 'static,
) -> Arc<dyn Source> {
    Arc::new(Relay {
        honest: Directory(metadata),
        name: name.to_owned(),
        answer: Box::new(answer),
    })
}

#[tokio::test]
async fn an_older_list_is_refused_and_the_record_stays() {
    let site = Site::new();
    site.release("webapp@1.0", 1);
    let old = site.photograph("old");
    site.release("webapp@1.1", 2);
    let host = site.host();
    host.look(&site.metadata()).await.unwrap();
    let trusted = Record::load(&host.record()).unwrap();
    let refused = host.look(&old).await.unwrap_err();
    assert_eq!(role_of(&refused), Some(RoleType::Timestamp), "{refused}");
    assert_eq!(Record::load(&host.record()).unwrap(), trusted);
}

/// H1: the library takes a damaged file of its own for one that was never there.
#[tokio::test]
async fn an_older_list_is_refused_also_after_the_record_was_cut() {
    let site = Site::new();
    site.release("webapp@1.0", 1);
    let old = site.photograph("old");
    site.release("webapp@1.1", 2);
    let host = site.host();
    host.look(&site.metadata()).await.unwrap();
    let whole = std::fs::read(host.record()).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(host.record(), &whole[..length]).unwrap();
        for metadata in [&old, &site.metadata()] {
            let refused = host.look(metadata).await.unwrap_err();
            assert!(matches!(refused, VerifyError::Record(_)), "{refused}");
        }
    }
    std::fs::remove_file(host.record()).unwrap();
    let refused = host.look(&old).await.unwrap_err();
    assert!(refused.to_string().contains("is not there"), "{refused}");
}

/// H2: a clock that was ahead once must not lock the host out, and one that is set back revives nothing.
#[tokio::test]
async fn a_clock_that_was_ahead_locks_nobody_out_and_one_set_back_revives_nothing() {
    let mut site = Site::new();
    let host = site.host();
    host.look(&site.metadata()).await.unwrap();
    let trusted_at = |hours: i64| {
        let mut record = Record::load(&host.record()).unwrap();
        record.trusted_at = Some(now() + SignedDuration::from_hours(hours));
        record.save(&host.record()).unwrap();
        record.trusted_at
    };
    // The time that counted never falls, so that a clock set back twice gains nothing.
    let ahead = trusted_at(1);
    host.look(&site.metadata()).await.unwrap();
    assert_eq!(Record::load(&host.record()).unwrap().trusted_at, ahead);
    // By then the timestamp had ended; the publisher's next one helps, without anybody on the host.
    trusted_at(24 * 8);
    let refused = host.look(&site.metadata()).await.unwrap_err();
    assert_eq!(role_of(&refused), Some(RoleType::Timestamp), "{refused}");
    site.now = now() + SignedDuration::from_hours(24 * 2);
    site.publisher().refresh().unwrap();
    site.publisher().sign(&[&site.online]).unwrap();
    site.publisher().finish().unwrap();
    host.look(&site.metadata()).await.unwrap();
}

/// H3: a root that was replaced is not believed again, whoever holds its keys.
#[tokio::test]
async fn a_replaced_root_is_not_believed_again() {
    let site = Site::new();
    let host = site.host();
    let publisher = site.publisher();
    let fresh = [key(), key()];
    for key in &fresh {
        publisher.add_key(RoleType::Root, &key.public()).unwrap();
    }
    for old in &site.roots {
        publisher.remove_key(RoleType::Root, &old.public()).unwrap();
    }
    publisher
        .sign(&[
            &site.roots[0],
            &site.roots[1],
            &fresh[0],
            &fresh[1],
            &site.online,
        ])
        .unwrap();
    publisher.finish().unwrap();
    host.look(&site.metadata()).await.unwrap();
    // The holders of the old keys make another second root, and a third one after it.
    let evil = Site {
        dir: tempfile::tempdir().unwrap(),
        roots: vec![key(), key(), key()],
        release: key(),
        online: key(),
        now: site.now,
    };
    let roots: Vec<_> = site.roots.iter().map(Signer::public).collect();
    let keys = BTreeMap::from([
        ("root", (roots, 2)),
        ("targets", (vec![evil.release.public()], 1)),
        ("snapshot", (vec![evil.online.public()], 1)),
        ("timestamp", (vec![evil.online.public()], 1)),
    ]);
    let publisher = Publisher::init(&evil.repo(), &keys, Lives::default(), site.now).unwrap();
    let signers: [&dyn Signer; 4] = [&site.roots[0], &site.roots[1], &evil.release, &evil.online];
    publisher.sign(&signers).unwrap();
    publisher.finish().unwrap();
    for lives in 2..5_u32 {
        let publisher = evil.publisher();
        publisher
            .set_threshold(RoleType::Root, 1.try_into().unwrap())
            .unwrap();
        publisher.sign(&signers[..2]).unwrap();
        publisher.sign(&[&evil.online]).unwrap();
        publisher.finish().unwrap();
        let refused = host.look(&evil.metadata()).await.unwrap_err();
        assert!(
            matches!(refused, VerifyError::Refused(_)),
            "root {lives}: {refused}"
        );
    }
}

#[tokio::test]
async fn a_walk_along_the_roots_that_breaks_off_changes_nothing() {
    let site = Site::new();
    let host = site.host();
    let broken = relay(site.metadata(), "2.root.json", || {
        Err(io::Error::other("connection reset"))
    });
    let away = host.look_at(broken).await.unwrap_err();
    assert!(away.is_away(), "{away}");
    assert_eq!(
        Record::load(&host.record()).unwrap(),
        Record::pinned(site.root(1))
    );
}

#[tokio::test]
async fn a_frozen_timestamp_ends() {
    let mut site = Site::new();
    site.now = now() - SignedDuration::from_hours(24 * 8);
    site.publisher().refresh().unwrap();
    site.publisher().sign(&[&site.online]).unwrap();
    site.publisher().finish().unwrap();
    let refused = site.host().look(&site.metadata()).await.unwrap_err();
    assert_eq!(role_of(&refused), Some(RoleType::Timestamp), "{refused}");
    site.now = now();
    site.publisher().refresh().unwrap();
    site.publisher().sign(&[&site.online]).unwrap();
    site.publisher().finish().unwrap();
    site.host().look(&site.metadata()).await.unwrap();
}

#[tokio::test]
async fn mixed_changed_and_endless_files_are_refused() {
    let site = Site::new();
    site.release("webapp@1.0", 1);
    let old = site.photograph("old");
    site.release("webapp@1.1", 2);
    let read = |path: PathBuf| std::fs::read(path).unwrap();
    let now = site.metadata();
    // A list of before under a snapshot of now.
    let list = read(old.join("2.targets.json"));
    let mixed = relay(now.clone(), "3.targets.json", move || {
        Ok(Some(list.clone()))
    });
    // One letter of the signed text.
    let mut changed = String::from_utf8(read(now.join("3.targets.json"))).unwrap();
    changed = changed.replace("webapp", "wabapp");
    let changed = changed.into_bytes();
    let altered = relay(now.clone(), "3.targets.json", move || {
        Ok(Some(changed.clone()))
    });
    let endless = relay(now.clone(), "timestamp.json", || {
        Ok(Some(vec![b' '; 1 << 20]))
    });
    let garbage = relay(now.clone(), "3.snapshot.json", || {
        Ok(Some(b"<html>".to_vec()))
    });
    let absent = relay(now.clone(), "3.targets.json", || Ok(None));
    for (name, source) in [
        ("mixed", mixed),
        ("altered", altered),
        ("endless", endless),
        ("garbage", garbage),
        ("absent", absent),
    ] {
        let host = site.host();
        let refused = host.look_at(source).await.err();
        assert!(refused.is_some(), "{name} was believed");
        assert_eq!(
            Record::load(&host.record()).unwrap().targets,
            None,
            "{name}"
        );
        // What was verified on the way stays, and an honest look goes on from there.
        assert_eq!(names(&host.look(&now).await.unwrap()).len(), 2, "{name}");
    }
}

/// A root that takes a key away counts at once, whatever is withheld behind it.
#[tokio::test]
async fn a_new_root_counts_also_where_the_rest_is_withheld() {
    let site = Site::new();
    site.release("webapp@1.0", 1);
    let host = site.host();
    host.look(&site.metadata()).await.unwrap();
    let publisher = site.publisher();
    let fresh = key();
    publisher
        .add_key(RoleType::Targets, &fresh.public())
        .unwrap();
    publisher
        .remove_key(RoleType::Targets, &site.release.public())
        .unwrap();
    publisher
        .sign(&[&site.roots[0], &site.roots[1], &fresh, &site.online])
        .unwrap();
    publisher.finish().unwrap();
    let withheld = relay(site.metadata(), "timestamp.json", || {
        Err(io::Error::other("connection reset"))
    });
    let away = host.look_at(withheld).await.unwrap_err();
    assert!(away.is_away(), "{away}");
    let record = Record::load(&host.record()).unwrap();
    assert_eq!(record.root, site.root(2));
    // What the old key listed is believed no more, also offline.
    let behind = kept(&record).unwrap_err();
    assert!(matches!(behind, VerifyError::Behind), "{behind}");
    host.look(&site.metadata()).await.unwrap();
    let record = Record::load(&host.record()).unwrap();
    assert!(kept(&record).unwrap().is_some());
}

/// What did not change is not fetched again: a list is large, and hosts look often.
#[tokio::test]
async fn a_list_that_did_not_change_is_not_fetched_again() {
    let site = Site::new();
    site.release("webapp@1.0", 1);
    let host = site.host();
    host.look(&site.metadata()).await.unwrap();
    for name in ["2.snapshot.json", "2.targets.json"] {
        let gone = relay(site.metadata(), name, || {
            Err(io::Error::other("nobody asks for it"))
        });
        assert_eq!(names(&host.look_at(gone).await.unwrap()), ["webapp@1.0"]);
    }
}

#[tokio::test]
async fn another_version_of_the_specification_is_not_guessed_at() {
    let site = Site::new();
    let read = std::fs::read_to_string(site.metadata().join("timestamp.json")).unwrap();
    let other = read.replace("\"1.0.31\"", "\"2.0.0\"").into_bytes();
    let relayed = relay(site.metadata(), "timestamp.json", move || {
        Ok(Some(other.clone()))
    });
    let refused = site.host().look_at(relayed).await.unwrap_err();
    let broken = matches!(refused, VerifyError::Refused(Broken::Spec { .. }));
    assert!(broken, "{refused:?}");
}
