//! `run`: puts the agent together, and takes it apart in order.
//!
//! ```text
//!   driver   Event in <── feed <── link (LinkView)        one stream to the controller
//!            HostStatus out ─────> link, manager
//!   renewal  IdentityStore <─────> link, fetch            the certificate
//!   facts    Facts, packages ────> link                   read every ten minutes
//!   manager  one line and signs of life for systemd
//! ```
//!
//! One thread; work that blocks goes to the runtime's pool. Invariant: whatever ends the process, signal, panic or power
//! cut, the ledger says where to go on.

use std::{path::Path, sync::Arc, thread, time::Duration};

use comber_machine::{BootId, Policy};
use comber_runtime::{
    clock::Clock,
    environment, fsx,
    shutdown::{Cause, Shutdown},
    systemd::Notifier,
    task,
    telemetry::{self, error_chain},
    tls,
};
use http::Uri;
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
    task::JoinHandle,
};

use super::{AppError, controller};
use crate::{
    config::{AgentSettings, FetchSettings},
    driver::{Driver, DriverError, Handle, LEFT, Parts},
    exec::Exec,
    facts::{Asked, FactReader},
    facts_watch::{self, HostReader, Told},
    feed,
    fetch::{Fetcher, HttpsSource, Patience},
    first_boot::{Ended, first_boot},
    health::Whole,
    history::{HistoryFile, Recorded},
    host_effects::HostEffects,
    identity::{self, IdentityStore, host_of},
    install::{Catalog, Jobs, Site},
    ledger::{LedgerFile, Source},
    leftovers,
    link::{Link, LinkState, LinkView, Packages, Pokes, Reach},
    local::Local,
    lock::{AGENT_LOCK, Lock, LockError},
    manager,
    packages::PackageReader,
    reboot::{Need, Reboot},
    renew::Renewal,
    surroundings::Variables,
    systemd::Systemd,
    trust::Keeper,
    update::{Itself, launch::SHELVES},
};

/// Where the output of commands goes while they run, in the state directory.
const SCRATCH: &str = "scratch";
/// The list of packages that the controller acknowledged last, in the state directory.
const PACKAGES: &str = "packages";
/// How often the lock is tried at start: an agent that is being replaced may still be ending.
const LOCK_TRIES: u32 = 20;
/// Pause between two tries of the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
/// Threads for work that blocks. One job of the disk runs at a time; the others are the facts and a new identity.
const BLOCKING_THREADS: usize = 4;

/// The runtime of every subcommand: one thread, and a few for what blocks.
pub(super) fn runtime() -> Result<Runtime, AppError> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|source| AppError::System {
            step: "start the runtime",
            source,
        })
}

/// Serves until a signal; enrols first, where a file says so.
pub(super) fn run(settings: &AgentSettings, enroll_file: Option<&Path>) -> Result<(), AppError> {
    telemetry::init(&settings.log)?;
    fsx::create_dir_durable(&settings.state_dir.join(SCRATCH), 0o700)?;
    let _lock = take_lock(&settings.state_dir)?;
    leftovers::end();
    runtime()?.block_on(live(settings, enroll_file))
}

async fn live(settings: &AgentSettings, enroll_file: Option<&Path>) -> Result<(), AppError> {
    let shutdown = Shutdown::new();
    shutdown.on_signals().map_err(|source| AppError::System {
        step: "listen for signals",
        source,
    })?;
    let clock = Clock::system();
    let notifier = Notifier::from_environment();
    if let Some(file) = enroll_file {
        let ended = first_boot(file, settings, &clock, &notifier, &shutdown).await?;
        if ended == Ended::Told {
            notifier.stopping();
            return Ok(());
        }
    }
    let identity = Arc::new(IdentityStore::open(&settings.state_dir)?);
    serve(settings, identity, clock, notifier, shutdown).await
}

/// The boot that the host runs in.
pub(super) fn boot_id(settings: &AgentSettings) -> Result<BootId, AppError> {
    Ok(BootId(reboot(settings).boot_id()?))
}

async fn serve(
    settings: &AgentSettings,
    identity: Arc<IdentityStore>,
    clock: Clock,
    notifier: Notifier,
    shutdown: Shutdown,
) -> Result<(), AppError> {
    let controller = controller(settings)?;
    let host = host_of(&identity.present())?;
    tracing::info!(%host, %controller, version = env!("CARGO_PKG_VERSION"), "the agent starts");

    let view = watch::Sender::new(LinkView::default());
    let reach = Reach {
        pokes: Pokes::default(),
        view: view.subscribe(),
    };
    let boot_id_file = &settings.reboot.boot_id_file;
    let itself = Itself::here(&settings.state_dir, boot_id_file, view.subscribe());
    let parts = (itself.clone(), reach.clone());
    let effects = host_effects(settings, &identity, &controller, &clock, parts);
    let (driver, handle) = driver(settings, effects, &clock, &shutdown, &itself).await?;
    let tasks = Tasks {
        settings,
        identity,
        controller,
        clock,
        view,
        reach,
        shutdown: shutdown.clone(),
    };
    let link = tasks.start(handle, notifier.clone());
    notifier.ready();
    let ran = driver.run().await;
    notifier.stopping();
    if let Err(error) = &ran {
        // The link and the others must end, too; the first cause stays.
        shutdown.trigger(Cause::Requested(error.to_string()));
    }
    // The last state is on its way; a link that panicked has set the cause already.
    let _ = link.await;
    let left = shutdown.cause() == Some(Cause::Requested(LEFT.to_owned()));
    if left && ran.is_ok() {
        identity::remove(&settings.state_dir)?;
        tracing::info!("the identity of this host is removed, it belongs to no fleet any more");
    }
    ended(ran, &shutdown)
}

fn ended(ran: Result<(), DriverError>, shutdown: &Shutdown) -> Result<(), AppError> {
    match (ran, shutdown.cause()) {
        (_, Some(Cause::Panicked(task))) => Err(AppError::Panicked(task)),
        (Err(error), _) => Err(error.into()),
        (Ok(()), _) => {
            tracing::info!("the agent ends");
            Ok(())
        }
    }
}

async fn driver(
    settings: &AgentSettings,
    effects: HostEffects<HttpsSource>,
    clock: &Clock,
    shutdown: &Shutdown,
    itself: &Itself,
) -> Result<
    (
        Driver<HostEffects<HttpsSource>, Recorded<LedgerFile>>,
        Handle,
    ),
    AppError,
> {
    let store = LedgerFile::new(&settings.state_dir);
    let loaded = itself.load_ledger(&store, clock.wall())?;
    match &loaded.source {
        Source::Current => {}
        Source::New => tracing::info!("this host has no ledger yet"),
        Source::Previous { why } => {
            tracing::error!(why, "the ledger is damaged, the one before it is used");
        }
    }
    let parts = Parts {
        effects,
        store: Recorded::new(store, HistoryFile::new(&settings.state_dir)),
        clock: clock.clone(),
        boot_id: boot_id(settings)?,
        policy: Policy::default(),
        shutdown: shutdown.clone(),
    };
    Ok(Driver::start(parts, loaded.ledger).await?)
}

fn host_effects(
    settings: &AgentSettings,
    identity: &Arc<IdentityStore>,
    controller: &Uri,
    clock: &Clock,
    (itself, reach): (Itself, Reach),
) -> HostEffects<HttpsSource> {
    let state_dir = &settings.state_dir;
    let reboot = reboot(settings);
    let site = Site {
        root: settings.install.root.clone(),
        shelves: state_dir.join(SHELVES),
        modules: settings.install.modules.clone(),
        exec: exec(settings),
        variables: settings.variables.clone(),
        catalog: Catalog::new(state_dir),
        jobs: Jobs::default(),
        itself,
    };
    let (store, tls_clock) = (Arc::clone(identity), clock.clone());
    let source = || {
        let (store, tls_clock) = (Arc::clone(&store), tls_clock.clone());
        HttpsSource {
            controller: controller.clone(),
            // Each request presents the certificate of its moment.
            tls: Box::new(move || Ok(tls::client(&store.present(), &tls_clock)?)),
            connect_timeout: settings.fetch.connect_timeout,
            idle_timeout: settings.fetch.idle_timeout,
        }
    };
    let FetchSettings {
        backoff_min,
        backoff_max,
        ..
    } = settings.fetch;
    let patience = Patience {
        backoff_min,
        backoff_max,
    };
    let fetcher = Fetcher::new(source(), state_dir, patience, reach.view.clone());
    let trust = Keeper::new(state_dir, Arc::new(source()), patience, clock.clone());
    let whole = Whole::new(reboot.systemd.clone(), state_dir, reach, clock.clone());
    HostEffects::new(site, (fetcher, trust), reboot, whole, clock.clone())
}

fn reboot(settings: &AgentSettings) -> Reboot {
    let variables = host_variables(settings);
    let systemd = Systemd::new(exec(settings), variables.clone(), settings.systemd);
    let settings = &settings.reboot;
    Reboot {
        policy: settings.policy.clone(),
        need: Need {
            any: settings.any_need,
            variables,
            ..Need::default()
        },
        ..Reboot::new(
            settings.command.clone(),
            settings.boot_id_file.clone(),
            systemd,
        )
    }
}

/// The facts ask what the reboot check asks.
fn asked(settings: &AgentSettings) -> Asked {
    let Reboot { need, systemd, .. } = reboot(settings);
    Asked {
        exec: exec(settings),
        need,
        systemd,
    }
}

fn exec(settings: &AgentSettings) -> Exec {
    Exec::new(settings.state_dir.join(SCRATCH))
}

/// The host's own programs are searched where the commands of releases are; nothing else of theirs is these programs'.
fn host_variables(settings: &AgentSettings) -> Variables {
    let path = settings.variables.get_key_value("PATH");
    path.map(|(name, value)| (name.clone(), value.clone()))
        .into_iter()
        .collect()
}

/// What the tasks beside the driver are made of.
struct Tasks<'a> {
    settings: &'a AgentSettings,
    identity: Arc<IdentityStore>,
    controller: Uri,
    clock: Clock,
    view: watch::Sender<LinkView>,
    reach: Reach,
    shutdown: Shutdown,
}

impl Tasks<'_> {
    /// Starts all of them; the link's is returned, because it has something to say at the end.
    fn start(self, handle: Handle, notifier: Notifier) -> JoinHandle<()> {
        let Self {
            settings,
            identity,
            controller,
            clock,
            view,
            reach,
            shutdown,
        } = self;
        let state = watch::Sender::new(LinkState::default());
        serve_locally(settings, &handle, &reach, &state, &clock, &shutdown);
        let root = &settings.install.root;
        let reader = HostReader {
            facts: FactReader::new(
                root.clone(),
                settings.reboot.boot_id_file.clone(),
                asked(settings),
            ),
            packages: PackageReader::new(root.clone(), exec(settings)),
            trust: (settings.state_dir.clone(), clock.clone()),
        };
        let told = Told::default();
        let packages = Packages {
            present: told.packages.subscribe(),
            file: settings.state_dir.join(PACKAGES),
        };
        let (shown, seen) = (view.subscribe(), handle.actual.clone());
        let watchdog = environment::watchdog();
        let link = Link {
            controller: controller.clone(),
            settings: settings.link,
            identity: Arc::clone(&identity),
            clock: clock.clone(),
            status: handle.actual,
            facts: told.facts.subscribe(),
            packages,
            view,
            state,
            pokes: reach.pokes.subscribe(),
        };
        let renewal = Renewal {
            controller,
            channel: settings.link.channel(),
            identity,
            clock,
        };
        let interval = settings.link.facts_interval;
        let again = facts_watch::Again {
            status: seen.clone(),
            pokes: reach.pokes.subscribe(),
        };
        let watching = facts_watch::run(reader, interval, again, told);
        task::spawn(
            "feed",
            &shutdown,
            feed::run(shown.clone(), handle.from_link),
        );
        task::spawn("renewal", &shutdown, renewal.run());
        task::spawn("facts", &shutdown, watching);
        let manager = manager::run(notifier, seen, shown, watchdog);
        task::spawn("manager", &shutdown, manager);
        task::spawn("link", &shutdown, link.run(shutdown.clone()))
    }
}

/// The agent works without its socket; only its subcommands know less then.
fn serve_locally(
    settings: &AgentSettings,
    handle: &Handle,
    reach: &Reach,
    state: &watch::Sender<LinkState>,
    clock: &Clock,
    shutdown: &Shutdown,
) {
    let opened = Local::open(
        &settings.state_dir,
        reach.clone(),
        state.subscribe(),
        handle.leave.clone(),
        clock.clone(),
    );
    match opened {
        Ok(local) => drop(task::spawn("local", shutdown, local.run())),
        Err(error) => {
            let error = error_chain(&error);
            tracing::warn!(error, "no local socket: status knows nothing of the link");
        }
    }
}

fn take_lock(state_dir: &Path) -> Result<Lock, LockError> {
    let path = state_dir.join(AGENT_LOCK);
    let mut taken = Lock::try_take(&path);
    for _ in 1..LOCK_TRIES {
        if !matches!(taken, Err(LockError::Held { .. })) {
            break;
        }
        thread::sleep(LOCK_PAUSE);
        taken = Lock::try_take(&path);
    }
    let lock = taken?;
    let signed = lock.sign();
    signed.map_err(|source| LockError::File { path, source })?;
    Ok(lock)
}
