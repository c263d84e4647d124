//! Keys that change hands while hosts sleep.

use comber_trust::{Record, RoleType, Signer, VerifyError};

use crate::relay::{Site, key, names, role_of};

/// Publishes a root in which one of the root keys was exchanged.
fn exchange(site: &mut Site, which: usize) {
    let publisher = site.publisher();
    let fresh = key();
    publisher.add_key(RoleType::Root, &fresh.public()).unwrap();
    publisher
        .remove_key(RoleType::Root, &site.roots[which].public())
        .unwrap();
    let old: Vec<&dyn Signer> = site.roots.iter().map(|key| key as &dyn Signer).collect();
    publisher.sign(&old).unwrap();
    publisher.sign(&[&fresh, &site.online]).unwrap();
    publisher.finish().unwrap();
    site.roots[which] = fresh;
}

#[tokio::test]
async fn a_host_that_slept_through_three_roots_follows_them() {
    let mut site = Site::new();
    site.release("webapp@1.0", 1);
    let (early, late) = (site.host(), site.host());
    early.look(&site.metadata()).await.unwrap();
    for which in 0..3 {
        exchange(&mut site, which);
    }
    for host in [early, late] {
        let listing = host.look(&site.metadata()).await.unwrap();
        assert_eq!(listing.versions[0], 4);
        assert_eq!(names(&listing), ["webapp@1.0"]);
        // From here on it begins at the newest root: keys of the first are worth nothing to it.
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let begins_at = parse(&Record::load(&host.record()).unwrap().root);
        assert_eq!(begins_at, parse(&site.root(4)));
    }
}

#[tokio::test]
async fn a_revoked_release_key_is_refused_everywhere() {
    let mut site = Site::new();
    site.release("webapp@1.0", 1);
    let host = site.host();
    host.look(&site.metadata()).await.unwrap();
    // The thief of the old key makes a list of his own from here.
    let stolen = std::mem::replace(&mut site.release, key());
    let publisher = site.publisher();
    publisher
        .add_key(RoleType::Targets, &site.release.public())
        .unwrap();
    publisher
        .remove_key(RoleType::Targets, &stolen.public())
        .unwrap();
    publisher
        .sign(&[&site.roots[0], &site.roots[1], &site.release, &site.online])
        .unwrap();
    publisher.finish().unwrap();
    host.look(&site.metadata()).await.unwrap();
    let publisher = site.publisher();
    let bundle = site.bundle("evil");
    publisher
        .add(&bundle, crate::relay::entry("webapp@6.6.6", 666))
        .unwrap();
    assert!(publisher.sign(&[&stolen]).is_err());
    // He signs by hand, and whoever relays it shows that to the host.
    publisher.sign(&[&site.online]).unwrap();
    let staged = site.repo().join("staged");
    let mut list: tough::schema::Signed<tough::schema::Targets> =
        serde_json::from_slice(&std::fs::read(staged.join("targets.json")).unwrap()).unwrap();
    let message = tough::schema::Role::canonical_form(&list.signed).unwrap();
    list.signatures.push(stolen.sign(&message).unwrap());
    let shown = site.photograph("shown");
    let version = list.signed.version;
    for (role, name) in [
        ("snapshot", format!("{version}.snapshot.json")),
        ("timestamp", "timestamp.json".into()),
    ] {
        std::fs::copy(staged.join(format!("{role}.json")), shown.join(name)).unwrap();
    }
    let json = serde_json::to_vec(&list).unwrap();
    std::fs::write(shown.join(format!("{version}.targets.json")), json).unwrap();
    let before = Record::load(&host.record()).unwrap();
    let refused = host.look(&shown).await.unwrap_err();
    assert!(matches!(refused, VerifyError::Refused(_)), "{refused:?}");
    let after = Record::load(&host.record()).unwrap();
    assert_eq!(after.targets, before.targets);
    // The thief also had the online key, so that host waits for a newer timestamp; another one is not harmed.
    let other = site.host().look(&site.metadata()).await.unwrap();
    assert_eq!(names(&other), ["webapp@1.0"]);
}

#[tokio::test]
async fn versions_that_a_thief_inflated_are_forgotten_with_his_key() {
    let mut site = Site::new();
    let host = site.host();
    // The thief of the online key raises the timestamp far beyond what the publisher has.
    let before = site.photograph("before");
    for _ in 0..5 {
        site.publisher().refresh().unwrap();
        site.publisher().sign(&[&site.online]).unwrap();
        site.publisher().finish().unwrap();
    }
    assert_eq!(host.look(&site.metadata()).await.unwrap().versions[1], 6);
    let old = host.look(&before).await.unwrap_err();
    assert_eq!(role_of(&old), Some(RoleType::Timestamp), "{old}");
    // The publisher begins again from the copy that he trusts, with another online key.
    std::fs::remove_dir_all(site.repo()).unwrap();
    std::fs::create_dir_all(site.repo().join("staged")).unwrap();
    for part in ["metadata", "targets"] {
        let from = before.parent().unwrap().join(part);
        std::fs::rename(from, site.repo().join(part)).unwrap();
    }
    let stolen = std::mem::replace(&mut site.online, key());
    let publisher = site.publisher();
    for role in [RoleType::Timestamp, RoleType::Snapshot] {
        publisher.add_key(role, &site.online.public()).unwrap();
        publisher.remove_key(role, &stolen.public()).unwrap();
    }
    publisher
        .sign(&[&site.roots[0], &site.roots[1], &site.online])
        .unwrap();
    publisher.finish().unwrap();
    let listing = host.look(&site.metadata()).await.unwrap();
    assert_eq!(listing.versions, [2, 2, 2, 1]);
}
