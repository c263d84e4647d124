//! Real hosts for tests: Debian with systemd as PID 1, its own disk, network, boot ids and package database.
//!
//! ```text
//!   Fleet ── hosts.sh ──> h1 h2 h3 ...        nspawn containers, a switch, a controller's namespace
//!   HostLab = Fleet + Lab                     the controller and `comber` in that namespace, an agent on each host
//!   Vendor                                    makes releases for one installer; `Service` for `archive`, `Page` for `module`
//!   trial                                     one release, one cut at one instant, and whether the host tells the truth
//! ```
//!
//! Needs root, so every test that makes a fleet is ignored unless asked for (see README.md). A fleet has a name of its
//! own, any number of them run side by side, and each takes down its own hosts and no other.

mod agent;
mod debs;
mod fleet;
mod host;
mod inside;
mod lab;
mod load;
mod module;
mod packages;
mod rpms;
mod script;
mod service;
mod trial;
mod trials;
mod truth;
mod vendor;

pub use agent::{AGENT_UNIT, STATE_DIR};
pub use debs::Debs;
pub use fleet::Fleet;
pub use host::Host;
pub use lab::{HostLab, HostLabOptions, LONG};
pub use load::put_under_load;
pub use module::Page;
pub use packages::Packages;
pub use rpms::{FURTHER, Rpms, prepare_rpm_host, rpm};
pub use script::FleetOptions;
pub use service::{Behaviour, SERVICE_UNIT, Service};
pub use trial::{
    Cut, Told, Trial, When, at_every_state, at_random_instants, at_random_instants_of, ways_through,
};
pub use trials::{run_trials, soak};
pub use vendor::{Made, Vendor, Wish};
