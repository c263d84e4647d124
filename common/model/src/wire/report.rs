//! Reports on the wire.

use comber_proto::agent::v1 as wire;

use super::{parsed, required, time};
use crate::{Failure, Generation, Invalid, Report, ReportResult};

impl From<Report> for wire::Report {
    fn from(report: Report) -> Self {
        let (result, failure) = match report.result {
            ReportResult::Committed => (wire::ReportResult::Committed, None),
            ReportResult::NotActivated { failure } => {
                (wire::ReportResult::NotActivated, Some(failure))
            }
            ReportResult::NotApplicable { failure } => {
                (wire::ReportResult::NotApplicable, Some(failure))
            }
            ReportResult::RolledBack { failure } => (wire::ReportResult::RolledBack, Some(failure)),
            ReportResult::Broken { failure } => (wire::ReportResult::Broken, Some(failure)),
        };
        Self {
            number: report.number,
            generation: report.generation.0,
            rollout: report.rollout.to_string(),
            release: report.release.to_string(),
            attempt: report.attempt,
            result: result.into(),
            failure: failure.map(Into::into),
            started_at: Some(time::to_timestamp(report.started_at)),
            finished_at: Some(time::to_timestamp(report.finished_at)),
        }
    }
}

impl TryFrom<wire::Report> for Report {
    type Error = Invalid;

    fn try_from(report: wire::Report) -> Result<Self, Invalid> {
        if report.number == 0 || report.attempt == 0 {
            return Err(Invalid::new(
                "number",
                "and attempt count from 1, here one of them is 0",
            ));
        }
        let result = result(report.result, report.failure)?;
        Ok(Self {
            number: report.number,
            generation: Generation(report.generation),
            rollout: parsed("rollout", &report.rollout)?,
            release: parsed("release", &report.release)?,
            attempt: report.attempt,
            result,
            started_at: time::timestamp("started_at", report.started_at)?,
            finished_at: time::timestamp("finished_at", report.finished_at)?,
        })
    }
}

fn result(result: i32, failure: Option<wire::Failure>) -> Result<ReportResult, Invalid> {
    let failure = || -> Result<Failure, Invalid> {
        required("failure", failure)?
            .try_into()
            .map_err(|e: Invalid| e.within("failure"))
    };
    match wire::ReportResult::try_from(result) {
        Ok(wire::ReportResult::Committed) => Ok(ReportResult::Committed),
        Ok(wire::ReportResult::NotActivated) => Ok(ReportResult::NotActivated {
            failure: failure()?,
        }),
        Ok(wire::ReportResult::NotApplicable) => Ok(ReportResult::NotApplicable {
            failure: failure()?,
        }),
        Ok(wire::ReportResult::RolledBack) => Ok(ReportResult::RolledBack {
            failure: failure()?,
        }),
        Ok(wire::ReportResult::Broken) => Ok(ReportResult::Broken {
            failure: failure()?,
        }),
        Ok(wire::ReportResult::Unspecified) => Err(Invalid::new("result", "is missing")),
        Err(_) => Err(Invalid::new("result", format!("{result} is unknown"))),
    }
}
