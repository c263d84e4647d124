//! The agent's settings: what may be written in `agent.toml`, what is allowed, and every default with its reason.
//!
//! Pure but for the host's own name, which is the default of `name`. Invariant: settings that come out of here can be
//! used as they are; whoever uses one of them checks nothing again.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use comber_model::HostId;
use comber_runtime::{
    channel::ChannelSettings,
    config::{Section, Settings},
    peer::PeerIdentity,
    telemetry::LogSettings,
};
use http::Uri;

/// Where ledger, identity and staged bytes are kept: what a package creates with mode 0700.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/comber-agent";
/// Releases are installed below the real root unless an image is being filled.
pub const DEFAULT_ROOT: &str = "/";
/// Where modules of this host are; the first directory that has one of a name counts, so Comber's own directory overrides
/// what the packages of another client bring.
pub const DEFAULT_MODULES: [&str; 2] = [
    "/usr/share/comber/modules/v3",
    "/usr/share/mender/modules/v3",
];
/// Asks the service manager, so that every other service ends in order.
pub const DEFAULT_REBOOT_COMMAND: [&str; 2] = ["systemctl", "reboot"];
/// The kernel draws a new value at each boot; it is the only proof that a boot happened.
pub const DEFAULT_BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";
/// The window over which a fleet comes back after its controller restarted. One controller core takes about 3000
/// handshakes a second, so 20,000 hosts need about seven seconds.
pub const DEFAULT_BACKOFF_MIN: Duration = Duration::from_secs(7);
/// A host is back at most this long after its controller is. Longer saves nothing: a failed connection costs nobody.
pub const DEFAULT_BACKOFF_MAX: Duration = Duration::from_mins(2);
/// A connection through a firewall that forgets silent ones after a minute stays open; measured 1.5 % of a controller's
/// core for 20,000 hosts.
pub const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(30);
/// A ping that is not answered for this long means that the connection is dead.
pub const DEFAULT_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Name lookup, TCP and TLS over a slow line take a few seconds.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Facts change by the hour at most; reading them costs a millisecond.
pub const DEFAULT_FACTS_INTERVAL: Duration = Duration::from_mins(10);
/// No bytes for this long while fetching: the connection counts as dead and the fetch goes on with another.
pub const DEFAULT_FETCH_IDLE: Duration = Duration::from_secs(30);

/// The first pause of a fetch that failed is drawn from nothing to this: a wave's hosts fetch at the same time.
pub const DEFAULT_FETCH_BACKOFF_MIN: Duration = Duration::from_secs(2);
/// No pause of a fetch is longer.
pub const DEFAULT_FETCH_BACKOFF_MAX: Duration = Duration::from_mins(2);

/// Longest value of a variable in bytes: an argument of a command, not a file.
const VARIABLE_MAX: usize = 4096;
/// Shortest time that any of the agent's timers may be set to; shorter ones only burn power.
const TIMER_MIN: Duration = Duration::from_millis(10);
/// Longest time that any of the agent's timers may be set to.
const TIMER_MAX: Duration = Duration::from_hours(24);

/// Everything that one agent needs to know before it starts.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// `https://host:port`; absent where enrolment recorded it.
    pub controller: Option<Uri>,
    /// The agent's own directory.
    pub state_dir: PathBuf,
    /// What the host is called when it enrols; afterwards its certificate says it.
    pub name: HostId,
    /// Where releases go.
    pub install: InstallSettings,
    /// Values for `${NAME}` in commands and checks of releases.
    pub variables: BTreeMap<String, String>,
    /// How the host reboots, and how that is noticed.
    pub reboot: RebootSettings,
    /// The connection to the controller.
    pub link: LinkSettings,
    /// How bytes are brought.
    pub fetch: FetchSettings,
    /// What is logged.
    pub log: LogSettings,
}

/// `[install]`.
#[derive(Clone, Debug)]
pub struct InstallSettings {
    /// Put before the absolute paths of releases.
    pub root: PathBuf,
    /// Directories of modules, in the order in which they are searched.
    pub modules: Vec<PathBuf>,
}

/// `[reboot]`.
#[derive(Clone, Debug)]
pub struct RebootSettings {
    /// Program and arguments.
    pub command: Vec<String>,
    /// A file whose content is another after each boot.
    pub boot_id_file: PathBuf,
}

/// `[link]`.
#[derive(Clone, Copy, Debug)]
pub struct LinkSettings {
    /// The first delay before connecting again is drawn from nothing to this.
    pub backoff_min: Duration,
    /// No delay is longer.
    pub backoff_max: Duration,
    /// Between two pings.
    pub keepalive: Duration,
    /// For the answer to a ping.
    pub keepalive_timeout: Duration,
    /// For name lookup, TCP and TLS together, and for the answer to each call.
    pub connect_timeout: Duration,
    /// Between two readings of the facts.
    pub facts_interval: Duration,
}

/// `[fetch]`.
#[derive(Clone, Copy, Debug)]
pub struct FetchSettings {
    /// For name lookup, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Longest silence before and between bytes.
    pub idle_timeout: Duration,
    /// The first pause after a failure is drawn from nothing to this.
    pub backoff_min: Duration,
    /// No pause is longer.
    pub backoff_max: Duration,
}

impl LinkSettings {
    /// How a channel to the controller is made.
    pub fn channel(&self) -> ChannelSettings {
        ChannelSettings {
            connect_timeout: self.connect_timeout,
            keepalive_interval: self.keepalive,
            keepalive_timeout: self.keepalive_timeout,
            keepalive_while_idle: false,
            user_agent: concat!("comber-agent/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

impl Settings for AgentSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let controller = controller(section);
        let state_dir = section.value("state_dir", PathBuf::from(DEFAULT_STATE_DIR));
        let name = host_name(section);
        let install = section.table("install");
        let variables = variables(section);
        let reboot = section.table("reboot");
        let link = section.table("link");
        let fetch = section.table("fetch");
        let log = section.table("log");
        Some(Self {
            controller,
            state_dir,
            name: name?,
            install: install?,
            variables: variables?,
            reboot: reboot?,
            link: link?,
            fetch: fetch?,
            log: log?,
        })
    }
}

impl Settings for InstallSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let root = section.value("root", PathBuf::from(DEFAULT_ROOT));
        let default = DEFAULT_MODULES.map(PathBuf::from).to_vec();
        let modules: Vec<PathBuf> = section.value("modules", default);
        if modules.iter().any(|dir| !dir.is_absolute()) {
            section.refuse("modules", "must be absolute directories");
        }
        Some(Self { root, modules })
    }
}

impl Settings for RebootSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let default = DEFAULT_REBOOT_COMMAND.map(String::from).to_vec();
        let command: Vec<String> = section.value("command", default);
        if command.first().is_none_or(String::is_empty) {
            section.refuse("command", "is empty; write [\"program\", \"argument\"]");
        }
        let boot_id_file = section.value("boot_id_file", PathBuf::from(DEFAULT_BOOT_ID_FILE));
        Some(Self {
            command,
            boot_id_file,
        })
    }
}

impl Settings for LinkSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let (backoff_min, backoff_max) = backoff(section, DEFAULT_BACKOFF_MIN, DEFAULT_BACKOFF_MAX);
        Some(Self {
            backoff_min,
            backoff_max,
            keepalive: timer(section, "keepalive", DEFAULT_KEEPALIVE),
            keepalive_timeout: timer(section, "keepalive_timeout", DEFAULT_KEEPALIVE_TIMEOUT),
            connect_timeout: timer(section, "connect_timeout", DEFAULT_CONNECT_TIMEOUT),
            facts_interval: timer(section, "facts_interval", DEFAULT_FACTS_INTERVAL),
        })
    }
}

impl Settings for FetchSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let (min, max) = (DEFAULT_FETCH_BACKOFF_MIN, DEFAULT_FETCH_BACKOFF_MAX);
        let (backoff_min, backoff_max) = backoff(section, min, max);
        Some(Self {
            connect_timeout: timer(section, "connect_timeout", DEFAULT_CONNECT_TIMEOUT),
            idle_timeout: timer(section, "idle_timeout", DEFAULT_FETCH_IDLE),
            backoff_min,
            backoff_max,
        })
    }
}

fn timer(section: &mut Section<'_>, key: &'static str, default: Duration) -> Duration {
    section.within(key, default, TIMER_MIN..=TIMER_MAX)
}

/// The window of the first pause, and the longest.
fn backoff(section: &mut Section<'_>, min: Duration, max: Duration) -> (Duration, Duration) {
    let min = timer(section, "backoff_min", min);
    let max = timer(section, "backoff_max", max);
    if max < min {
        section.refuse("backoff_max", "must not be shorter than backoff_min");
    }
    (min, max)
}

/// The address of a controller, which nothing is sent to in the clear.
pub(crate) fn controller(section: &mut Section<'_>) -> Option<Uri> {
    let controller: Option<Uri> = section.optional("controller");
    let other = |url: &Uri| url.scheme_str() != Some("https");
    if controller.as_ref().is_some_and(other) {
        section.refuse("controller", "must begin with https://");
    }
    controller
}

fn host_name(section: &mut Section<'_>) -> Option<HostId> {
    let text: String = section.value("name", hostname());
    match host_id(&text) {
        Ok(name) => Some(name),
        Err(problem) => {
            section.refuse("name", &problem);
            None
        }
    }
}

/// A name that is valid both as a host's and in a certificate, or what is wrong with it.
pub(crate) fn host_id(text: &str) -> Result<HostId, String> {
    let name = text.parse::<HostId>().map_err(|error| error.problem)?;
    match PeerIdentity::host(text) {
        Ok(_) => Ok(name),
        Err(error) => Err(error.to_string()),
    }
}

fn variables(section: &mut Section<'_>) -> Option<BTreeMap<String, String>> {
    let variables: BTreeMap<String, String> = section.named_values("variables")?;
    for (name, value) in &variables {
        let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        let begins_well = !name.starts_with(|c: char| c.is_ascii_digit());
        if name.is_empty() || !name.bytes().all(allowed) || !begins_well {
            let problem =
                format!("{name:?} must consist of A-Z, 0-9 and _ and begin with no digit");
            section.refuse("variables", &problem);
        }
        if value.len() > VARIABLE_MAX || value.chars().any(char::is_control) {
            let problem =
                format!("{name} must be at most {VARIABLE_MAX} bytes without control characters");
            section.refuse("variables", &problem);
        }
    }
    Some(variables)
}

/// The kernel's name for this host, in lower case as DNS compares it.
fn hostname() -> String {
    let uname = rustix::system::uname();
    uname.nodename().to_string_lossy().to_lowercase()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use comber_runtime::config::{Loaded, Sources, load};

    use super::*;

    fn read(text: &str) -> Result<Loaded<AgentSettings>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        fs::write(&path, text).unwrap();
        load(&Sources::default().with_file(&path)).map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        let settings = read("name = 'web-1'").unwrap().settings;
        assert_eq!(settings.controller, None);
        assert_eq!(settings.state_dir, PathBuf::from(DEFAULT_STATE_DIR));
        assert_eq!(settings.reboot.command, DEFAULT_REBOOT_COMMAND);
        assert_eq!(settings.link.backoff_min, DEFAULT_BACKOFF_MIN);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let told = read(
            "controller = 'http://c.example'\nname = 'Web 1'\nstate = '/x'\n[variables]\nport = '1'\n\
             [link]\nbackoff_min = '1h'\nkeepalive = '0s'\n[reboot]\ncommand = []\n",
        )
        .unwrap_err();
        for expected in [
            "controller: must begin with https://",
            "name: \"Web 1\" must consist of",
            "variables: \"port\" must consist of A-Z",
            "link.backoff_max: must not be shorter than backoff_min",
            "link.keepalive: \"0s\" is outside of \"10ms\" to \"1d\"",
            "reboot.command: is empty",
            "state: is not a known key",
        ] {
            assert!(told.contains(expected), "{expected} is not in:\n{told}");
        }
    }

    #[test]
    fn what_is_shown_loads_again() {
        let shown = read("name = 'web-1'\n[variables]\nPORT = '8080'")
            .unwrap()
            .to_string();
        let again = read(&shown).unwrap().settings;
        assert_eq!(again.variables["PORT"], "8080");
        assert_eq!(again.name.as_str(), "web-1");
    }
}
