//! What a publisher may do, and what is refused.

use std::collections::BTreeMap;

use comber_model::{Artifact, Digest, Version};
use comber_trust::publisher::{Lives, PublishError, Publisher};
use comber_trust::{Question, RoleType, Signer, Unlisted, judge};

use crate::relay::{Site, entry, key, names};

#[tokio::test]
async fn what_is_added_is_listed_and_what_is_withdrawn_is_not() {
    let (site, first) = (Site::new(), Site::new().host());
    drop(first);
    let host = site.host();
    assert!(
        host.look(&site.metadata())
            .await
            .unwrap()
            .releases
            .is_empty()
    );
    site.release("webapp@1.0", 1);
    site.release("webapp@1.1", 2);
    let listing = host.look(&site.metadata()).await.unwrap();
    assert_eq!(names(&listing), ["webapp@1.0", "webapp@1.1"]);
    assert_eq!(listing.versions, [1, 3, 3, 3]);
    site.publisher()
        .withdraw(&"webapp@1.1".parse().unwrap())
        .unwrap();
    site.publish();
    assert_eq!(
        names(&host.look(&site.metadata()).await.unwrap()),
        ["webapp@1.0"]
    );
}

#[tokio::test]
async fn only_what_is_listed_with_its_own_bytes_may_be_installed() {
    let (site, agent) = (Site::new(), "0.1.0".parse::<Version>().unwrap());
    site.release("webapp@1.0", 1);
    let bundle = site.bundle("webapp@1.1");
    let mut wants = entry("webapp@1.1", 2);
    wants.rollback_ok = false;
    wants.min_from = Some(1);
    wants.min_agent = Some("0.1".parse().unwrap());
    site.publisher().add(&bundle, wants).unwrap();
    site.release("webapp@2.0", 3);
    let host = site.host();
    let listing = host.look(&site.metadata()).await.unwrap();
    let artifact = |id: &str| {
        let entry = &listing.releases[&id.parse().unwrap()];
        Artifact {
            digest: Digest(entry.sha256),
            length: entry.length,
            carried_length: 1,
        }
    };
    let ask = |id: &str, artifact: Artifact, installed: Option<u64>, rolls_back: bool| {
        let release = id.parse().unwrap();
        let question = Question {
            release: &release,
            artifact: &artifact,
            installed,
            rolls_back,
            agent: &agent,
        };
        judge(&listing, &question).map(|entry| entry.signed.counter)
    };
    assert_eq!(
        ask("webapp@2.0", artifact("webapp@2.0"), Some(1), false),
        Ok(3)
    );
    assert_eq!(
        ask("webapp@1.1", artifact("webapp@1.1"), Some(1), false),
        Ok(2)
    );
    let other = ask("webapp@2.0", artifact("webapp@1.0"), None, false);
    assert!(matches!(other, Err(Unlisted::Bytes(_))), "{other:?}");
    let none = ask("webapp@9", artifact("webapp@1.0"), None, false);
    assert!(matches!(none, Err(Unlisted::Release(_))), "{none:?}");
    let older = ask("webapp@1.0", artifact("webapp@1.0"), Some(3), false);
    assert!(matches!(older, Err(Unlisted::Older { .. })), "{older:?}");
    assert_eq!(
        ask("webapp@1.0", artifact("webapp@1.0"), Some(3), true),
        Ok(1)
    );
    let barred = ask("webapp@1.1", artifact("webapp@1.1"), Some(3), true);
    assert!(matches!(barred, Err(Unlisted::Older { .. })), "{barred:?}");
    let far = ask("webapp@1.1", artifact("webapp@1.1"), Some(0), false);
    assert!(matches!(far, Err(Unlisted::Step { .. })), "{far:?}");
    let young = "0.0.9".parse::<Version>().unwrap();
    let release = "webapp@1.1".parse().unwrap();
    let old_agent = judge(
        &listing,
        &Question {
            release: &release,
            artifact: &artifact("webapp@1.1"),
            installed: Some(1),
            rolls_back: false,
            agent: &young,
        },
    );
    assert!(
        matches!(old_agent, Err(Unlisted::Agent { .. })),
        "{old_agent:?}"
    );
}

#[tokio::test]
async fn floors_hold_also_for_a_rollback() {
    let site = Site::new();
    site.release("webapp@1.0", 1);
    site.release("webapp@1.1", 2);
    site.publisher()
        .floor(&"webapp".parse().unwrap(), 2)
        .unwrap();
    site.publish();
    let listing = site.host().look(&site.metadata()).await.unwrap();
    let release = "webapp@1.0".parse().unwrap();
    let entry = &listing.releases[&release];
    let question = Question {
        release: &release,
        artifact: &Artifact {
            digest: Digest(entry.sha256),
            length: entry.length,
            carried_length: 1,
        },
        installed: Some(2),
        rolls_back: true,
        agent: &"0.1.0".parse().unwrap(),
    };
    let refused = judge(&listing, &question).unwrap_err();
    assert!(
        matches!(refused, Unlisted::Floor { floor: 2, .. }),
        "{refused}"
    );
}

#[test]
fn a_release_never_changes_and_its_counter_rises() {
    let site = Site::new();
    site.release("webapp@1.0", 5);
    let publisher = site.publisher();
    let other = publisher.add(&site.bundle("other bytes"), entry("webapp@1.0", 6));
    assert!(
        matches!(other, Err(PublishError::OtherBytes(_))),
        "{other:?}"
    );
    let low = publisher.add(&site.bundle("webapp@1.1"), entry("webapp@1.1", 5));
    assert!(
        matches!(low, Err(PublishError::Counter { highest: 5, .. })),
        "{low:?}"
    );
    // A refused release leaves nothing behind, and the same one again is no mistake.
    assert!(matches!(publisher.finish(), Err(PublishError::Nothing)));
    publisher
        .add(&site.bundle("webapp@1.0"), entry("webapp@1.0", 5))
        .unwrap();
    let gone = publisher.withdraw(&"webapp@3".parse().unwrap());
    assert!(matches!(gone, Err(PublishError::Unlisted(_))), "{gone:?}");
}

#[test]
fn nothing_is_published_below_its_threshold() {
    let site = Site::new();
    let publisher = site.publisher();
    let mut second = key();
    publisher
        .add_key(RoleType::Targets, &second.public())
        .unwrap();
    publisher
        .set_threshold(RoleType::Targets, 2.try_into().unwrap())
        .unwrap();
    publisher
        .sign(&[&site.roots[0], &site.release, &site.online])
        .unwrap();
    let short = publisher.finish().unwrap_err();
    assert!(
        matches!(
            short,
            PublishError::Unsigned {
                role: RoleType::Root,
                ..
            }
        ),
        "{short}"
    );
    publisher.sign(&[&site.roots[2]]).unwrap();
    let short = publisher.finish().unwrap_err();
    assert!(
        matches!(
            short,
            PublishError::Unsigned {
                role: RoleType::Targets,
                ..
            }
        ),
        "{short}"
    );
    let stranger = publisher.sign(&[&key()]).unwrap_err();
    assert!(matches!(stranger, PublishError::Useless(_)), "{stranger}");
    publisher.sign(&[&second]).unwrap();
    publisher.finish().unwrap();
    second = key();
    drop(second);
}

#[test]
fn two_people_sign_one_version_on_two_machines() {
    let site = Site::new();
    let second = key();
    let publisher = site.publisher();
    publisher
        .add_key(RoleType::Targets, &second.public())
        .unwrap();
    publisher
        .set_threshold(RoleType::Targets, 2.try_into().unwrap())
        .unwrap();
    publisher
        .sign(&[
            &site.roots[0],
            &site.roots[1],
            &site.release,
            &second,
            &site.online,
        ])
        .unwrap();
    publisher.finish().unwrap();

    publisher
        .add(&site.bundle("webapp@1.0"), entry("webapp@1.0", 1))
        .unwrap();
    publisher.sign(&[&site.online]).unwrap();
    // The repository is copied, each signs for itself, and the copies are joined.
    let copy = site.dir.path().join("copy");
    copy_dir(&site.repo(), &copy);
    publisher.sign(&[&site.release]).unwrap();
    let elsewhere = Publisher::open(&copy, Lives::default(), site.now).unwrap();
    elsewhere.sign(&[&second]).unwrap();
    assert!(matches!(
        elsewhere.finish(),
        Err(PublishError::Unsigned { .. })
    ));
    assert!(matches!(
        publisher.finish(),
        Err(PublishError::Unsigned { .. })
    ));
    publisher.merge(&copy).unwrap();
    publisher.finish().unwrap();

    // What was changed on one of them is not the same version any more.
    publisher
        .add(&site.bundle("webapp@1.1"), entry("webapp@1.1", 2))
        .unwrap();
    elsewhere
        .add(&site.bundle("webapp@1.2"), entry("webapp@1.2", 3))
        .unwrap();
    let different = publisher.merge(&copy).unwrap_err();
    assert!(
        matches!(different, PublishError::Different { .. }),
        "{different}"
    );
}

#[test]
fn a_role_that_nobody_could_sign_is_refused() {
    let site = Site::new();
    let publisher = site.publisher();
    let refused = publisher.remove_key(RoleType::Timestamp, &site.online.public());
    assert!(
        matches!(refused, Err(PublishError::Threshold { .. })),
        "{refused:?}"
    );
    let few = BTreeMap::from([("root", (vec![key().public()], 2))]);
    let dir = site.dir.path().join("other");
    let refused = Publisher::init(&dir, &few, Lives::default(), site.now).unwrap_err();
    assert!(
        matches!(refused, PublishError::Threshold { .. }),
        "{refused}"
    );
    assert!(!dir.exists());
}

fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
