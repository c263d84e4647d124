//! What a rollout file would do, before anything is done.
//!
//! Pure. Invariant: the number of hosts that a bad release can reach is always said.

use comber_proto::rollout::v1::PreviewRolloutResponse;

use super::rollout::covered;
use super::table::{Table, number, prose, text};
use super::text::{bytes, hosts, hosts_are, next, wrap};
use super::{Paint, View, at, instant};

/// The waves, who is set aside, and the numbers to decide by.
pub(crate) fn plan(view: &View, file: &str, plan: &PreviewRolloutResponse, all: bool) -> String {
    if plan.total == 0 {
        let text = "the selector means no host: check it with comber host list --selector";
        return view.paint(Paint::Notice, &wrap(view, "", text));
    }
    let mut out = summary(view, plan);
    out.push_str(&waves(view, plan, all));
    out.push_str(&excluded(view, plan, all));
    out.push_str(&times(view, plan));
    out.push_str(&next(
        view,
        &[format!("comber rollout create {file} --start --watch")],
    ));
    out
}

fn summary(view: &View, plan: &PreviewRolloutResponse) -> String {
    let mut out = wrap(
        view,
        "",
        &format!(
            "would bring the release to {} in {} waves, carrying {}; nothing was changed",
            hosts(plan.total),
            plan.waves.len(),
            bytes(plan.bytes)
        ),
    );
    let exposed = format!(
        "a release that fails on every host is stopped after at most {}",
        hosts(plan.exposed)
    );
    out.push_str(&view.paint(Paint::Strong, &wrap(view, "", &exposed)));
    if plan.already > 0 {
        out.push_str(&wrap(
            view,
            "",
            &format!("{} on the release already", hosts_are(plan.already)),
        ));
    }
    if plan.disconnected > 0 {
        let text = format!(
            "{} not connected now and would count as unreached",
            hosts_are(plan.disconnected)
        );
        out.push_str(&view.paint(Paint::Notice, &wrap(view, "", &text)));
    }
    if let Some(coverage) = &plan.coverage {
        out.push_str(&covered(view, coverage));
    }
    out.push('\n');
    out
}

fn waves(view: &View, plan: &PreviewRolloutResponse, all: bool) -> String {
    let mut table = Table::new([
        number("WAVE", 9),
        text("NAME", 6, 8),
        number("HOSTS", 7),
        number("IN FLIGHT", 6),
        prose("WHICH", 10, 1),
    ]);
    for wave in &plan.waves {
        table.row([
            wave.number.to_string().into(),
            wave.name.clone().into(),
            wave.hosts.len().to_string().into(),
            format!("<= {}", wave.max_in_flight).into(),
            if all {
                String::new()
            } else {
                some(&wave.hosts, 8)
            }
            .into(),
        ]);
    }
    let mut out = table.render(view);
    if all {
        for wave in &plan.waves {
            let first = format!("{}: ", wave.name);
            out.push_str(&wrap(view, &first, &wave.hosts.join(" ")));
        }
    }
    out
}

/// When hosts may move, by the clocks that count.
fn times(view: &View, plan: &PreviewRolloutResponse) -> String {
    let mut out = String::new();
    if let Some(start) = at(plan.starts_at) {
        let left = view.left(plan.starts_at).unwrap_or_default();
        let text = format!(
            "hosts are selected and the first wave opens at {} ({left})",
            instant(start)
        );
        out.push_str(&wrap(view, "", &text));
    }
    for times in &plan.times {
        let first = format!("windows in {} ({}): ", times.zone, hosts(times.hosts));
        let spans: Vec<&str> = times.spans.iter().map(|span| span.text.as_str()).collect();
        let problem = if !times.known {
            "no such time zone is known, so these hosts are held; label them with timezone=NAME"
        } else if spans.is_empty() {
            "none is in sight, so these hosts would never move"
        } else {
            out.push_str(&wrap(view, &first, &spans.join("; ")));
            continue;
        };
        out.push_str(&view.paint(Paint::Bad, &wrap(view, &first, problem)));
    }
    out
}

fn excluded(view: &View, plan: &PreviewRolloutResponse, all: bool) -> String {
    let mut reasons: Vec<&str> = plan
        .excluded
        .iter()
        .map(|host| host.reason.as_str())
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    let mut out = String::new();
    for reason in reasons {
        let with = plan.excluded.iter().filter(|host| host.reason == reason);
        let names: Vec<String> = with.map(|host| host.host.clone()).collect();
        let shown = if all {
            names.join(" ")
        } else {
            some(&names, 8)
        };
        out.push_str(&wrap(
            view,
            "set aside, ",
            &format!("{reason}: {} ({shown})", names.len()),
        ));
    }
    out
}

fn some(names: &[String], most: usize) -> String {
    let mut text = names
        .iter()
        .take(most)
        .cloned()
        .collect::<Vec<_>>()
        .join(" ");
    if names.len() > most {
        text.push_str(" …");
    }
    text
}
