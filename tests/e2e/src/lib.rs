//! What the end-to-end tests share: specs, conditions on a rollout's status, and the outcomes as every surface tells
//! them.

pub mod tools;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use comber_test_support::Lab;
use serde_json::Value;

/// Long enough for anything on a busy machine; nothing waits for it when all is well.
pub const LONG: Duration = Duration::from_secs(90);

/// The outcomes, in the order in which they are told.
pub const OUTCOMES: [&str; 5] = ["succeeded", "failed", "pending", "unreached", "excluded"];

/// One wave for all hosts, everything at once, patient permits.
pub fn all_at_once(version: &str) -> String {
    format!(
        "release = \"app@{version}\"\nselector = \"true\"\n[pace]\nmax_in_flight = \"100%\"\n[budget]\nfailures = {{ max = \"100%\" }}\n[[wave]]\nhosts = \"rest\"\n"
    )
}

/// True for a rollout in that state.
pub fn is(state: &'static str) -> impl Fn(&Value) -> bool {
    move |status| status["state"] == state
}

/// A rollout's outcomes; all five, and they add up to the total.
pub fn outcomes(status: &Value) -> Result<BTreeMap<String, u64>> {
    let object = status["outcomes"].as_object().context("no outcomes")?;
    let number = |name: &str| {
        object
            .get(name)
            .and_then(Value::as_u64)
            .context("no number")
    };
    let mut counts = BTreeMap::new();
    for name in OUTCOMES {
        counts.insert(name.to_owned(), number(name)?);
    }
    let total = number("total")?;
    ensure!(
        counts.values().sum::<u64>() == total,
        "do not add up: {status:#}"
    );
    ensure!(object.len() == 6, "more than the six: {status:#}");
    Ok(counts)
}

/// The outcomes of a rollout as the metrics tell them.
pub fn outcomes_in_metrics(lab: &Lab, id: &str) -> Result<BTreeMap<String, u64>> {
    let text = lab.scrape()?;
    let mut counts = BTreeMap::new();
    for name in OUTCOMES {
        let line = text.lines().find(|line| {
            line.starts_with("comber_rollout_hosts{")
                && line.contains(&format!("rollout=\"{id}\""))
                && line.contains(&format!("outcome=\"{name}\""))
        });
        let value = line.and_then(|line| line.rsplit(' ').next());
        let value = value.with_context(|| format!("{id} {name} is not in\n{text}"))?;
        counts.insert(name.to_owned(), value.parse::<u64>()?);
    }
    Ok(counts)
}

/// The outcomes of a rollout as its newest event with outcomes tells them.
pub fn outcomes_in_events(lab: &Lab, id: &str) -> Result<BTreeMap<String, u64>> {
    let text = lab
        .comber()
        .ok(&["events", "--rollout", id, "--output", "json"])?;
    let mut last = None;
    for line in text.lines() {
        let event: Value = serde_json::from_str(line)?;
        if event["outcomes"].is_object() {
            last = Some(outcomes(&event)?);
        }
    }
    last.context("no event tells outcomes")
}

/// Every surface tells the same outcomes, and they are these; zero ones may be left out.
///
/// # Panics
///
/// Where they are others, or where a surface does not tell them.
#[track_caller]
pub fn assert_outcomes(lab: &Lab, id: &str, expected: &[(&str, u64)]) {
    let mut full: BTreeMap<String, u64> = OUTCOMES.iter().map(|o| ((*o).to_owned(), 0)).collect();
    full.extend(
        expected
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count)),
    );
    let status = lab.status(id).expect("the controller answers");
    assert_eq!(
        outcomes(&status).expect("they add up"),
        full,
        "in the status: {status:#}"
    );
    let events = outcomes_in_events(lab, id).expect("events tell them");
    assert_eq!(events, full, "in the events");
    let metrics = outcomes_in_metrics(lab, id).expect("metrics tell them");
    assert_eq!(metrics, full, "in the metrics");
}

/// True where the status tells these outcomes, zero ones left out.
pub fn has(expected: &'static [(&'static str, u64)]) -> impl Fn(&Value) -> bool {
    move |status| {
        expected
            .iter()
            .all(|(name, count)| status["outcomes"][*name].as_u64() == Some(*count))
    }
}

/// A number below `limit`, by chance.
///
/// # Panics
///
/// Where the kernel gives no randomness.
pub fn chance(limit: u64) -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the kernel gives randomness");
    u64::from_le_bytes(bytes) % limit
}
