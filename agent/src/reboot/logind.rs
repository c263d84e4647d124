//! What logind says and does: locks against shutdown, sessions, the reboot itself. Over D-Bus, by `busctl`.
//!
//! Reads, and makes one request. Invariant: a list that is not understood whole is an error; none is ever shortened
//! silently, since what was left out could be what holds the reboot up.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

use super::Heed;
use crate::systemd::{Systemd, SystemdError};

const SERVICE: &str = "org.freedesktop.login1";
const MANAGER: &str = "/org/freedesktop/login1";
const MANAGER_INTERFACE: &str = "org.freedesktop.login1.Manager";
const SESSION_INTERFACE: &str = "org.freedesktop.login1.Session";
const SESSIONS: &str = "/org/freedesktop/login1/session/";

/// `SD_LOGIND_ROOT_CHECK_INHIBITORS`: logind itself refuses root while a lock is held, also one taken just now. Not
/// enough alone: systemd before 257 passes over the locks that root itself holds.
const CHECK_INHIBITORS: &str = "1";
/// `SD_LOGIND_SKIP_INHIBITORS`, since systemd 257, which respects them by default.
const SKIP_INHIBITORS: &str = "16";

/// Most sessions that are looked at; a host with more is a fault, and nobody can be asked to wait for so many.
const SESSIONS_MAX: usize = 1024;
/// How many are named in a refusal.
const NAMED_MAX: usize = 3;
/// Longest part of a text that others wrote and that goes into a refusal.
const TEXT_MAX: usize = 80;

/// A lock against shutdown, of the kind that blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inhibitor {
    /// Who holds it, in their words.
    pub who: String,
    /// Why, in their words.
    pub why: String,
    /// Their process.
    pub pid: u32,
}

/// Somebody who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// logind's name for it.
    pub id: String,
    /// Their login name.
    pub user: String,
}

/// What holds a reboot up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocker {
    /// Locks.
    Inhibitors(Vec<Inhibitor>),
    /// People.
    Sessions(Vec<Session>),
}

/// `what, who, why, mode, uid, pid`, as `ListInhibitors` answers.
#[derive(Deserialize)]
struct Lock(String, String, String, String, IgnoredAny, u32);

/// `id, uid, user, seat, path`, as `ListSessions` answers.
#[derive(Deserialize)]
struct Listed(String, IgnoredAny, String, IgnoredAny, String);

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, named): (_, Vec<String>) = match self {
            Self::Inhibitors(held) => (
                "an inhibitor holds it up",
                held.iter().map(locked).collect(),
            ),
            Self::Sessions(there) => (
                "somebody is logged in",
                there.iter().map(logged_in).collect(),
            ),
        };
        let rest = named.len().saturating_sub(NAMED_MAX);
        let named = named[..named.len() - rest].join("; ");
        write!(f, "{what}: {named}")?;
        if rest > 0 {
            write!(f, "; and {rest} more")?;
        }
        Ok(())
    }
}

fn locked(lock: &Inhibitor) -> String {
    let Inhibitor { who, why, pid } = lock;
    format!("{} (process {pid}): {}", plain(who), plain(why))
}

fn logged_in(session: &Session) -> String {
    format!("{} (session {})", plain(&session.user), plain(&session.id))
}

/// A text of others as part of a line.
fn plain(text: &str) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    match plain.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &plain[..end]),
        None => plain,
    }
}

/// The locks that block a shutdown now. Those that only delay it are logind's own business.
pub(super) async fn inhibitors(systemd: &Systemd) -> Result<Vec<Inhibitor>, SystemdError> {
    let asked = "ListInhibitors";
    let arguments = [SERVICE, MANAGER, MANAGER_INTERFACE, asked];
    let locks: Vec<Lock> = single(asked, systemd.call(asked, &arguments).await?)?;
    let blocks = |lock: &Lock| {
        let Lock(what, _, _, mode, _, _) = lock;
        // `block` and, since systemd 257, `block-weak`.
        mode.starts_with("block") && what.split(':').any(|what| what == "shutdown")
    };
    let blocking = locks.into_iter().filter(blocks);
    Ok(blocking
        .map(|Lock(_, who, why, _, _, pid)| Inhibitor { who, why, pid })
        .collect())
}

/// The people who are logged in: not a greeter, not the manager of a user, not a job of cron, and nobody who left.
pub(super) async fn sessions(systemd: &Systemd) -> Result<Vec<Session>, SystemdError> {
    let mut there = Vec::new();
    for Listed(id, _, user, _, path) in listed(systemd).await? {
        let person = match is_person(systemd, &path).await {
            Ok(person) => person,
            // One that ended meanwhile has no properties any more.
            Err(_) if !still_listed(systemd, &path).await? => false,
            Err(error) => return Err(error),
        };
        if person {
            there.push(Session { id, user });
        }
    }
    Ok(there)
}

async fn listed(systemd: &Systemd) -> Result<Vec<Listed>, SystemdError> {
    let asked = "ListSessions";
    let arguments = [SERVICE, MANAGER, MANAGER_INTERFACE, asked];
    let listed: Vec<Listed> = single(asked, systemd.call(asked, &arguments).await?)?;
    let wrong = |problem: String| SystemdError::Answer { asked, problem };
    if listed.len() > SESSIONS_MAX {
        return Err(wrong(format!("{} sessions", listed.len())));
    }
    match listed.iter().find(|session| !is_path(&session.4)) {
        Some(strange) => Err(wrong(format!(
            "{:?} is not the path of a session",
            strange.4
        ))),
        None => Ok(listed),
    }
}

async fn still_listed(systemd: &Systemd, path: &str) -> Result<bool, SystemdError> {
    let listed = listed(systemd).await?;
    Ok(listed.iter().any(|session| session.4 == path))
}

async fn is_person(systemd: &Systemd, path: &str) -> Result<bool, SystemdError> {
    let asked = "the properties of a session";
    let arguments = [SERVICE, path, SESSION_INTERFACE, "Class", "State"];
    let values = systemd.properties(asked, &arguments).await?;
    match values.as_slice() {
        [Value::String(class), Value::String(state)] => {
            // `user`, and since systemd 256 `user-early`, `user-light` and their like; `manager` is no person.
            let user = class == "user" || class.starts_with("user-");
            Ok(user && state != "closing")
        }
        other => Err(SystemdError::Answer {
            asked,
            problem: format!("{} values of class and state", other.len()),
        }),
    }
}

/// Only what logind itself would name; it becomes an argument of a program.
fn is_path(path: &str) -> bool {
    path.strip_prefix(SESSIONS).is_some_and(|name| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        !name.is_empty() && name.bytes().all(plain)
    })
}

/// The one value of an answer.
fn single<T: DeserializeOwned>(
    asked: &'static str,
    mut values: Vec<Value>,
) -> Result<T, SystemdError> {
    let wrong = |problem: String| SystemdError::Answer { asked, problem };
    let (Some(value), true) = (values.pop(), values.is_empty()) else {
        return Err(wrong("not exactly one value".to_owned()));
    };
    serde_json::from_value(value).map_err(|error| wrong(error.to_string()))
}

/// Asks logind for the reboot, in the way that its version has for the guard in question.
pub(super) async fn reboot(
    systemd: &Systemd,
    inhibitors: Heed,
    message: &str,
) -> Result<(), SystemdError> {
    let wall = ["SetWallMessage", "sb", message, "true"];
    if let Err(error) = request(systemd, &wall).await {
        let error = comber_runtime::telemetry::error_chain(&error);
        tracing::debug!(error, "logind says nothing of the reboot's reason");
    }
    let plain = ["Reboot", "b", "false"];
    match inhibitors {
        Heed::Respect => {
            match request(systemd, &["RebootWithFlags", "t", CHECK_INHIBITORS]).await {
                // Before systemd 246; the locks were read just now.
                Err(error) if is_unknown(&error) => request(systemd, &plain).await,
                asked => asked,
            }
        }
        Heed::Ignore => match request(systemd, &["RebootWithFlags", "t", SKIP_INHIBITORS]).await {
            // Before systemd 257 the flag is refused, and root is not held up anyway.
            Err(_) => request(systemd, &plain).await,
            asked => asked,
        },
    }
}

async fn request(systemd: &Systemd, call: &[&str]) -> Result<(), SystemdError> {
    let mut arguments = vec![SERVICE, MANAGER, MANAGER_INTERFACE];
    arguments.extend(call);
    systemd
        .call_for_nothing("the request to reboot", &arguments)
        .await
}

fn is_unknown(error: &SystemdError) -> bool {
    matches!(error, SystemdError::Refused { err, .. } if err.contains("nknown method"))
}
