//! The running controller: starts every part, waits for the end, stops them in order.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use comber_runtime::clock::Clock;
use comber_runtime::fsx;
use comber_runtime::metrics::{self, Metrics};
use comber_runtime::shutdown::{Cause, Shutdown};
use comber_runtime::systemd::Notifier;
use comber_runtime::{backoff, environment, task, telemetry, tls};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;

use super::{EXIT_CONFIG, EXIT_FAILED, admin, control, manager};
use crate::api::{self, CertificateLives, Parts};
use crate::artifact::Artifacts;
use crate::config::ControllerSettings;
use crate::core::Core;
use crate::fleet_lock::{self, FleetLock};
use crate::metrics::{ServeMetrics, StateMetrics, WorldCollector};
use crate::pki::{Ca, CaError, RenewingCertificate};
use crate::serve::{Limits, Server, serve};
use crate::store::{Options, Store};

/// Runs until stopped; the exit code says how it ended.
pub(super) fn run(settings: &ControllerSettings) -> ExitCode {
    if let Err(error) = telemetry::init(&settings.log) {
        eprintln!("error: {}", telemetry::error_chain(&error));
        return ExitCode::from(EXIT_CONFIG);
    }
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(live(settings)),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(Cause::Signal) => ExitCode::SUCCESS,
        Ok(cause @ (Cause::Requested(_) | Cause::Panicked(_))) => {
            tracing::error!(%cause, "stopped by a failure");
            ExitCode::from(EXIT_FAILED)
        }
        Err(error) => {
            tracing::error!(error = telemetry::error_chain(error.as_ref()), "cannot run");
            ExitCode::from(super::exit_code(&error))
        }
    }
}

async fn live(settings: &ControllerSettings) -> Result<Cause> {
    let shutdown = Shutdown::new();
    shutdown.on_signals().context("cannot listen for signals")?;
    let clock = Clock::system();
    let notifier = Notifier::from_environment();
    let mut registry = Metrics::new("controller", env!("CARGO_PKG_VERSION"));
    let times = Arc::new(StateMetrics::register(&mut registry));
    let serve_metrics = ServeMetrics::register(&mut registry);

    let is_first = !began(&settings.data_dir).exists();
    let ca = Arc::new(ca(&settings.data_dir, is_first, &clock)?);
    let store = open_store(settings, is_first, Arc::clone(&times)).await?;
    fsx::write_atomic(&began(&settings.data_dir), b"", 0o600)?;
    let observer: Arc<dyn crate::core::Observer> = times;
    let core = Core::start(store.clone(), clock.clone(), &shutdown, observer)?;
    let max_size = settings.artifacts.max_size.0;
    let artifacts = Artifacts::open(&settings.artifacts_dir(), max_size, clock.wall())?;
    let artifacts = Arc::new(artifacts);
    registry
        .registry()
        .register_collector(Box::new(WorldCollector::new(core.clone())));

    let listener = bind(settings.listen, "listen").await?;
    let scraped = bind(settings.metrics.listen, "metrics.listen").await?;
    let locks = match settings.fleet_lock.listen {
        Some(address) => Some(bind(address, "fleet_lock.listen").await?),
        None => None,
    };
    let certificate = certificate(settings, &ca, &clock)?;
    let tls = tls::server(certificate.served(), &[ca.certificate().clone()], &clock)?;
    let lives = CertificateLives {
        host: settings.certificates.host_ttl,
        operator: settings.certificates.operator_ttl,
    };
    let parts = Parts {
        core: core.clone(),
        artifacts: Arc::clone(&artifacts),
        metrics: serve_metrics.clone(),
        ca: Arc::clone(&ca),
        lives,
        clock: clock.clone(),
        scratch: settings.data_dir.join("scratch"),
        shutdown: shutdown.clone(),
    };
    let serve_clock = clock.clone();
    let routes = api::routes(&parts).context("cannot set up reflection")?;
    admin::bootstrap(settings, &core, &ca, &clock).await?;
    pin_root(settings, &core, &clock).await?;

    task::spawn(
        "metrics",
        &shutdown,
        metrics::serve(scraped, registry.seal(), shutdown.clone()),
    );
    if let Some(listener) = locks {
        let tls = settings.fleet_lock.tls.then_some(tls.as_ref());
        let server = FleetLock::new(core.clone(), tls);
        let served = fleet_lock::serve(listener, server, shutdown.clone());
        task::spawn("fleet lock", &shutdown, served);
    }
    task::spawn(
        "store watch",
        &shutdown,
        stop_with(store.clone(), shutdown.clone()),
    );
    task::spawn(
        "renewal",
        &shutdown,
        renew(certificate, clock.clone(), shutdown.clone()),
    );
    let control = control::Control {
        core: core.clone(),
        store: store.clone(),
        ca,
        clock,
    };
    control::listen(&settings.data_dir, control, &shutdown)?;
    let limits = Limits {
        connections: settings.limits.connections as usize,
        keepalive: settings.limits.keepalive,
        keepalive_timeout: settings.limits.keepalive_timeout,
    };
    tracing::info!(address = %settings.listen, names = ?settings.names, "ready");
    notifier.ready();
    let life = manager::run(notifier.clone(), core.clone(), environment::watchdog());
    task::spawn("manager", &shutdown, life);
    let server = Server {
        tls,
        routes,
        core,
        artifacts,
        metrics: serve_metrics,
        clock: serve_clock,
        limits,
        shutdown: shutdown.clone(),
    };
    serve(listener, server).await;

    notifier.stopping();
    let cause = shutdown.wait().await;
    let closed = tokio::task::spawn_blocking(move || store.close()).await?;
    if let Err(fatal) = closed {
        tracing::error!(
            error = telemetry::error_chain(&*fatal),
            "the store did not close well"
        );
        return Ok(Cause::Requested(fatal.to_string()));
    }
    tracing::info!(%cause, "stopped");
    Ok(cause)
}

/// Where the CA lies.
pub(super) fn pki_dir(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("pki")
}

/// Where the store lies.
pub(super) fn store_dir(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("store")
}

/// Exists once the CA and the store do. From then on neither is made anew: one that is missing was lost, and a fleet must
/// not be met with an empty database in its place.
fn began(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join("began")
}

/// The CA; a new one on the first start only. It is made before the store is, so a crash between the two loses nothing.
fn ca(data_dir: &Path, is_first: bool, clock: &Clock) -> Result<Ca, CaError> {
    let state = fs::read_dir(store_dir(data_dir));
    let has_state = state.is_ok_and(|mut entries| entries.next().is_some());
    if has_state || !is_first {
        Ca::load(&pki_dir(data_dir), clock.wall())
    } else {
        Ca::load_or_create(&pki_dir(data_dir), clock.wall())
    }
}

async fn open_store(
    settings: &ControllerSettings,
    is_first: bool,
    times: Arc<StateMetrics>,
) -> Result<Store> {
    let dir = store_dir(&settings.data_dir);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let options = Options {
        create: is_first,
        observer: Some(times),
        // Nobody in this process watches the store: the core knows what it writes.
        history: 0,
        ..Options::default()
    };
    let open = move || Store::open(&dir, options);
    Ok(tokio::task::spawn_blocking(open).await??)
}

/// Pins the configured root where none is; from then on only the publisher's own chain of roots changes it.
async fn pin_root(settings: &ControllerSettings, core: &Core, clock: &Clock) -> Result<()> {
    let Some(path) = &settings.trust.root else {
        return Ok(());
    };
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read trust.root, {}", path.display()))?;
    let pinned = api::trust::pinned(&text, clock.wall(), "the configuration")
        .with_context(|| format!("trust.root, {}, cannot be pinned", path.display()))?;
    match &core.read().await.trust {
        Some(trust) if trust.kept.pinned == pinned.pinned => return Ok(()),
        Some(trust) => {
            tracing::warn!(
                pinned = %trust.kept.pinned, configured = %pinned.pinned,
                "trust.root is another root than the one that was pinned before, which stays"
            );
            return Ok(());
        }
        None => {}
    }
    core.keep_trust(None, pinned).await?;
    Ok(())
}

async fn bind(address: std::net::SocketAddr, key: &str) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address} ({key}); is it in use?"))
}

fn certificate(
    settings: &ControllerSettings,
    ca: &Arc<Ca>,
    clock: &Clock,
) -> Result<RenewingCertificate> {
    let (names, ttl) = (settings.names.clone(), settings.certificates.server_ttl);
    let random = backoff::random_or(0);
    RenewingCertificate::issue(Arc::clone(ca), names, ttl, random, clock.wall())
        .context("cannot make the server's certificate; are the names in order?")
}

/// Ends the process when the store has stopped: nothing can be acknowledged any more.
async fn stop_with(store: Store, shutdown: Shutdown) {
    // Both arms may be dropped: they only wait.
    tokio::select! {
        fatal = store.failed() => {
            let why = telemetry::error_chain(&*fatal);
            tracing::error!(error = why, "the store stopped");
            shutdown.trigger(Cause::Requested(why));
        }
        _ = shutdown.wait() => {}
    }
}

/// Renews the server's certificate for as long as the process runs.
async fn renew(mut certificate: RenewingCertificate, clock: Clock, shutdown: Shutdown) {
    const RETRY: std::time::Duration = std::time::Duration::from_mins(1);
    const LEAST: std::time::Duration = std::time::Duration::from_millis(100);
    loop {
        let left = certificate.renew_at().duration_since(clock.wall());
        // The wall clock can be set meanwhile, so it is looked at once an hour at least.
        let pause = left.try_into().unwrap_or_default();
        // And a life so short that it is always due must not take a whole core.
        let pause = std::time::Duration::clamp(pause, LEAST, std::time::Duration::from_hours(1));
        // Both arms may be dropped: they only wait.
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = shutdown.wait() => return,
        }
        if !certificate.renew_due(clock.wall()) {
            continue;
        }
        match certificate.renew(clock.wall()) {
            Ok(()) => tracing::info!("the server's certificate was renewed"),
            Err(error) => {
                let error = telemetry::error_chain(&error);
                tracing::error!(error, "the server's certificate cannot be renewed");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// A host is a connection is a file descriptor: take as many as the system allows.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        eprintln!("warning: cannot raise the limit of open files: {error}");
    }
}
