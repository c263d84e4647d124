//! Whether a host that was cut off ended on one side, and whether everybody says the same of it.
//!
//! Compares four sources that do not know of one another: the product on the host, the agent's ledger, the controller's
//! outcome, and the package database. Changes nothing.

use anyhow::{Context as _, Result, ensure};
use comber_machine::{Ledger, State};

use crate::trial::{Trial, When};
use crate::vendor::{Made, Vendor};
use crate::{Host, HostLab, STATE_DIR};

/// What the host's own package database finds wrong with itself; a host of rpm has none of dpkg.
const AUDIT: &str =
    "if [ -d /var/lib/dpkg ]; then dpkg --audit; else rpmdb --verifydb 2>&1; fi || echo it says $?";

/// What is known of a trial at its end.
pub(crate) struct Case<'a> {
    pub(crate) trial: &'a Trial,
    pub(crate) made: &'a Made,
    /// What was installed before.
    pub(crate) before: Option<&'a str>,
    /// Whether the controller was told that it succeeded.
    pub(crate) succeeded: bool,
}

/// Insists on all of it.
pub(crate) fn prove(
    case: &Case<'_>,
    lab: &HostLab,
    host: &Host,
    vendor: &dyn Vendor,
) -> Result<()> {
    let wish = case.trial.wish;
    let was_cut = !matches!(case.trial.when, When::Never);
    let may_be_undone = wish.good && was_cut && !vendor.goes_on();
    ensure!(
        case.succeeded == wish.good || may_be_undone,
        "the release is good: {}, and the host is told to have succeeded: {}",
        wish.good,
        case.succeeded
    );
    let installed = vendor.installed(host)?;
    let stays = case.succeeded || wish.irreversible;
    let expected = if stays {
        Some(case.made.version.as_str())
    } else {
        case.before
    };
    ensure!(
        installed.as_deref() == expected,
        "{installed:?} is installed and not {expected:?}"
    );
    vendor.prove_whole(host)?;
    let ledger = host.ledger().context("no ledger")?;
    let (name, _) = case.made.release.split_once('@').context("no release id")?;
    ledger_agrees(case, &ledger, name, expected)?;
    controller_agrees(lab, host, name, expected)?;
    let audit = host.shell(AUDIT)?;
    ensure!(
        audit.is_empty(),
        "the package database is not whole: {audit}"
    );
    let left = host.shell(&format!("ls {STATE_DIR}/staging 2>/dev/null || true"))?;
    ensure!(left.is_empty(), "staged bytes are left: {left}");
    Ok(())
}

fn ledger_agrees(
    case: &Case<'_>,
    ledger: &Ledger,
    name: &str,
    expected: Option<&str>,
) -> Result<()> {
    let known = ledger.installed.iter();
    let mut known = known.filter(|(product, _)| product.as_str() == name);
    let known = known
        .next()
        .map(|(_, product)| product.installed.version.to_string());
    ensure!(
        known.as_deref() == expected,
        "the ledger says that {known:?} is installed and not {expected:?}"
    );
    let broken = matches!(ledger.state, State::Broken { .. });
    ensure!(
        broken == case.trial.wish.irreversible,
        "the agent is {}",
        ledger.state.kind()
    );
    let mut bad = ledger.locally_bad.iter();
    let bad = bad.any(|bad| bad.release.to_string() == case.made.release);
    ensure!(bad != case.succeeded, "locally bad: {bad}");
    Ok(())
}

/// What the controller shows of the host, beyond the outcome.
fn controller_agrees(lab: &HostLab, host: &Host, name: &str, expected: Option<&str>) -> Result<()> {
    let shown = lab.comber().json(&["host", "show", host.name()])?;
    let installed = shown["installed"].as_array().context("nothing installed")?;
    let of_it = |release: &&str| release.starts_with(&format!("{name}@"));
    let mut known = installed.iter().filter_map(|release| release.as_str());
    let known = known.find(of_it);
    let expected = expected.map(|version| format!("{name}@{version}"));
    ensure!(
        known == expected.as_deref(),
        "the controller says that {known:?} is installed and not {expected:?}"
    );
    Ok(())
}
