//! `harmonia` without a subcommand: starts the server, runs it until a stop signal, and drains it.

mod reload;
mod service_manager;
mod stop;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

pub(crate) use reload::LoadConfig;
use reload::Reload;
use stop::StopSignals;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, oneshot, watch};

use crate::access::Access;
use crate::access_log::AccessLog;
use crate::admin;
use crate::audit_log::AuditLog;
use crate::bucket::Bucket;
use crate::commands::plain_credentials;
use crate::commands::quickstart::Guide;
use crate::config::{Config, SigningPolicy};
use crate::error::Error;
use crate::http::App;
use crate::metrics::Metrics;
use crate::nar_cache::{self, CacheDirectory};
use crate::net::tls::{ClientCa, TlsServer};
use crate::net::{self, ConnectionLimiter, Limits, Listener};
use crate::process::log::RecentLines;
use crate::process::malloc;
use crate::process::supervisor::supervise;
use crate::process::systemd;
use crate::push::spool::Spool;
use crate::signing::{Signer, SigningKeys};
use crate::store::Store;

/// Serves until SIGTERM or SIGINT, then completes responses in flight, unless a second signal arrives.
///
/// Starts even if nix-daemon is unavailable: requests are answered 502 until it is. `guide` prints what to type on
/// clients. `load_config` reads the configuration again on SIGHUP. `recent` holds the last errors for `harmonia status`.
pub(super) async fn run(
    config: Config,
    guide: bool,
    load_config: LoadConfig,
    recent: RecentLines,
) -> Result<(), Error> {
    let started = Instant::now();
    let keys = SigningKeys::load_and_warn(&config)?;
    let stores = config.store_directories();
    let metrics = Arc::new(Metrics::default());
    let load_tls = |files| TlsServer::load(files, ClientCa::configured(&config), &stores, &metrics);
    let tls = config.tls.as_ref().map(load_tls).transpose()?;
    let access = Access::load(&config, &metrics)?;
    if let Some(tls) = &tls {
        metrics.certificate.set(tls.not_after());
    }
    let access_log = config.access_log.as_ref().map(|config| AccessLog::open(config, &metrics)).transpose()?;
    let audit_log = config.audit.as_ref().map(|config| AuditLog::open(config, &metrics)).transpose()?;
    check_nar_cache(&config)?;
    let spool = open_spool(&config)?;
    warn_of_missing_files(&config);
    let bucket = Bucket::open(&config, &metrics).await?;
    let store = Store::new(&config, &metrics);
    store.load_hidden()?;
    let counted = Arc::clone(&metrics);
    let no_signals = |cause| Error::System { doing: "install signal handlers", cause };
    let stop = StopSignals::new().map_err(no_signals)?;
    let hangup = signal(SignalKind::hangup()).map_err(no_signals)?;
    let listeners = listen(&config).await?;
    // Before the addresses are logged: whoever reads them can use the admin socket.
    let admin_socket = match &config.admin_socket {
        Some(path) => admin::open(path).await,
        None => None,
    };
    if let Some(log) = &audit_log {
        log.started();
    }
    let url = announce(&listeners, tls.is_some(), &keys, &config.sign);
    plain_credentials::warn(&config, listeners.iter().filter_map(Listener::tcp_address).map(|address| address.ip()));
    let listening = listeners.iter().map(|listener| listener.local_url(tls.is_some())).collect();
    let address = listeners.iter().find_map(Listener::tcp_address);
    let guide = url.filter(|_| guide).map(|url| Guide::new(url, address, &keys));

    let signer = Signer::new(Arc::new(keys), config.sign.clone());
    let app = Arc::new(
        App::new(&config, store, signer, metrics)
            .with_access(access)
            .with_access_log(access_log)
            .with_audit_log(audit_log)
            .with_spool(&config, spool)
            .with_bucket(bucket),
    );
    tokio::spawn(probe_daemon(Arc::clone(&app), config.daemon.to_string(), guide));
    let (changed_limits, limits) = watch::channel(Limits::from_config(&config));
    let connection_limiter = Arc::new(ConnectionLimiter::new(&limits.borrow(), &counted));
    let reload = Reload {
        config,
        load_config,
        tls: tls.clone(),
        app: Arc::clone(&app),
        metrics: Arc::clone(&counted),
        limits: changed_limits,
    };
    // Dropping it removes the socket's file.
    let _admin_file = admin_socket.map(|(socket, file)| {
        let (app, connection_limiter, config) =
            (Arc::clone(&app), Arc::clone(&connection_limiter), reload.config.clone());
        serve_admin(socket, admin::Server { app, connection_limiter, config, listening, recent, started });
        file
    });
    let has_state_dir = reload.config.state_dir.is_some();
    supervise_tasks(&app, reload, hangup);
    if has_state_dir {
        supervise_with(&app, "pins", |app| async move { app.store().expire_pins().await });
    }
    systemd::ready();
    let answering = Arc::clone(&app);
    let service = move |requester, request| {
        let app = Arc::clone(&answering);
        async move { app.respond(requester, request).await }
    };
    let (stop_serving, stopping) = oneshot::channel();
    let shutdown = async {
        // A dropped sender means the same.
        let _ = stopping.await;
    };
    tokio::select! {
        () = net::serve(listeners, tls, limits.clone(), &counted, &connection_limiter, service, shutdown) => {}
        () = stop.graceful_then_force(stop_serving, limits, &counted) => tracing::warn!("stopping at once, aborting responses in flight"),
    }
    if let Some(left) = app.nar_cache().map(|nars| nars.queued_warm()).filter(|left| *left > 0) {
        tracing::warn!("dropped {left} queued paths: their NARs will be compressed on request");
    }
    app.flush_logs().await;
    tracing::info!("stopped");
    Ok(())
}

/// Refuses a NAR cache directory that is not harmonia's, and logs why NARs are served uncompressed if they are. A directory that
/// only cannot be used now does not keep the server from starting.
fn check_nar_cache(config: &Config) -> Result<(), Error> {
    match CacheDirectory::configured(config) {
        Err(error) if error.is_refusal() => return Err(error.into()),
        Ok(_) | Err(_) => {}
    }
    if let Some(why) = nar_cache::disabled_reason(config) {
        tracing::info!("NARs are served uncompressed: {why}");
    }
    Ok(())
}

/// Opens the spool of uploads, if paths can be pushed.
fn open_spool(config: &Config) -> Result<Option<Arc<Spool>>, Error> {
    let Some((push, state_dir)) = config.push.as_ref().zip(config.state_dir.as_ref()) else { return Ok(None) };
    Ok(Some(Spool::open(&state_dir.join("spool"), push.into())?))
}

/// Logs that the store's files are not visible, because a misspelt directory would show nowhere else.
fn warn_of_missing_files(config: &Config) {
    let Some(files) = &config.real_nix_store else { return };
    let Err(cause) = std::fs::read_dir(files) else { return };
    let what = format!("the store's files are not visible in {}: {cause}", files.display());
    if *files == Path::new(config.virtual_nix_store.as_str()) {
        tracing::info!("{what}");
    } else {
        tracing::warn!(
            "{what}\n  help: set real_nix_store to where {} is on this machine; without its files NARs are read from nix-daemon, and \
             /serve and /debuginfo answer 404",
            config.virtual_nix_store
        );
    }
}

/// Returns the sockets that the service manager passed, or binds the configured address.
async fn listen(config: &Config) -> Result<Vec<Listener>, Error> {
    let inherited = net::activated_listeners()?;
    if inherited.is_empty() {
        return Ok(Listener::bind(&config.bind, config.unix_socket_mode).await?);
    }
    tracing::info!("using the sockets of the service manager, not bind = \"{}\"", config.bind);
    Ok(inherited)
}

/// Logs addresses, keys and the lines for nix.conf of clients. Returns the URL for clients, which a Unix socket does not have.
fn announce(listeners: &[Listener], tls: bool, keys: &SigningKeys, sign: &SigningPolicy) -> Option<String> {
    for listener in listeners {
        tracing::info!("listening on {}", listener.local_url(tls));
    }
    let trusted = keys.trusted_public_keys();
    if trusted.is_empty() {
        tracing::warn!(
            "narinfos are not signed: no key is configured\n  help: create a key with nix-store --generate-binary-cache-key and set sign_key_paths"
        );
    }
    for key in keys.public_keys() {
        tracing::info!("signing with {key}");
    }
    if *sign != SigningPolicy::All {
        tracing::info!("signing {sign}");
    }
    let url = public_url(&listeners.iter().find(|listener| listener.tcp_address().is_some())?.local_url(tls));
    tracing::info!("for clients, in nix.conf: extra-substituters = {url}");
    if !trusted.is_empty() {
        tracing::info!("for clients, in nix.conf: extra-trusted-public-keys = {trusted}");
    }
    Some(url)
}

/// Returns the URL for other machines: with this machine's name in place of an unspecified address.
fn public_url(local_url: &str) -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    local_url.replace("://[::]:", &format!("://{name}:")).replace("://0.0.0.0:", &format!("://{name}:"))
}

/// Starts the tasks that run beside requests until the program ends.
fn supervise_tasks(app: &Arc<App>, reload: Reload, hangup: Signal) {
    // If a reload panics, the steps before it stay in effect, and the next signal starts another.
    let reload = Arc::new(Mutex::new((reload, hangup)));
    supervise("reload", move || {
        let reload = Arc::clone(&reload);
        async move {
            let (reload, hangup) = &mut *reload.lock().await;
            reload.run(hangup).await;
        }
    });
    supervise("memory", malloc::trim_periodically);
    supervise_with(app, "watchdog", service_manager::watchdog);
    supervise_with(app, "status", service_manager::status);
    supervise_with(app, "debug info index", |app| async move { app.store().index_debug_info().await });
    supervise_with(app, "quarantine", |app| async move { app.store().recheck_quarantined().await });
    supervise_with(app, "precompression", |app| async move { app.precompress().await });
    supervise_with(app, "warm queue", |app| async move { app.fill_warm_queue().await });
    if app.accepts_uploads() {
        supervise_with(app, "pushed paths", |app| async move { app.keep_pushed().await });
        supervise_with(app, "idle uploads", |app| async move { app.remove_idle_uploads().await });
    }
    if let Some(bucket) = app.bucket() {
        let bucket = Arc::clone(bucket);
        supervise("bucket index", move || {
            let bucket = Arc::clone(&bucket);
            async move { bucket.run_index().await }
        });
        supervise_with(app, "publishing", |app| async move { app.publish().await });
        supervise_with(app, "bucket host", |app| async move { app.announce_host().await });
        supervise_with(app, "bucket upkeep", |app| async move {
            if let Some(bucket) = app.bucket() {
                bucket.run_upkeep(app.store()).await;
            }
        });
    }
    supervise_with(app, "prefetched narinfos", |app| async move { app.sign_prefetched().await });
}

/// Serves the admin socket until the program ends.
fn serve_admin(socket: admin::AdminSocket, server: admin::Server) {
    let shared = Arc::new((socket, Arc::new(server)));
    supervise("admin socket", move || {
        let shared = Arc::clone(&shared);
        async move {
            let (socket, server) = &*shared;
            socket.serve(server).await;
        }
    });
}

fn supervise_with<F>(app: &Arc<App>, name: &'static str, mut begin: impl FnMut(Arc<App>) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let app = Arc::clone(app);
    supervise(name, move || begin(Arc::clone(&app)));
}

/// Logs the release and protocol of nix-daemon, or why it is unavailable. Starts the first scan of each view.
async fn probe_daemon(app: Arc<App>, daemon: String, guide: Option<Guide>) {
    app.store().scan_views();
    if !app.store().has_daemon() {
        tracing::info!("no nix-daemon: only paths of other hosts are served");
        // Shows in the metrics that nothing is missing.
        drop(app.store().session().await);
        return;
    }
    match app.store().session().await {
        Ok(session) => {
            let release = session.release.as_deref().map(|release| format!("Nix {release}, ")).unwrap_or_default();
            tracing::info!("nix-daemon at {daemon}: {release}protocol {}", session.version);
        }
        // The guide tells so.
        Err(_) if guide.is_some() => {}
        Err(error) => tracing::error!("{error}"),
    }
    if let Some(guide) = guide {
        guide.print(app.store()).await;
    }
}
