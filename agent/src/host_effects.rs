//! What the machine wants done to the host, put together from fetching, trust, installers, checks and reboots.
//!
//! Decides nothing: it finds the records that a change speaks of, calls the one who can, and gives each failure its
//! class. Invariant: nothing is installed that did not pass `trust`, and nothing is staged where it would take the
//! directory of another product.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use comber_machine::{Active, Change, Found, Moment, Recipe};
use comber_model::release::{Check, Manifest, RebootPolicy, SystemChecks, When};
use comber_model::{
    Action, Artifact, Failure, FailureClass, Installed, ReleaseId, ReleaseName, Version,
};
use comber_runtime::clock::Clock;
use comber_runtime::telemetry::error_chain;

use crate::before::Before;
use crate::effects::{Activated, Effects, Noted, Verdict};
use crate::fetch::{Fetcher, Source};
use crate::health::{Health, Whole};
use crate::install::{
    Activation, AgentError, Current, Fit, InstallError, Installer, Kind, Record, Site,
};
use crate::preflight::{self, Need};
use crate::reboot::Reboot;
use crate::trust::{Assigned, Keeper, Listed, Runs, Verified, Wait};

/// Longest time for the checks before activation, whatever they ask for; the machine gives the whole preflight ten
/// minutes.
const BEFORE_MAX: Duration = Duration::from_mins(5);

/// The effects of one agent on its host.
#[derive(Debug)]
pub struct HostEffects<S> {
    site: Site,
    fetcher: Fetcher<S>,
    trust: Keeper,
    reboot: Reboot,
    whole: Whole,
    clock: Clock,
}

impl<S: Source> HostEffects<S> {
    /// Puts them together.
    pub fn new(
        site: Site,
        (fetcher, trust): (Fetcher<S>, Keeper),
        reboot: Reboot,
        whole: Whole,
        clock: Clock,
    ) -> Self {
        Self {
            site,
            fetcher,
            trust,
            reboot,
            whole,
            clock,
        }
    }

    /// The record of the release that a change brings, if it was staged.
    fn record(
        &self,
        release: &ReleaseId,
        artifact: &Artifact,
    ) -> Result<Option<Record>, InstallError> {
        let catalog = &self.site.catalog;
        Ok(catalog.find(&release.name, &release.version, &artifact.digest)?)
    }

    /// The record of what the ledger says was active.
    fn before(&self, change: &Change) -> Result<Option<Record>, InstallError> {
        let Some(Installed {
            version, digest, ..
        }) = &change.before
        else {
            return Ok(None);
        };
        let name = &change.release.name;
        Ok(self.site.catalog.find(name, version, digest)?)
    }

    /// An installer for the product, whichever release of it: the ones that are about the product alone.
    fn any(&self, product: &ReleaseName) -> Result<Option<Kind>, InstallError> {
        let records = self.site.catalog.of(product)?;
        Ok(records.first().map(|record| self.site.installer(record)))
    }

    fn staged(
        &self,
        release: &ReleaseId,
        artifact: &Artifact,
    ) -> Result<Option<Record>, InstallError> {
        let Some(record) = self.record(release, artifact)? else {
            return Ok(None);
        };
        Ok(self.site.installer(&record).is_staged()?.then_some(record))
    }

    fn active(&self, product: &ReleaseName) -> Result<Option<Record>, InstallError> {
        let Some(installer) = self.any(product)? else {
            return Ok(None);
        };
        Ok(match installer.detect()? {
            Current::Release(record) => Some(*record),
            Current::Nothing | Current::Foreign(_) => None,
        })
    }

    /// Whether the publisher lets this host install what was assigned.
    async fn listed(
        &self,
        change: &Change,
        artifact: &Artifact,
        wait: Wait,
    ) -> Result<Listed, Failure> {
        let active = self.active(&change.release.name);
        let active = active.map_err(fails(FailureClass::Fetch))?;
        let assigned = Assigned {
            release: &change.release,
            artifact,
            rolls_back: change.rolls_back,
            installed: active.map(|record| Runs {
                release: record.id(),
                digest: record.artifact.digest,
                counter: record.counter,
            }),
        };
        let judged = self.trust.judge(&assigned, wait).await;
        judged.map_err(|error| Failure::new(error.class(), error_chain(&error)))
    }

    async fn bring(&self, change: &Change, artifact: &Artifact) -> Result<Recipe, Failure> {
        let release = &change.release;
        // Also what is on the disk already may be withdrawn by now.
        let listed = self.listed(change, artifact, Wait::Long).await?;
        let staged = self.staged(release, artifact);
        if let Some(record) = staged.map_err(fails(FailureClass::Fetch))? {
            return Ok(Recipe::from(&record.manifest));
        }
        let missing = self.fetcher.missing(artifact);
        let needs = preflight::needs(artifact, missing, self.fetcher.staging(), &self.site.root);
        preflight::space(&needs).map_err(fails(FailureClass::Preflight))?;
        let verified = self.proven(&listed, release, artifact).await?;
        let record = Record::of(&verified);
        self.stage(&record, verified).await?;
        self.drop_part(artifact);
        Ok(Recipe::from(&record.manifest))
    }

    /// Fetches and proves. Bytes that an earlier process left may have lost in a power cut what had not reached the disk:
    /// that is no fault of the release, so then all of it is fetched once more.
    async fn proven(
        &self,
        listed: &Listed,
        release: &ReleaseId,
        artifact: &Artifact,
    ) -> Result<Verified, Failure> {
        let goes_on = self.fetcher.missing(artifact) < artifact.carried_length;
        match self.proven_once(listed, artifact).await {
            Err(failure) if goes_on && failure.class == FailureClass::Trust => {
                let detail = &failure.detail;
                tracing::warn!(%release, %detail, "what an earlier fetch left is damaged, all is fetched again");
                self.proven_once(listed, artifact).await
            }
            proven => proven,
        }
    }

    async fn proven_once(&self, listed: &Listed, artifact: &Artifact) -> Result<Verified, Failure> {
        let fetched = self.fetcher.fetch(artifact).await;
        let unverified = fetched.map_err(fails(FailureClass::Fetch))?;
        let listed = listed.clone();
        let judged = tokio::task::spawn_blocking(move || unverified.verify(&listed)).await;
        let judged = judged.map_err(fails(FailureClass::Fetch))?;
        judged.map_err(|error| {
            // Bytes that are wrong stay wrong; the next try begins with none.
            self.drop_part(artifact);
            Failure::new(error.class(), error_chain(&error))
        })
    }

    async fn stage(&self, record: &Record, verified: Verified) -> Result<(), Failure> {
        self.place(record)?;
        let need = Need {
            path: self.site.product_dir(record),
            bytes: record.artifact.length.saturating_mul(2),
        };
        preflight::space(&[need]).map_err(fails(FailureClass::Preflight))?;
        let staged = self.site.installer(record).stage(verified).await;
        // Proven bytes that cannot be unpacked are a matter of the disk.
        staged.map_err(fails(FailureClass::Fetch))
    }

    /// Also made before anything is staged: the catalog then knows one directory for each product.
    fn place(&self, record: &Record) -> Result<(), Failure> {
        let others = self.places().map_err(fails(FailureClass::Preflight))?;
        let dir = self.site.product_dir(record);
        preflight::place(&record.manifest.name, &dir, &others)
            .map_err(fails(FailureClass::Preflight))
    }

    fn places(&self) -> Result<Vec<(ReleaseName, PathBuf)>, InstallError> {
        let mut places = Vec::new();
        for product in self.site.catalog.products()? {
            if let Some(record) = self.site.catalog.of(&product)?.first() {
                places.push((product, self.site.product_dir(record)));
            }
        }
        Ok(places)
    }

    fn drop_part(&self, artifact: &Artifact) {
        if let Err(error) = self.fetcher.discard(&artifact.digest) {
            tracing::warn!(error = error_chain(&error), "fetched bytes are left behind");
        }
    }

    async fn preflight_of(&self, change: &Change, artifact: &Artifact) -> Result<Fit, Failure> {
        let release = &change.release;
        let class = FailureClass::Preflight;
        let record = self.staged(release, artifact).map_err(fails(class))?;
        let record = record.ok_or_else(|| gone(class, release))?;
        self.place(&record)?;
        let active = self.active_versions().map_err(fails(class))?;
        preflight::requires(&record.manifest, &active).map_err(fails(class))?;
        let before = self.active(&release.name).map_err(fails(class))?;
        let fit = self
            .site
            .installer(&record)
            .preflight(before.as_ref())
            .await;
        match fit.map_err(fails(class))? {
            Fit::Fits => {}
            none @ Fit::NotApplicable(_) => return Ok(none),
        }
        let checks: Vec<&Check> = record.manifest.checks_when(When::Before).collect();
        let once = |check: &&Check| (check.timeout + check.interval) * check.successes;
        let within = checks.iter().map(once).max().unwrap_or_default();
        let health = self.health(self.site.release_dir(&record), &record, None);
        let passed = health.all(&checks, within.min(BEFORE_MAX)).await;
        passed.map_err(fails(class))?;
        self.whole.can_judge().await.map_err(fails(class))?;
        Ok(Fit::Fits)
    }

    /// What the release wants of the whole host; the usual where it is not there to say.
    fn system_checks(&self, change: &Change) -> SystemChecks {
        let record = match &change.action {
            Action::Install { artifact } => self.record(&change.release, artifact),
            Action::Remove => Ok(None),
        };
        let record = record.ok().flatten();
        record.map_or_else(SystemChecks::default, |record| record.manifest.system)
    }

    /// True where the host runs in another boot than the one in which the activation began.
    fn rebooted(&self, before: &Before) -> Result<bool, Failure> {
        let boot_id = self.reboot.boot_id();
        Ok(boot_id.map_err(fails(FailureClass::Reboot))? != before.boot_id)
    }

    /// What must hold before the release's own checks: a host that is not up yet fails them for nothing. Returns what was
    /// noted before the activation, and whether it booted since.
    async fn up(
        &self,
        change: &Change,
        record: &Record,
    ) -> Result<(Option<Before>, bool), Failure> {
        let before = self
            .whole
            .before(change)
            .map_err(fails(FailureClass::Health))?;
        let rebooted = match &before {
            Some(before) => self.rebooted(before)?,
            // Begun by an agent that noted nothing.
            None => record.manifest.reboot != RebootPolicy::Never,
        };
        if rebooted {
            let up = self.whole.came_up(record.manifest.system.up).await;
            up.map_err(fails(FailureClass::Reboot))?;
        }
        Ok((before, rebooted))
    }

    /// All that an activated release is judged by, in an order in which the first failure is the most telling one.
    async fn judge(
        &self,
        change: &Change,
        record: &Record,
        health: &Health,
    ) -> Result<(), Failure> {
        let class = FailureClass::Health;
        let (before, rebooted) = self.up(change, record).await?;
        let Manifest {
            timeouts, system, ..
        } = &record.manifest;
        let proved = self.site.installer(record).prove().await;
        proved.map_err(fails(class))?;
        let reached = async {
            if !system.controller {
                return Ok(());
            }
            let reached = self.whole.reaches_controller(rebooted, timeouts.verify);
            reached.await
        };
        let checks: Vec<&Check> = record.manifest.checks_when(When::After).collect();
        let passed = health.all(&checks, timeouts.verify);
        let (passed, reached) = tokio::join!(passed, reached);
        passed.map_err(fails(class))?;
        let settled = self.whole.nothing_new_failed(before.as_ref(), system).await;
        settled.map_err(fails(class))?;
        reached.map_err(fails(class))
    }

    fn active_versions(&self) -> Result<BTreeMap<ReleaseName, Version>, InstallError> {
        let mut versions = BTreeMap::new();
        for product in self.site.catalog.products()? {
            if let Some(record) = self.active(&product)? {
                versions.insert(product, record.manifest.version);
            }
        }
        Ok(versions)
    }

    fn health(&self, dir: PathBuf, record: &Record, before: Option<&Record>) -> Health {
        Health {
            exec: self.site.exec.clone(),
            dir,
            variables: self.site.variables_for(record, before),
            clock: self.clock.clone(),
        }
    }

    async fn switch(&self, change: &Change) -> Result<Activation, InstallError> {
        match &change.action {
            Action::Install { artifact } => {
                let record = self.staged(&change.release, artifact)?;
                let record = record.ok_or_else(|| self.missing(&change.release, artifact))?;
                let before = self.before(change)?;
                self.site.installer(&record).activate(before.as_ref()).await
            }
            Action::Remove => match self.any(&change.release.name)? {
                Some(installer) => installer.remove().await.map(|()| Activation::default()),
                None => Ok(Activation::default()),
            },
        }
    }

    fn missing(&self, release: &ReleaseId, artifact: &Artifact) -> InstallError {
        InstallError::Gone {
            release: release.to_string(),
            path: self.fetcher.part(&artifact.digest),
        }
    }

    async fn switch_back(&self, change: &Change) -> Result<(), Failure> {
        let class = FailureClass::Rollback;
        let before = self.before(change).map_err(fails(class))?;
        if let (Some(installed), None) = (&change.before, &before) {
            let lost = ReleaseId {
                name: change.release.name.clone(),
                version: installed.version.clone(),
            };
            return Err(gone(class, &lost));
        }
        // With no record of the product at all, nothing of it was ever staged here, and nothing is what was before.
        let Some(installer) = self.any(&change.release.name).map_err(fails(class))? else {
            return Ok(());
        };
        let back = installer.roll_back(before.as_ref()).await;
        back.map_err(fails(class))
    }

    async fn verdict(&self, change: &Change, activated: bool) -> Result<Verdict, InstallError> {
        let active = self.active(&change.release.name)?;
        let Action::Install { artifact } = &change.action else {
            return Ok(match active {
                None => Verdict::Passed,
                Some(_) => Verdict::Drifted,
            });
        };
        let Some(record) = active.filter(|active| active.artifact.digest == artifact.digest) else {
            return Ok(Verdict::Drifted);
        };
        let before = self.before(change)?;
        let dir = self.site.current_dir(&record);
        let health = self.health(dir, &record, before.as_ref());
        let judged = if activated {
            self.judge(change, &record, &health).await
        } else {
            self.look_at(&record, &health).await
        };
        if let Err(failure) = judged {
            return Ok(Verdict::Failed(failure));
        }
        Ok(match self.site.installer(&record).commit().await {
            Ok(()) => Verdict::Passed,
            Err(error) => Verdict::Failed(fails(FailureClass::Install)(error)),
        })
    }

    /// Nothing was activated, so only the release is judged.
    async fn look_at(&self, record: &Record, health: &Health) -> Result<(), Failure> {
        let class = FailureClass::Health;
        let proved = self.site.installer(record).prove().await;
        proved.map_err(fails(class))?;
        let checks: Vec<&Check> = record.manifest.checks_when(When::After).collect();
        let passed = health.all(&checks, record.manifest.timeouts.verify).await;
        passed.map_err(fails(class))
    }

    fn look(&self) -> Result<Found, InstallError> {
        let mut found = Found::default();
        for product in self.site.catalog.products()? {
            match self.active(&product) {
                Ok(Some(record)) => {
                    let active = Active {
                        version: record.manifest.version.clone(),
                        digest: record.artifact.digest,
                        recipe: Recipe::from(&record.manifest),
                    };
                    found.active.insert(product.clone(), active);
                }
                Ok(None) => {}
                Err(error) => {
                    let error = error_chain(&error);
                    tracing::warn!(%product, error, "what is active cannot be told");
                }
            }
            let mut kept = std::collections::BTreeSet::new();
            for record in self.site.catalog.of(&product)? {
                let installer = self.site.installer(&record);
                if installer.is_unfinished() {
                    found.unfinished.insert(product.clone());
                }
                if installer.is_staged()? {
                    kept.insert(record.manifest.version);
                }
            }
            found.kept.insert(product, kept);
        }
        if let Some((release, why)) = self.site.itself.undone().map_err(AgentError::from)? {
            let failure = Failure::new(FailureClass::Health, why);
            found.undone.insert(release, failure);
        }
        Ok(found)
    }
}

impl<S: Source + 'static> Effects for HostEffects<S> {
    async fn inspect(&self) -> Result<Found, Failure> {
        self.look().map_err(fails(FailureClass::Install))
    }

    async fn fetch(&self, change: &Change) -> Result<Recipe, Failure> {
        match &change.action {
            Action::Install { artifact } => self.bring(change, artifact).await,
            Action::Remove => {
                let active = self.active(&change.release.name);
                let active = active.map_err(fails(FailureClass::Fetch))?;
                Ok(active.map_or_else(Recipe::default, |record| Recipe::from(&record.manifest)))
            }
        }
    }

    async fn preflight(&self, change: &Change) -> Result<Fit, Failure> {
        match &change.action {
            Action::Install { artifact } => self.preflight_of(change, artifact).await,
            Action::Remove => Ok(Fit::Fits),
        }
    }

    async fn note(&self, change: &Change, leave: &Moment) -> Result<Noted, Failure> {
        // Days may have passed since it was staged. Before the note, which looks at the clock last.
        if let Action::Install { artifact } = &change.action {
            self.listed(change, artifact, Wait::Short).await?;
        }
        let exec = &self.site.exec;
        let noted = self.whole.note(change, leave, &self.reboot, exec).await;
        noted.map_err(fails(FailureClass::Preflight))
    }

    async fn activate(&self, change: &Change) -> Result<Activated, Failure> {
        let class = FailureClass::Install;
        let switched = self.switch(change).await;
        let activation = switched.map_err(fails(class))?;
        let before = self.whole.before(change).map_err(fails(class))?;
        let now = self.reboot.need.mark(&self.site.exec).await;
        let before = before.map(|before| before.reboot);
        Ok(Activated {
            needs_reboot: activation.needs_reboot
                || self.reboot.need.is_needed(before.as_ref(), &now),
        })
    }

    async fn reboot(&self, release: &ReleaseId) -> Result<(), String> {
        let (exec, name) = (&self.site.exec, release.to_string());
        let may = self.reboot.may(exec, &name).await;
        may.map_err(|error| error_chain(&error))?;
        // On the way back nothing of the product may be active.
        let installer = self.any(&release.name);
        if let Some(installer) = installer.map_err(|error| error_chain(&error))? {
            let asked = installer.reboot().await;
            if asked.map_err(|error| error_chain(&error))? {
                return Ok(());
            }
        }
        tracing::info!(%release, "asks the host to reboot");
        let asked = self.reboot.ask(exec, &name).await;
        asked.map_err(|error| error_chain(&error))
    }

    async fn verify(&self, change: &Change, activated: bool) -> Verdict {
        let verdict = self.verdict(change, activated).await;
        verdict.unwrap_or_else(|error| Verdict::Failed(fails(FailureClass::Health)(error)))
    }

    async fn verify_back(&self, change: &Change) -> Result<(), Failure> {
        let class = FailureClass::Rollback;
        let checks = self.system_checks(change);
        let up = self.whole.came_up(checks.up).await;
        up.map_err(fails(class))?;
        let installer = self.any(&change.release.name).map_err(fails(class))?;
        if let Some(installer) = installer {
            installer.prove_back().await.map_err(fails(class))?;
        }
        let before = self.whole.before(change).map_err(fails(class))?;
        let settled = self.whole.nothing_new_failed(before.as_ref(), &checks);
        settled.await.map_err(fails(class))
    }

    async fn roll_back(&self, change: &Change) -> Result<(), Failure> {
        self.switch_back(change).await
    }

    fn ends_with_agent(&self) -> bool {
        self.site.itself.is_leaving()
    }

    async fn cleanup(&self, product: &ReleaseName, keep: &[Version]) {
        self.fetcher.discard_all();
        self.whole.forget();
        let cleaned = match self.any(product) {
            Ok(Some(installer)) => installer.cleanup(keep).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = cleaned {
            tracing::warn!(%product, error = error_chain(&error), "old releases are left behind");
        }
    }
}

/// Gives an error its class and tells its causes.
fn fails<E: Error + 'static>(class: FailureClass) -> impl Fn(E) -> Failure {
    move |error| Failure::new(class, error_chain(&error))
}

fn gone(class: FailureClass, release: &ReleaseId) -> Failure {
    Failure::new(class, format!("{release} is not on this host any more"))
}

#[cfg(test)]
mod tests;
