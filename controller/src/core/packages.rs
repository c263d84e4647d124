//! Lists of installed packages: taken in as differences, kept in the store, and asked for by name.
//!
//! ```text
//! ReportPackages ─▶ read the base from the store ─▶ apply, check the digest ─▶ edit: parts that changed + host record
//! a selector     ─▶ its package names ─▶ scan their parts once ─▶ versions in the hosts' views, kept true by edits
//! ```
//!
//! In memory a host has the digest and length of its list, and the versions of packages that some selector asks for;
//! the lists are in the store alone. Invariant: a host's record and all parts of its list change in one transaction, so
//! the digest in the record is that of the parts.

mod asked;
mod parts;

use std::collections::BTreeSet;
use std::sync::Arc;

use comber_model::packages::{Difference, PackageList, PackageSummary};
use comber_model::rollout::RolloutSpec;
use comber_model::{Digest, HostId, Invalid};
use sha2::{Digest as _, Sha256};

use super::edit::Edit;
use super::{Core, CoreError, LoadError, World};
use crate::store::{Op, Store};

pub(crate) use asked::Asked;
#[cfg(test)]
pub(crate) use parts::PackagePart;

/// Tries to read a list that is being replaced meanwhile.
const READS: usize = 3;

/// What one call of a host says.
#[derive(Debug)]
pub struct PackageReport {
    /// The list that the difference is against; `None`: it is a whole list.
    pub base: Option<Digest>,
    /// The list that comes out.
    pub result: Digest,
    /// What leads from one to the other.
    pub difference: Difference,
}

impl Core {
    /// Takes in what changed of a host's packages; gives the list that is durable on return. That is another one than
    /// the report's where its base is not held here: then nothing was changed.
    pub async fn report_packages(
        &self,
        host: &HostId,
        report: PackageReport,
    ) -> Result<Option<PackageSummary>, CoreError> {
        let held = self.read().await.enrolled(host)?.host.packages;
        let held_digest = held.map(|held| held.digest);
        let unknown_base = report.base.is_some() && report.base != held_digest;
        if held_digest == Some(report.result) || unknown_base {
            return Ok(held);
        }
        let name = host.clone();
        let made = self
            .store
            .read(move |store| Ok(make(store, &name, &report)))
            .await
            .map_err(|error| CoreError::Stopped(error.to_string()))?;
        let Some(news) = made? else {
            // What is stored is not what the record says. It is replaced as a whole.
            return Ok(None);
        };
        let name = host.clone();
        self.edit(move |edit| put(edit, &name, held, news)).await
    }

    /// A host's list; `None` where it never sent one.
    pub async fn packages(
        &self,
        host: &HostId,
    ) -> Result<Option<(PackageSummary, PackageList)>, CoreError> {
        for _ in 0..READS {
            let held = {
                let world = self.read().await;
                let view = world.input.hosts.get(host);
                view.ok_or_else(|| CoreError::missing("host", host))?
                    .host
                    .packages
            };
            let Some(held) = held else { return Ok(None) };
            let name = host.clone();
            let list = self
                .store
                .read(move |store| Ok(parts::read(store, &name)))
                .await
                .map_err(|error| CoreError::Stopped(error.to_string()))?
                .map_err(unreadable)?;
            if digest(&list) == held.digest {
                return Ok(Some((held, list)));
            }
        }
        let why = format!("the packages of {host} are changing; try again");
        Err(CoreError::Refused(why))
    }

    /// Has the versions of these packages in the hosts' views from now on.
    pub async fn ask_packages(&self, names: BTreeSet<Arc<str>>) -> Result<(), CoreError> {
        if self.read().await.asked.has(&names) {
            return Ok(());
        }
        let wanted = names.clone();
        self.edit(move |edit| {
            edit.world.ask(wanted);
            Ok(())
        })
        .await?;
        // What was reported before is durable now and read here; what is reported meanwhile is noted as it comes.
        let found = self
            .store
            .read(move |store| Ok(parts::scan(store, &names).map(|found| (names, found))))
            .await
            .map_err(|error| CoreError::Stopped(error.to_string()))?
            .map_err(unreadable)?;
        self.edit(move |edit| {
            edit.world.answer(&found.0, found.1);
            Ok(())
        })
        .await
    }

    /// The same for all that the selectors of a rollout file and of its release ask for.
    pub async fn ask_packages_of(&self, spec: &RolloutSpec) -> Result<(), CoreError> {
        let names = {
            let world = self.read().await;
            let release = world.input.releases.get(&spec.release);
            comber_planner::asked_packages(spec, release.map(AsRef::as_ref))
        };
        self.ask_packages(names).await
    }
}

/// A list that is ready to be written.
struct News {
    summary: PackageSummary,
    list: PackageList,
    ops: Vec<Op>,
}

/// Makes the new list; `None` where the base in the store is not what the report is against.
fn make(store: &Store, host: &HostId, report: &PackageReport) -> Result<Option<News>, CoreError> {
    let base = match report.base {
        None => PackageList::default(),
        Some(base) => match parts::read(store, host) {
            Ok(list) if digest(&list) == base => list,
            Ok(_) | Err(LoadError::Record { .. }) => return Ok(None),
            Err(error @ LoadError::Read(_)) => return Err(unreadable(error)),
        },
    };
    let refuse = |error: Invalid| CoreError::Invalid(vec![error]);
    let list = base.apply(&report.difference).map_err(refuse)?;
    if digest(&list) != report.result {
        let problem = "is not the digest of the list that the difference makes";
        return Err(refuse(Invalid::new("change.result", problem)));
    }
    let touched = report.base.map(|_| &report.difference);
    let ops = parts::ops(host, &list, touched).map_err(refuse)?;
    let count = u32::try_from(list.count()).unwrap_or(u32::MAX);
    let summary = PackageSummary {
        digest: report.result,
        count,
    };
    Ok(Some(News { summary, list, ops }))
}

fn put(
    edit: &mut Edit<'_>,
    id: &HostId,
    base: Option<PackageSummary>,
    news: News,
) -> Result<Option<PackageSummary>, CoreError> {
    let view = edit.world.enrolled(id)?;
    if view.host.packages != base {
        // Another call of the same host was faster; it is told what stands.
        return Ok(view.host.packages);
    }
    let mut host = view.host.clone();
    host.packages = Some(news.summary);
    edit.world.note(id, &news.list);
    edit.put_host(host, news.ops);
    Ok(Some(news.summary))
}

/// Removes a host's list; its record is to say so in the same group.
pub(crate) fn forget(edit: &mut Edit<'_>, host: &HostId) -> Vec<Op> {
    edit.world.note(host, &PackageList::default());
    parts::removal(host)
}

/// Brings the versions that the stored rollouts ask for into the hosts' views.
pub(crate) fn load(store: &Store, world: &mut World) -> Result<(), LoadError> {
    let names = world.asked_by_rollouts();
    world.ask(names.clone());
    let found = parts::scan(store, &names)?;
    world.answer(&names, found);
    Ok(())
}

fn unreadable(error: LoadError) -> CoreError {
    match error {
        LoadError::Read(error) => CoreError::Stopped(error.to_string()),
        error @ LoadError::Record { .. } => CoreError::Refused(error.to_string()),
    }
}

fn digest(list: &PackageList) -> Digest {
    Digest(Sha256::digest(list.as_text()).into())
}

#[cfg(test)]
mod tests;
