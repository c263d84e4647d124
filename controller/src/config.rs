//! The controller's settings: every default is a constant with its reason, and every mistake is told at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use comber_runtime::config::{Section, Settings, Size};
use comber_runtime::telemetry::LogSettings;

/// Where agents and operators connect: all addresses, on a port that nobody else uses.
pub const DEFAULT_LISTEN: &str = "[::]:7443";
/// Where monitoring scrapes: loopback, since the figures have no access control.
pub const DEFAULT_METRICS_LISTEN: &str = "127.0.0.1:9464";
/// Where everything of the controller lies.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/comber-controller";
/// The name that the server's certificate is for, beside those that are set.
pub const DEFAULT_NAMES: [&str; 1] = ["localhost"];
/// Life of a host's certificate: a host that was away for a holiday can still renew it.
pub const DEFAULT_HOST_TTL: Duration = Duration::from_hours(24 * 30);
/// Life of an operator's certificate; any command renews it when it is due.
pub const DEFAULT_OPERATOR_TTL: Duration = Duration::from_hours(24 * 365);
/// Life of the server's certificate; renewed by itself.
pub const DEFAULT_SERVER_TTL: Duration = Duration::from_hours(24 * 90);
/// Longest release: larger ones are images, which travel better by other means.
pub const DEFAULT_MAX_SIZE: u64 = 4 << 30;
/// Connections at once: about the file descriptors of a default system, less what the controller needs itself.
pub const DEFAULT_CONNECTIONS: u32 = 19_900;
/// Between two pings of a connection: 1.5 % of a core for 20,000 hosts, and firewalls keep it open.
pub const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(30);
/// For the answer to a ping.
pub const DEFAULT_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything that one controller needs to know.
#[derive(Debug, Clone)]
pub struct ControllerSettings {
    /// Where agents and operators connect.
    pub listen: SocketAddr,
    /// Names and addresses under which they do.
    pub names: Vec<String>,
    /// Where everything lies.
    pub data_dir: PathBuf,
    /// Where monitoring scrapes.
    pub metrics: MetricsSettings,
    /// Where hosts without agent ask before they reboot.
    pub fleet_lock: FleetLockSettings,
    /// The bytes of releases.
    pub artifacts: ArtifactSettings,
    /// How long certificates live.
    pub certificates: CertificateSettings,
    /// What releases are believed by.
    pub trust: TrustSettings,
    /// Bounds of the port.
    pub limits: LimitSettings,
    /// What is logged.
    pub log: LogSettings,
}

/// `[metrics]`.
#[derive(Debug, Clone)]
pub struct MetricsSettings {
    /// A plain listener.
    pub listen: SocketAddr,
}

/// `[fleet_lock]`.
#[derive(Debug, Clone, Copy)]
pub struct FleetLockSettings {
    /// A listener of its own; off where absent.
    pub listen: Option<SocketAddr>,
    /// Whether it speaks TLS, with the server's certificate.
    pub tls: bool,
}

/// `[artifacts]`.
#[derive(Debug, Clone)]
pub struct ArtifactSettings {
    /// Where they lie; `<data_dir>/artifacts` where absent.
    pub dir: Option<PathBuf>,
    /// Longest one, unpacked or carried.
    pub max_size: Size,
}

/// `[certificates]`.
#[derive(Debug, Clone, Copy)]
pub struct CertificateSettings {
    /// Of hosts.
    pub host_ttl: Duration,
    /// Of operators.
    pub operator_ttl: Duration,
    /// Of the server.
    pub server_ttl: Duration,
}

/// `[trust]`.
#[derive(Debug, Clone, Default)]
pub struct TrustSettings {
    /// A root of the publisher, pinned at the first start; absent: with the first import that asks for it.
    pub root: Option<PathBuf>,
}

/// `[limits]`.
#[derive(Debug, Clone, Copy)]
pub struct LimitSettings {
    /// Connections at once.
    pub connections: u32,
    /// Between two pings.
    pub keepalive: Duration,
    /// For the answer to a ping.
    pub keepalive_timeout: Duration,
}

impl ControllerSettings {
    /// Where artifacts lie.
    pub fn artifacts_dir(&self) -> PathBuf {
        self.artifacts
            .dir
            .clone()
            .unwrap_or_else(|| self.data_dir.join("artifacts"))
    }
}

impl Settings for ControllerSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let listen = address(section, "listen", DEFAULT_LISTEN);
        let names = section.value("names", DEFAULT_NAMES.map(String::from).to_vec());
        if names.is_empty() {
            section.refuse(
                "names",
                "is empty; name at least one that agents connect to",
            );
        }
        let data_dir = section.value("data_dir", PathBuf::from(DEFAULT_DATA_DIR));
        let metrics = section.table("metrics");
        let fleet_lock = section.table("fleet_lock");
        let artifacts = section.table("artifacts");
        let certificates = section.table("certificates");
        let trust = section.table("trust");
        let limits = section.table("limits");
        let log = section.table("log");
        Some(Self {
            listen: listen?,
            names,
            data_dir,
            metrics: metrics?,
            fleet_lock: fleet_lock?,
            artifacts: artifacts?,
            certificates: certificates?,
            trust: trust?,
            limits: limits?,
            log: log?,
        })
    }
}

impl Settings for MetricsSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        Some(Self {
            listen: address(section, "listen", DEFAULT_METRICS_LISTEN)?,
        })
    }
}

impl Settings for FleetLockSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let listen = section.optional("listen");
        // Plain text would let anybody on the way learn the ids, and give locks back in other hosts' names.
        let tls = section.value("tls", true);
        Some(Self { listen, tls })
    }
}

impl Settings for ArtifactSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let dir = section.optional("dir");
        let max_size = section.value("max_size", Size(DEFAULT_MAX_SIZE));
        Some(Self { dir, max_size })
    }
}

impl Settings for CertificateSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        // Short ones are for tests of renewal; a fleet that renews every second would do nothing else.
        let life = Duration::from_secs(1)..=Duration::from_hours(24 * 3650);
        Some(Self {
            host_ttl: section.within("host_ttl", DEFAULT_HOST_TTL, life.clone()),
            operator_ttl: section.within("operator_ttl", DEFAULT_OPERATOR_TTL, life.clone()),
            server_ttl: section.within("server_ttl", DEFAULT_SERVER_TTL, life),
        })
    }
}

impl Settings for TrustSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        Some(Self {
            root: section.optional("root"),
        })
    }
}

impl Settings for LimitSettings {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let pause = Duration::from_secs(1)..=Duration::from_hours(1);
        Some(Self {
            connections: section.within("connections", DEFAULT_CONNECTIONS, 1..=1_000_000),
            keepalive: section.within("keepalive", DEFAULT_KEEPALIVE, pause.clone()),
            keepalive_timeout: section.within(
                "keepalive_timeout",
                DEFAULT_KEEPALIVE_TIMEOUT,
                pause,
            ),
        })
    }
}

fn address(section: &mut Section<'_>, key: &'static str, default: &str) -> Option<SocketAddr> {
    let default: SocketAddr = default.parse().ok()?;
    Some(section.value(key, default))
}
