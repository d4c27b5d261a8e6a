//! Serving: everything put together, from start to the signal to stop.

mod reload;
mod service_manager;
mod stop;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use reload::{Load, Reload};
use stop::StopSignals;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, oneshot, watch};

use crate::access_log::AccessLog;
use crate::admin;
use crate::commands::quickstart::Guide;
use crate::config::{Config, SigningPolicy};
use crate::error::Error;
use crate::http::App;
use crate::metrics::Metrics;
use crate::nar_cache::{self, CacheDirectory};
use crate::net::tls::Identity;
use crate::net::{self, Limits, Listener, Places};
use crate::process::log::RecentLines;
use crate::process::malloc;
use crate::process::supervisor::supervise;
use crate::process::systemd;
use crate::signing::{Signer, SigningKeys};
use crate::store::Store;

/// Serves until SIGTERM or SIGINT, then lets running responses finish, unless the signal comes again.
///
/// A daemon that is not there is no reason not to start: requests are answered 503 until it is. With `guide` a
/// newcomer is told what to type. `load` is for SIGHUP; `recent` has what went wrong, for who asks.
pub async fn run(config: Config, guide: bool, load: Load, recent: RecentLines) -> Result<(), Error> {
    let began = Instant::now();
    let keys = SigningKeys::load_and_warn(&config)?;
    let stores = config.store_directories();
    let identity = config.tls.as_ref().map(|files| Identity::load(files, &stores)).transpose()?;
    let acceptor = identity.as_ref().map(Identity::acceptor).transpose()?;
    let metrics = Arc::new(Metrics::default());
    if let Some(identity) = &identity {
        metrics.certificate.set(identity.not_after());
    }
    let access_log = config.access_log.as_ref().map(|config| AccessLog::open(config, &metrics)).transpose()?;
    look_at_nar_cache(&config)?;
    warn_of_missing_files(&config);
    let store = Store::new(&config, &metrics);
    let counted = Arc::clone(&metrics);
    let no_signals = |cause| Error::System { doing: "listen to signals", cause };
    let stop = StopSignals::new().map_err(no_signals)?;
    let hangup = signal(SignalKind::hangup()).map_err(no_signals)?;
    let listeners = listen(&config).await?;
    // Whoever reads where this server listens finds the admin socket there.
    let admin_socket = match &config.admin_socket {
        Some(path) => admin::open(path).await,
        None => None,
    };
    let url = announce(&listeners, acceptor.is_some(), &keys, &config.sign);
    let listening = listeners.iter().map(|listener| listener.local_url(acceptor.is_some())).collect();
    let address = listeners.iter().find_map(Listener::tcp_address);
    let guide = url.filter(|_| guide).map(|url| Guide::new(url, address, &keys));

    let signer = Signer::new(Arc::new(keys), config.sign.clone());
    let app = Arc::new(App::new(&config, store, signer, metrics).with_access_log(access_log));
    tokio::spawn(greet_daemon(Arc::clone(&app), config.daemon.to_string(), guide));
    let (changed_limits, limits) = watch::channel(Limits::of(&config));
    let places = Arc::new(Places::new(&limits.borrow(), &counted));
    let reload =
        Reload { config, load, identity, app: Arc::clone(&app), metrics: Arc::clone(&counted), limits: changed_limits };
    // The socket's file goes with this.
    let _admin_file = admin_socket.map(|(socket, file)| {
        let (app, places, config) = (Arc::clone(&app), Arc::clone(&places), reload.config.clone());
        serve_admin(socket, admin::Server { app, places, config, listening, recent, began });
        file
    });
    supervise_tasks(&app, reload, hangup);
    systemd::ready();
    let answering = Arc::clone(&app);
    let service = move |reader, request| {
        let app = Arc::clone(&answering);
        async move { app.respond(reader, request).await }
    };
    let (stop_serving, stopping) = oneshot::channel();
    let shutdown = async {
        // A sender that is gone means the same.
        let _ = stopping.await;
    };
    tokio::select! {
        () = net::serve(listeners, acceptor, limits.clone(), &counted, &places, service, shutdown) => {}
        () = stop.twice(stop_serving, limits, &counted) => tracing::warn!("stopping at once, with responses unfinished"),
    }
    if let Some(left) = app.nar_cache().map(|nars| nars.queued_warm()).filter(|left| *left > 0) {
        tracing::warn!("{left} paths that were handed over are not compressed, and will be when they are asked for");
    }
    app.flush_access_log().await;
    tracing::info!("stopped");
    Ok(())
}

/// Refuses a directory for compressed NARs that must not be used, and says why there would be none. One that only cannot be
/// used now is no reason not to serve.
fn look_at_nar_cache(config: &Config) -> Result<(), Error> {
    match CacheDirectory::configured(config) {
        Err(error) if error.is_refusal() => return Err(error.into()),
        Ok(_) | Err(_) => {}
    }
    if let Some(why) = nar_cache::disabled_reason(config) {
        tracing::info!("NARs are served uncompressed: {why}");
    }
    Ok(())
}

/// Says that the store's files are not where they should be, as a name that is misspelt would show nowhere else.
fn warn_of_missing_files(config: &Config) {
    let Some(files) = &config.real_nix_store else { return };
    let Err(cause) = std::fs::read_dir(files) else { return };
    let what = format!("the store's files are not visible in {}: {cause}", files.display());
    if *files == Path::new(config.virtual_nix_store.as_str()) {
        tracing::info!("{what}");
    } else {
        tracing::warn!(
            "{what}\n  help: is real_nix_store where {} is on this machine? without files /serve and /debuginfo are 404",
            config.virtual_nix_store
        );
    }
}

/// The sockets that the service manager passed on, or else the one that is configured.
async fn listen(config: &Config) -> Result<Vec<Listener>, Error> {
    let inherited = net::inherited()?;
    if inherited.is_empty() {
        return Ok(Listener::bind(&config.bind, config.unix_socket_mode).await?);
    }
    tracing::info!("using the sockets of the service manager, not bind = \"{}\"", config.bind);
    Ok(inherited)
}

/// Tells what an operator wants to see, and a client has to be told. The result is the URL for clients: Nix has none
/// for a cache on a Unix socket.
fn announce(listeners: &[Listener], tls: bool, keys: &SigningKeys, sign: &SigningPolicy) -> Option<String> {
    for listener in listeners {
        tracing::info!("listening on {}", listener.local_url(tls));
    }
    let trusted = keys.trusted_public_keys();
    if trusted.is_empty() {
        tracing::warn!(
            "narinfos are not signed: no key is configured\n  help: nix-store --generate-binary-cache-key makes one for sign_key_paths"
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

/// The URL by which other machines reach us: where we listen on every address, by this machine's name.
fn public_url(local_url: &str) -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    local_url.replace("://[::]:", &format!("://{name}:")).replace("://0.0.0.0:", &format!("://{name}:"))
}

/// Begins everything that goes on beside requests, for as long as the program runs.
fn supervise_tasks(app: &Arc<App>, reload: Reload, hangup: Signal) {
    // A reload that panics leaves what it had done so far, and the next signal begins another.
    let reload = Arc::new(Mutex::new((reload, hangup)));
    supervise("reload", move || {
        let reload = Arc::clone(&reload);
        async move {
            let (reload, hangup) = &mut *reload.lock().await;
            reload.at_each(hangup).await;
        }
    });
    supervise("memory", malloc::give_back);
    supervise_with(app, "watchdog", service_manager::watchdog);
    supervise_with(app, "status", service_manager::status);
    supervise_with(app, "index", |app| async move { app.store().index_debug_info().await });
    supervise_with(app, "paths held back", |app| async move { app.store().recheck_quarantined().await });
    supervise_with(app, "nars ahead", |app| async move { app.precompress().await });
    supervise_with(app, "nars handed over", |app| async move { app.compress_handed_over().await });
    supervise_with(app, "narinfos ahead", |app| async move { app.sign_prefetched().await });
}

/// Answers at the admin socket for as long as the program runs.
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

/// Tells which daemon this is, or why there is none.
async fn greet_daemon(app: Arc<App>, daemon: String, guide: Option<Guide>) {
    match app.store().session().await {
        Ok(session) => {
            let release = session.release.as_deref().map(|release| format!("nix {release}, ")).unwrap_or_default();
            tracing::info!("nix daemon at {daemon}: {release}protocol {}", session.version);
        }
        // The guide says so.
        Err(_) if guide.is_some() => {}
        Err(error) => tracing::error!("{error}"),
    }
    if let Some(guide) = guide {
        guide.print(app.store()).await;
    }
}
