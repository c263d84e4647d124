//! A host that looks at the publisher's list while the controller goes on to the next one.
//!
//! The controller shows the files of its newest list only, so a look that began with the one before misses the rest of it.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use comber_trust::Fetching;

use super::*;
use crate::testing::TestHost;

/// Shows the timestamp of `before` so many times, and everything else as it is now, without the list that came before.
struct Relay {
    metadata: PathBuf,
    before: PathBuf,
    stale: AtomicU32,
}

impl Source for Relay {
    fn fetch<'a>(&'a self, name: &'a str) -> Fetching<'a> {
        Box::pin(async move {
            let takes_one = |left: u32| left.checked_sub(1);
            let stale = || {
                let (order, stale) = (Ordering::SeqCst, &self.stale);
                stale.fetch_update(order, order, takes_one).is_ok()
            };
            if name == "timestamp.json" && stale() {
                return fs::read(self.before.join(name)).map(Some);
            }
            let is_old = !name.ends_with("root.json") && self.before.join(name).exists();
            match fs::read(self.metadata.join(name)) {
                _ if is_old && name != "timestamp.json" => Ok(None),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                read => read.map(Some),
            }
        })
    }
}

/// Judges a release that both lists have, just before an activation, where the older list is begun with so many times.
async fn judged(stale: u32) -> Result<Listed, TrustError> {
    let host = TestHost::new();
    let (carried, id) = host.bundle("webapp", "1", "");
    host.list(&carried, &id);
    let (metadata, before) = (host.vendor().metadata(), host.dir().join("before"));
    fs::create_dir(&before).unwrap();
    for entry in fs::read_dir(&metadata).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), before.join(entry.file_name())).unwrap();
    }
    let (other, next) = host.bundle("webapp", "2", "");
    host.list(&other, &next);
    super::super::pin(&host.state(), &host.vendor().root()).unwrap();
    let relay = Relay {
        metadata,
        before,
        stale: AtomicU32::new(stale),
    };
    let clock = Clock::system();
    let keeper = Keeper::new(&host.state(), Arc::new(relay), Patience::default(), clock);
    let assigned = Assigned {
        release: &id,
        artifact: &carried.artifact,
        rolls_back: false,
        installed: None,
    };
    keeper.judge(&assigned, Wait::Short).await
}

#[tokio::test]
async fn a_list_that_is_replaced_while_it_is_read_is_read_anew() {
    assert_eq!(judged(0).await.unwrap().counter(), 1);
    assert_eq!(judged(1).await.unwrap().counter(), 1);
    assert_eq!(judged(LOOKS - 1).await.unwrap().counter(), 1);
}

#[tokio::test]
async fn what_a_list_names_and_nobody_shows_is_not_waited_for_for_ever() {
    let refused = judged(u32::MAX).await.unwrap_err();
    assert!(
        matches!(refused, TrustError::Metadata(_) | TrustError::Away(_)),
        "{refused:?}"
    );
}
