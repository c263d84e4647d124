//! An update of the agent itself that is open, in words.
//!
//! Reads the files of the update. What cannot be read is told as such: `status` must answer also then.

use comber_runtime::telemetry::error_chain;
use jiff::Timestamp;
use serde::Serialize;

use crate::update::{Decision, Phase, UpdateError, UpdateFiles};

/// An update of the agent that is not over.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Update {
    /// The version that ran before; absent where the files cannot be read.
    pub from: Option<String>,
    /// The one that it goes to.
    pub to: Option<String>,
    /// When the old agent is put back, unless the new one is kept by then.
    pub until: Option<Timestamp>,
    /// What the watcher does.
    pub step: String,
}

impl Update {
    /// The one that is open; `None` where there is none.
    pub(super) fn of(files: &UpdateFiles) -> Option<Self> {
        Self::read(files).unwrap_or_else(|error| {
            Some(Self {
                from: None,
                to: None,
                until: None,
                step: error_chain(&error),
            })
        })
    }

    fn read(files: &UpdateFiles) -> Result<Option<Self>, UpdateError> {
        let Some(order) = files.order()? else {
            return Ok(None);
        };
        let (mut until, decision) = (None, files.decision()?);
        let step = match (files.progress()?.phase, decision) {
            (Phase::Restored { why }, _) => format!("the old agent was put back: {why}"),
            (Phase::Restoring { why }, _) | (_, Some(Decision::Restore { why })) => {
                format!("puts the old agent back: {why}")
            }
            (_, Some(Decision::Kept)) => "the new agent is kept".to_owned(),
            (Phase::Switching, None) => "replaces the old agent".to_owned(),
            (Phase::Watching { until: end, .. }, None) => {
                until = Some(end);
                "waits for the new agent to prove itself".to_owned()
            }
        };
        Ok(Some(Self {
            from: Some(order.from.version),
            to: Some(order.to.version),
            until,
            step,
        }))
    }

    /// One line for people.
    pub(super) fn told(&self) -> String {
        let sides = match (&self.from, &self.to) {
            (Some(from), Some(to)) => format!("{from} to {to}, "),
            (None, _) | (_, None) => String::new(),
        };
        let until = self.until.map_or_else(String::new, |until| {
            format!(", until {}", until.strftime("%Y-%m-%d %H:%M:%S UTC"))
        });
        format!("{sides}{}{until}", self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::{FORM, Order, Progress, Proof, ServiceKind, Side};

    fn order() -> Order {
        let side = |version: &str| Side {
            slot: None,
            version: version.to_owned(),
        };
        Order {
            form: FORM,
            release: "comber-agent@2.0".parse().unwrap(),
            from: side("1.0"),
            to: side("2.0"),
            proof: Some(Proof {
                healthy_for: std::time::Duration::from_mins(5),
                deadline: std::time::Duration::from_mins(15),
            }),
            service: ServiceKind::Systemd {
                unit: "comber-agent.service".to_owned(),
            },
            boot_id_file: "/dev/null".into(),
            ordered_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn each_step_of_an_update_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let files = UpdateFiles::new(dir.path());
        assert_eq!(Update::of(&files), None);
        files.begin(&order()).unwrap();
        let told = || Update::of(&files).unwrap().told();
        assert_eq!(told(), "1.0 to 2.0, replaces the old agent");
        let phase = Phase::Watching {
            boot_id: "b".to_owned(),
            deadline_ms: 1,
            until: "2026-11-24T10:15:00Z".parse().unwrap(),
            resumed: 0,
        };
        files.proceed(&Progress { form: FORM, phase }).unwrap();
        assert_eq!(
            told(),
            "1.0 to 2.0, waits for the new agent to prove itself, until 2026-11-24 10:15:00 UTC"
        );
        let why = "it hung".to_owned();
        files.decide(&Decision::Restore { why }).unwrap();
        assert_eq!(told(), "1.0 to 2.0, puts the old agent back: it hung");
        let why = "it hung".to_owned();
        let phase = Phase::Restored { why };
        files.proceed(&Progress { form: FORM, phase }).unwrap();
        assert_eq!(told(), "1.0 to 2.0, the old agent was put back: it hung");
    }

    #[test]
    fn what_cannot_be_read_is_told_and_hides_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let files = UpdateFiles::new(dir.path());
        files.begin(&order()).unwrap();
        std::fs::write(files.dir().join("order.json"), "{").unwrap();
        let told = Update::of(&files).unwrap().told();
        assert!(told.contains("cannot be understood"), "{told}");
    }
}
