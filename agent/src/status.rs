//! `comber-agent status`: what this host does, since when, what it waits for and what comes next.
//!
//! Reads the ledger, the identity and a lock, and changes nothing: it works beside a running agent, which adds how its
//! link is, after a crash, and as long as there is no agent at all. Invariant: what it says of the work is what the ledger holds.

mod update;
mod waits;

use std::{
    fmt::{self, Write as _},
    path::Path,
};

use comber_machine::{Ledger, Now};
use comber_runtime::clock::Clock;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    identity,
    local::LinkReport,
    lock::{AGENT_LOCK, Lock},
    trust::TrustReport,
    update::UpdateFiles,
};
pub use update::Update;
use waits::Waits;

/// Everything that `status` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What the certificate calls this host; absent before enrolment.
    pub host: Option<String>,
    /// Where it belongs.
    pub controller: Option<String>,
    /// Whether an agent runs now.
    pub running: bool,
    /// How its link is; absent where none runs or it does not say.
    pub link: Option<LinkReport>,
    /// Highest generation accepted.
    pub generation: u64,
    /// Where the machine stands.
    pub state: &'static str,
    /// Since when, by the host's clock.
    pub since: Timestamp,
    /// The attempt in hand, or the one that ended last.
    pub attempt: Option<Attempt>,
    /// What has to happen next for it to move.
    pub waits_for: String,
    /// When waiting ends by itself, in milliseconds from now.
    pub deadline_ms: Option<u64>,
    /// What happens then.
    pub next: String,
    /// An update of the agent itself that is open.
    pub update: Option<Update>,
    /// What is active, one entry per product.
    pub installed: Vec<Installed>,
    /// What is not tried again, with how it failed.
    pub locally_bad: Vec<Bad>,
    /// Ends of attempts that the controller has not acknowledged.
    pub unacknowledged_reports: usize,
    /// The host's certificate.
    pub certificate: Certificate,
    /// Whether what the publisher signed can be judged here.
    pub trust: TrustReport,
}

/// One try of an assignment.
#[derive(Debug, Serialize)]
pub struct Attempt {
    /// `name@version`.
    pub release: String,
    /// On whose behalf.
    pub rollout: String,
    /// Which try, from 1.
    pub number: u32,
}

/// One product.
#[derive(Debug, Serialize)]
pub struct Installed {
    /// `name@version`.
    pub release: String,
    /// The version kept to go back to.
    pub previous: Option<String>,
}

/// A release that failed here.
#[derive(Debug, Serialize)]
pub struct Bad {
    /// `name@version`.
    pub release: String,
    /// Class and detail.
    pub failure: String,
}

/// The host's certificate, or why there is none.
#[derive(Debug, Serialize)]
pub struct Certificate {
    /// Its last valid second.
    pub valid_until: Option<Timestamp>,
    /// What is wrong with it and what to do.
    pub problem: Option<String>,
}

impl Report {
    /// Puts it together from what is on disk.
    pub fn new(
        ledger: &Ledger,
        state_dir: &Path,
        controller: Option<String>,
        clock: &Clock,
        now: &Now,
    ) -> Self {
        let status = comber_machine::actual(ledger);
        let waits = Waits::of(ledger, now);
        let loaded = identity::load(state_dir);
        let host = loaded
            .as_ref()
            .ok()
            .and_then(|id| identity::host_of(id).ok());
        let certificate = match &loaded {
            Ok(identity) => Certificate {
                valid_until: Some(identity.facts().not_after),
                problem: crate::link::expired(identity, clock),
            },
            Err(error) => Certificate {
                valid_until: None,
                problem: Some(comber_runtime::telemetry::error_chain(error)),
            },
        };
        Self {
            host: host.map(|host| host.to_string()),
            controller,
            running: Lock::is_held(&state_dir.join(AGENT_LOCK)),
            link: None,
            generation: status.generation.0,
            state: status.state.as_str(),
            since: status.since,
            attempt: status.attempt.map(|attempt| Attempt {
                release: attempt.release.to_string(),
                rollout: attempt.rollout.to_string(),
                number: attempt.number,
            }),
            waits_for: waits.for_what,
            deadline_ms: waits
                .deadline
                .map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            next: waits.next,
            update: Update::of(&UpdateFiles::new(state_dir)),
            installed: installed(ledger),
            locally_bad: bad(ledger),
            unacknowledged_reports: ledger.reports.len(),
            certificate,
            trust: TrustReport::read(state_dir, clock.wall()),
        }
    }
}

fn installed(ledger: &Ledger) -> Vec<Installed> {
    let entry = |(name, product): (&comber_model::ReleaseName, &comber_machine::Product)| {
        let installed = &product.installed;
        Installed {
            release: format!("{name}@{}", installed.version),
            previous: installed.previous.as_ref().map(ToString::to_string),
        }
    };
    ledger.installed.iter().map(entry).collect()
}

fn bad(ledger: &Ledger) -> Vec<Bad> {
    let entry = |bad: &comber_machine::Bad| Bad {
        release: bad.release.to_string(),
        failure: bad.failure.to_string(),
    };
    ledger.locally_bad.iter().map(entry).collect()
}

/// The link in one line.
fn told(link: &LinkReport) -> String {
    let mut text = if link.connected {
        "open".to_owned()
    } else {
        "not open".to_owned()
    };
    // Writing to a text cannot fail.
    if let Some(since) = link.since {
        let _ = write!(text, " since {}", since.strftime("%Y-%m-%d %H:%M:%S UTC"));
    }
    if let (false, Some(error)) = (link.connected, &link.last_error) {
        let _ = write!(text, ", {error}");
    }
    if let Some(millis) = link.next_try_ms {
        let left = std::time::Duration::from_secs(millis.div_ceil(1000));
        let left = comber_model::duration::format(left);
        let _ = write!(text, "; tried again in {left}");
    }
    text
}

/// For people: one fact a line, nothing that is not so.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = || "not enrolled".to_owned();
        writeln!(
            f,
            "host         {}",
            self.host.clone().unwrap_or_else(unknown)
        )?;
        if let Some(controller) = &self.controller {
            writeln!(f, "controller   {controller}")?;
        }
        writeln!(
            f,
            "agent        {}",
            if self.running {
                "running"
            } else {
                "not running"
            }
        )?;
        if let Some(link) = &self.link {
            writeln!(f, "link         {}", told(link))?;
        }
        write!(f, "state        {}", self.state)?;
        if let Some(Attempt {
            release,
            rollout,
            number,
        }) = &self.attempt
        {
            write!(f, ", {release} for {rollout}, attempt {number}")?;
        }
        writeln!(
            f,
            "\nsince        {}",
            self.since.strftime("%Y-%m-%d %H:%M:%S UTC")
        )?;
        write!(f, "waits for    {}", self.waits_for)?;
        if let Some(millis) = self.deadline_ms {
            let left = std::time::Duration::from_secs(millis.div_ceil(1000));
            write!(f, ", for {} at most", comber_model::duration::format(left))?;
        }
        writeln!(f, "\nnext         {}", self.next)?;
        if let Some(update) = &self.update {
            writeln!(f, "update       {}", update.told())?;
        }
        for Installed { release, previous } in &self.installed {
            match previous {
                Some(previous) => {
                    writeln!(f, "installed    {release}, keeps {previous} to go back to")?;
                }
                None => writeln!(f, "installed    {release}")?,
            }
        }
        for Bad { release, failure } in &self.locally_bad {
            writeln!(f, "bad here     {release}: {failure}")?;
        }
        if self.unacknowledged_reports > 0 {
            writeln!(
                f,
                "reports      {} not acknowledged yet",
                self.unacknowledged_reports
            )?;
        }
        match (&self.certificate.valid_until, &self.certificate.problem) {
            (_, Some(problem)) => writeln!(f, "certificate  {problem}")?,
            (Some(until), None) => {
                writeln!(
                    f,
                    "certificate  valid until {}",
                    until.strftime("%Y-%m-%d %H:%M:%S UTC")
                )?;
            }
            (None, None) => {}
        }
        // Only what is not as it should be: `trust` tells the rest.
        match &self.trust.problem {
            Some(problem) => writeln!(f, "trust        {problem}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
