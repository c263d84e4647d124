//! Reporting packages: a difference against the list that the controller says it holds, at most once per change.
//!
//! The controller says which list it holds first thing on a stream, and again in each answer. Where that is the present
//! one nothing is sent; where it is the one in our file, the difference; else the whole list. So an agent that restarted
//! sends nothing, and a controller that was restored from a backup gets what it lacks. Invariant: a failed call is
//! repeated ever more slowly, never in a loop.

use std::{convert::Infallible, path::PathBuf, sync::Arc, time::Duration};

use comber_model::{
    Digest,
    packages::{Difference, LIST_BYTES_MAX, PackageList},
    wire::{known_packages, package_change_to_wire},
};
use comber_proto::agent::v1::{
    ReportPackagesRequest, agent_link_service_client::AgentLinkServiceClient,
};
use comber_runtime::{backoff::Backoff, fsx};
use tokio::sync::watch;
use tonic::transport::Channel;

use super::calls::{CallError, failed};
use crate::{config::LinkSettings, packages::HostPackages};

/// Bytes of purls in one part, below what the controller takes in one message.
const PART_BYTES: usize = 32 << 10;
/// A whole list over a slow line, and a controller that is busy with the lists of others.
const CALL_MAX: Duration = Duration::from_mins(2);

/// Which list the controller holds: `None` until it said so, then the list, where it holds one.
pub(super) type Held = Option<Option<Digest>>;

/// The packages to report, and the list last acknowledged.
#[derive(Debug)]
pub struct Packages {
    /// What is installed.
    pub present: watch::Receiver<Option<Arc<HostPackages>>>,
    /// Where the list that the controller acknowledged is kept, to make differences against it. It may be lost.
    pub file: PathBuf,
}

/// Reports for as long as the session lasts.
pub(super) async fn report(
    channel: Channel,
    packages: &Packages,
    mut said: watch::Receiver<Held>,
    settings: LinkSettings,
) -> Infallible {
    let mut backoff = Backoff::new(settings.backoff_min, settings.backoff_max);
    let mut present = packages.present.clone();
    let mut held: Held = *said.borrow_and_update();
    loop {
        if said.has_changed().unwrap_or(false) {
            held = *said.borrow_and_update();
        }
        let news = present.borrow_and_update().clone();
        if let (Some(known), Some(news)) = (held, news)
            && known != Some(news.digest)
        {
            match send(channel.clone(), packages, known, &news).await {
                Ok(answer) if answer == Some(news.digest) => {
                    backoff.reset();
                    held = Some(answer);
                    remember(packages.file.clone(), news).await;
                }
                Ok(answer) => {
                    tracing::info!("the controller holds another list of packages than it said");
                    held = Some(answer);
                    tokio::time::sleep(backoff.next_random()).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "packages could not be reported");
                    tokio::time::sleep(backoff.next_random()).await;
                }
            }
            continue;
        }
        wait(&mut present, &mut said).await;
    }
}

async fn wait(
    present: &mut watch::Receiver<Option<Arc<HostPackages>>>,
    said: &mut watch::Receiver<Held>,
) {
    let changed = tokio::select! {
        // Both arms are cancel-safe: a change that was not seen stays unseen.
        changed = present.changed() => changed,
        changed = said.changed() => {
            // It is looked at by the loop.
            said.mark_changed();
            changed
        }
    };
    if changed.is_err() {
        // Whoever reads the packages has ended, and with it soon the session; there is nothing more to report.
        std::future::pending::<()>().await;
    }
}

/// Gives the list that the controller holds afterwards.
async fn send(
    channel: Channel,
    packages: &Packages,
    held: Option<Digest>,
    news: &HostPackages,
) -> Result<Option<Digest>, CallError> {
    let base = match held {
        Some(digest) => remembered(packages.file.clone(), digest).await,
        None => None,
    };
    let nothing = PackageList::default();
    let from = base.as_ref().map_or(&nothing, |base| &base.list);
    let difference = news.list.difference(from);
    tracing::info!(
        whole = base.is_none(),
        removed = difference.removed.len(),
        added = difference.added.len(),
        "packages are reported"
    );
    let change = package_change_to_wire(base.map(|base| base.digest), news.digest);
    let mut parts = parts(difference);
    parts[0].change = Some(change);
    let mut client = AgentLinkServiceClient::new(channel);
    let call = client.report_packages(tokio_stream::iter(parts));
    let answer = match tokio::time::timeout(CALL_MAX, call).await {
        Ok(answered) => answered.map_err(|status| failed(&status))?.into_inner(),
        Err(_) => return Err(CallError::Timeout(CALL_MAX)),
    };
    known_packages(&answer.digest).map_err(|error| CallError::Other(error.to_string()))
}

/// Cuts a difference into messages; at least one.
fn parts(difference: Difference) -> Vec<ReportPackagesRequest> {
    let mut parts = vec![ReportPackagesRequest::default()];
    let mut bytes = 0;
    let removed = difference.removed.into_iter().map(|purl| (true, purl));
    let added = difference.added.into_iter().map(|purl| (false, purl));
    for (goes, purl) in removed.chain(added) {
        if bytes + purl.len() > PART_BYTES {
            parts.push(ReportPackagesRequest::default());
            bytes = 0;
        }
        bytes += purl.len();
        if let Some(part) = parts.last_mut() {
            let list = if goes {
                &mut part.removed
            } else {
                &mut part.added
            };
            list.push(purl);
        }
    }
    parts
}

/// The list that was acknowledged last, where it is the one asked for.
async fn remembered(file: PathBuf, digest: Digest) -> Option<HostPackages> {
    let read = move || {
        let bytes = fsx::read_limited(&file, LIST_BYTES_MAX as u64).ok()?;
        let list = PackageList::parse(std::str::from_utf8(&bytes).ok()?).ok()?;
        Some(HostPackages::new(list)).filter(|known| known.digest == digest)
    };
    tokio::task::spawn_blocking(read).await.ok()?
}

async fn remember(file: PathBuf, news: Arc<HostPackages>) {
    let write = move || fsx::write_atomic(&file, news.list.as_text().as_bytes(), 0o600);
    let problem = match tokio::task::spawn_blocking(write).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    // The next report is a whole list then.
    tracing::warn!(problem, "the reported packages cannot be kept");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_below_what_the_controller_takes() {
        let purls = |what: &str| {
            let purl = |n| format!("pkg:deb/debian/{what}{n:05}@1.2.3-4?arch=amd64");
            (0..4000).map(purl).collect::<Vec<String>>()
        };
        let difference = Difference {
            removed: purls("old"),
            added: purls("new"),
        };
        let cut = parts(difference.clone());
        assert!(cut.len() > 5);
        let size = |purls: &[String]| purls.iter().map(|purl| purl.len() + 4).sum::<usize>();
        for part in &cut {
            assert!(size(&part.removed) + size(&part.added) < 60 << 10);
        }
        let joined = Difference {
            removed: cut.iter().flat_map(|part| part.removed.clone()).collect(),
            added: cut.iter().flat_map(|part| part.added.clone()).collect(),
        };
        assert_eq!(joined, difference);
        assert_eq!(parts(Difference::default()).len(), 1);
    }

    #[tokio::test]
    async fn a_file_that_is_lost_or_damaged_is_no_base() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("packages");
        let purl = "pkg:deb/debian/bash@5.2?arch=amd64";
        let list = PackageList::new([purl.parse().unwrap()]).unwrap();
        let news = Arc::new(HostPackages::new(list));
        assert_eq!(remembered(file.clone(), news.digest).await, None);
        remember(file.clone(), Arc::clone(&news)).await;
        let known = remembered(file.clone(), news.digest).await;
        assert_eq!(known.as_ref(), Some(&*news));
        assert_eq!(remembered(file.clone(), Digest([0; 32])).await, None);
        std::fs::write(&file, [0xff; 10]).unwrap();
        assert_eq!(remembered(file, news.digest).await, None);
    }
}
