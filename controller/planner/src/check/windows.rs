//! The rule of windows and freezes, written again: by looking at the clock on the wall, minute after minute of each new
//! permit's life.

use comber_model::calendar::{Freeze, Stretch, Zone, ZoneChoice};
use comber_model::rollout::{AfterDeadline, Priority, Rollout, WayBack};
use comber_model::{Grant, Host, RolloutId};
use jiff::Timestamp;

use super::Findings;
use super::after::After;

/// Between two looks, in seconds; windows begin and end on full minutes, offsets change on full minutes.
const LOOK: usize = 30;

/// A permit that was just given.
pub(super) fn permit(
    after: &After<'_>,
    host: &Host,
    (rollout, rolls_back): (&Rollout, bool),
    grant: Grant,
    findings: &mut Findings,
) {
    let from = grant.granted_at.as_second();
    let life = i64::try_from(grant.ttl.as_secs()).unwrap_or(i64::MAX / 4);
    // Up to the last second in which it can be used.
    let mut looks: Vec<i64> = (from..from + life).step_by(LOOK).collect();
    looks.push(from + (life - 1).max(0));
    let problem = looks.into_iter().find_map(|at| {
        let at = Timestamp::from_second(at).unwrap_or(Timestamp::MAX);
        problem(after, host, rollout, rolls_back, at)
    });
    if let Some(problem) = problem {
        tell(rollout.id, host, problem, findings);
    }
}

/// A permit that stands where none may be.
pub(super) fn standing(
    after: &After<'_>,
    host: &Host,
    (rollout, rolls_back): (&Rollout, bool),
    findings: &mut Findings,
) {
    if let Some(problem) = problem(after, host, rollout, rolls_back, after.now) {
        tell(rollout.id, host, problem, findings);
    }
}

fn tell(id: RolloutId, host: &Host, problem: &str, findings: &mut Findings) {
    let text = format!("{} has a permit of {id} {problem}", host.id);
    findings.fatal(id, text);
}

/// What speaks against an activation that begins at that instant.
fn problem(
    after: &After<'_>,
    host: &Host,
    rollout: &Rollout,
    rolls_back: bool,
    at: Timestamp,
) -> Option<&'static str> {
    let windows = &rollout.spec.windows;
    let passes = rollout.spec.priority == Priority::Emergency
        || (rolls_back && windows.roll_back == WayBack::Pass);
    if passes {
        return None;
    }
    let own = clock(&windows.zone, host);
    let frozen = |stretches: &[Stretch], zone: Option<&Zone>| {
        stretches
            .iter()
            .any(|stretch| reads(stretch, zone, at).unwrap_or(true))
    };
    let is_frozen = |freeze: &Freeze| {
        let zone = clock(&freeze.zone, host);
        frozen(&freeze.stretches(), zone.as_ref())
    };
    if frozen(&windows.freeze, own.as_ref()) || after.input.freezes.values().any(is_frozen) {
        return Some("within a freeze");
    }
    if windows.allow.is_empty() {
        return None;
    }
    let is_past = match (&windows.until, windows.after_deadline, &own) {
        (Some(until), AfterDeadline::Ignore, Some(zone)) => until.instant(zone) <= at,
        (_, _, _) => false,
    };
    if is_past {
        return None;
    }
    let margin = i64::try_from(windows.must_end_within.as_secs()).unwrap_or(i64::MAX / 4);
    let mut looks: Vec<i64> = (0..=margin).step_by(10 * 60).collect();
    looks.push(margin);
    let is_open = looks.into_iter().all(|later| {
        let at = Timestamp::from_second(at.as_second() + later).unwrap_or(Timestamp::MAX);
        let reads = |stretch: &Stretch| reads(stretch, own.as_ref(), at).unwrap_or(false);
        windows.allow.iter().any(reads)
    });
    (!is_open).then_some("outside its windows")
}

/// Whether the clock that counts for the stretch reads a time in it; unknown where its zone is.
fn reads(stretch: &Stretch, zone: Option<&Zone>, at: Timestamp) -> Option<bool> {
    let zone = stretch.zone().or(zone)?;
    Some(stretch.reads(zone.wall(at)))
}

/// The zone that counts; absent where the host names one that is not known.
fn clock(choice: &ZoneChoice, host: &Host) -> Option<Zone> {
    let own = host.labels.get("timezone").unwrap_or(&host.facts.timezone);
    match choice {
        ZoneChoice::Named(zone) => Some(zone.clone()),
        ZoneChoice::Host if own.is_empty() => Some(Zone::utc()),
        ZoneChoice::Host => own.parse().ok(),
    }
}
