//! Hosts: the inventory's table, one host with its history, and the hosts of a rollout.
//!
//! Pure. Invariant: a host that is not connected is always marked as such.

use comber_proto::agent::v1::{ActualState, AgentState, Facts};
use comber_proto::host::v1::{Bar, BarReason, GetHostResponse, Host};
use comber_proto::rollout::v1::Member;

use super::outcomes::outcome_paint;
use super::table::{Cell, Table, cell, number, prose, text, whole};
use super::text::{bytes, fields, labels};
use super::{Paint, View};

/// One row each, and how many there are where not all are shown.
pub(crate) fn hosts(view: &View, hosts: &[Host], total: u32) -> String {
    if hosts.is_empty() {
        return "no host matches\n".to_owned();
    }
    let mut table = Table::new([
        text("HOST", 10, 9),
        text("LINK", 6, 8),
        text("STATE", 6, 6),
        text("RUNS", 10, 7),
        text("SHALL RUN", 10, 4),
        text("OS", 4, 2),
        text("AGENT", 5, 1),
        prose("LABELS", 8, 3),
    ]);
    for host in hosts {
        let facts = host.facts.clone().unwrap_or_default();
        table.row([
            cell(Paint::Strong, host.id.clone()),
            link(view, host),
            agent_word(host.actual.as_ref()).into(),
            runs(host.actual.as_ref()).into(),
            desired(host).into(),
            [facts.os_id, facts.os_version].join(" ").trim().into(),
            facts.agent_version.into(),
            labels(&host.labels).into(),
        ]);
    }
    let shown = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
    let more = if total > shown {
        format!(
            "{shown} of {} shown; all: --limit 0\n",
            super::text::hosts(total)
        )
    } else {
        String::new()
    };
    format!("{}{more}", table.render(view))
}

/// Everything about one, with its part in each rollout.
pub(crate) fn host(view: &View, answer: &GetHostResponse) -> String {
    let host = answer.host.clone().unwrap_or_default();
    let head = view.paint(Paint::Strong, &host.id);
    let about = about(view, &host);
    if answer.rollouts.is_empty() {
        return format!("{head}\n{about}\nit was in no rollout yet\n");
    }
    let mut table = Table::new([
        text("ROLLOUT", 4, 9),
        text("RELEASE", 10, 8),
        number("WAVE", 4),
        text("OUTCOME", 9, 7),
        whole("SINCE", 5),
        number("TRIES", 3),
        prose("DETAIL", 24, 6),
    ]);
    for part in &answer.rollouts {
        let member = part.member.clone().unwrap_or_default();
        table.row([
            part.rollout.clone().into(),
            part.release.clone().into(),
            member.wave.to_string().into(),
            outcome_cell(&member),
            view.ago(member.since).into(),
            member.attempts.to_string().into(),
            told(&member).into(),
        ]);
    }
    format!("{head}\n{about}\n{}", table.render(view))
}

/// The hosts of a rollout.
pub(crate) fn members(view: &View, members: &[Member], more: bool) -> String {
    if members.is_empty() {
        return "no host matches\n".to_owned();
    }
    let mut table = Table::new([
        text("HOST", 10, 9),
        number("WAVE", 7),
        text("OUTCOME", 9, 8),
        text("STATE", 15, 3),
        whole("SINCE", 4),
        number("TRIES", 2),
        text("WAY BACK", 8, 5),
        text("BEFORE", 8, 1),
        prose("DETAIL", 24, 6),
    ]);
    for member in members {
        table.row([
            cell(Paint::Strong, member.host.clone()),
            member.wave.to_string().into(),
            outcome_cell(member),
            member.agent_state.clone().into(),
            view.ago(member.since).into(),
            member.attempts.to_string().into(),
            member.roll_back.clone().into(),
            member.before.clone().into(),
            told(member).into(),
        ]);
    }
    let more = if more {
        "there are more; all: --limit 0\n"
    } else {
        ""
    };
    format!("{}{more}", table.render(view))
}

/// `failed(health)`.
pub(crate) fn outcome_word(member: &Member) -> String {
    match member.reason.as_str() {
        "" => member.outcome.clone(),
        reason => format!("{}({reason})", member.outcome),
    }
}

/// What is told of it, without the class where that stands beside it anyway.
pub(crate) fn told(member: &Member) -> &str {
    let detail = member.detail.as_str();
    let behind = detail.strip_prefix(member.reason.as_str());
    match behind.and_then(|rest| rest.strip_prefix(": ")) {
        Some(rest) if !member.reason.is_empty() => rest,
        Some(_) | None => detail,
    }
}

/// The agent's state in the words of the wire; empty where it never said.
pub(crate) fn agent_word(actual: Option<&ActualState>) -> &'static str {
    match actual.map(|actual| AgentState::try_from(actual.state).unwrap_or_default()) {
        None => "",
        Some(AgentState::Unspecified) => "unknown",
        Some(AgentState::Idle) => "idle",
        Some(AgentState::Fetching) => "fetching",
        Some(AgentState::Staged) => "staged",
        Some(AgentState::AwaitingPermit) => "awaiting_permit",
        Some(AgentState::Activating) => "activating",
        Some(AgentState::Rebooting) => "rebooting",
        Some(AgentState::Verifying) => "verifying",
        Some(AgentState::Committed) => "committed",
        Some(AgentState::RollingBack) => "rolling_back",
        Some(AgentState::RolledBack) => "rolled_back",
        Some(AgentState::Broken) => "broken",
    }
}

fn about(view: &View, host: &Host) -> String {
    let facts = host.facts.clone().unwrap_or_default();
    let link = match (host.connected, host.link_since.is_some()) {
        (true, _) => format!("connected for {}", view.elapsed(host.link_since)),
        (false, true) => format!("not connected for {}", view.elapsed(host.link_since)),
        (false, false) => "never connected".to_owned(),
    };
    let retired = match host.retired_at {
        Some(_) => view.ago(host.retired_at),
        None => String::new(),
    };
    let machine = match facts.cpu_count {
        0 => String::new(),
        count => format!(
            "{count} x {}, {} memory, {} disk",
            facts.cpu_model,
            bytes(facts.memory_bytes),
            bytes(facts.disk_bytes)
        ),
    };
    let actual = host.actual.as_ref();
    let bad = actual
        .map(|actual| actual.locally_bad.join(" "))
        .unwrap_or_default();
    fields(
        view,
        &[
            ("link", link),
            ("retired", retired),
            ("barred", barred(view, host)),
            ("state", agent_word(actual).to_owned()),
            ("runs", runs(actual)),
            ("shall run", desired(host)),
            ("failed here", bad),
            ("labels", labels(&host.labels)),
            (
                "os",
                format!("{} {} ({})", facts.os_id, facts.os_version, facts.arch),
            ),
            ("kernel", facts.kernel.clone()),
            ("machine", machine),
            ("disks", disks(&facts)),
            ("booted", booted(view, &facts)),
            ("reboot", reboot(&facts)),
            ("failed units", facts.failed_units.join(" ")),
            ("trust", trust(&facts).to_owned()),
            ("packages", packages(host)),
            ("agent", facts.agent_version),
            ("time zone", facts.timezone),
            ("enrolled", view.ago(host.enrolled_at)),
        ],
    )
}

/// Why it is let in no more, in a word; empty where it is let in.
pub(crate) fn bar_word(host: &Host) -> &'static str {
    match host.bar.as_ref().map(Bar::reason) {
        None => "",
        Some(BarReason::Unspecified) => "barred",
        Some(BarReason::Revoked) => "revoked",
        Some(BarReason::Cloned) => "cloned",
    }
}

fn barred(view: &View, host: &Host) -> String {
    host.bar.as_ref().map_or_else(String::new, |bar| {
        format!("{}, {}", bar.detail, view.ago(bar.since))
    })
}

/// `/ 480.0 GB (120.0 GB free)`.
fn disks(facts: &Facts) -> String {
    let disk = |disk: &comber_proto::agent::v1::Disk| {
        let (total, free) = (bytes(disk.total_bytes), bytes(disk.free_bytes));
        format!("{} {total} ({free} free)", disk.mount)
    };
    let disks: Vec<String> = facts.disks.iter().map(disk).collect();
    disks.join(", ")
}

/// The uptime is not reported: it follows.
fn booted(view: &View, facts: &Facts) -> String {
    match facts.booted_at {
        Some(_) => view.ago(facts.booted_at),
        None => String::new(),
    }
}

fn reboot(facts: &Facts) -> String {
    match (facts.reboot_required, facts.reboot_required_by.as_slice()) {
        (false, _) => String::new(),
        (true, []) => "required".to_owned(),
        (true, names) => format!("required by {}", names.join(" ")),
    }
}

/// Nothing where all is well: then it is not what anybody looks for.
fn trust(facts: &Facts) -> &'static str {
    match facts.trust.as_str() {
        "" | "ok" => "",
        "no_root" => {
            "it knows no publisher and installs nothing: comber-agent trust init, on the host"
        }
        "expired" => "what the publisher signed has expired, it installs nothing new",
        "damaged" => {
            "its record is damaged or gone, it installs nothing: comber-agent trust status, on the host"
        }
        _ => "not understood by this version of comber",
    }
}

fn packages(host: &Host) -> String {
    let packages = host.packages.as_ref();
    packages.map_or_else(String::new, |packages| {
        format!("{}; list: comber host packages {}", packages.count, host.id)
    })
}

fn link(view: &View, host: &Host) -> Cell {
    if host.retired_at.is_some() {
        return cell(Paint::Faint, "retired");
    }
    if host.bar.is_some() {
        return cell(Paint::Bad, bar_word(host));
    }
    match (host.connected, host.link_since.is_some()) {
        (true, _) => cell(Paint::Good, "up"),
        (false, true) => cell(
            Paint::Notice,
            format!("down {}", view.elapsed(host.link_since)),
        ),
        (false, false) => cell(Paint::Notice, "never"),
    }
}

fn runs(actual: Option<&ActualState>) -> String {
    let releases = actual
        .map(|actual| actual.installed.as_slice())
        .unwrap_or_default();
    let names: Vec<&str> = releases
        .iter()
        .map(|installed| installed.release.as_str())
        .collect();
    names.join(" ")
}

fn desired(host: &Host) -> String {
    match (host.desired_release.as_str(), host.desired_rollout.as_str()) {
        ("", _) => String::new(),
        (release, "") => release.to_owned(),
        (release, rollout) => format!("{release} ({rollout})"),
    }
}

fn outcome_cell(member: &Member) -> Cell {
    cell(outcome_paint(&member.outcome), outcome_word(member))
}
