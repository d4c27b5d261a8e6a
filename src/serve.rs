//! Serving: everything put together, from start to the signal to stop.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::{BindAddress, Config};
use crate::error::Error;
use crate::http::App;
use crate::metrics::Metrics;
use crate::net::{self, Limits, Listener, tls};
use crate::quickstart::Guide;
use crate::signing::SigningKeys;
use crate::store::Store;

/// Serves until SIGTERM or SIGINT, then lets running responses finish.
///
/// A daemon that is not there is no reason not to start: requests are answered 503 until it is. With `guide` a
/// newcomer is told what to type.
pub async fn run(config: &Config, guide: bool) -> Result<(), Error> {
    let (keys, warnings) = SigningKeys::load(&config.sign_key_paths, config.credentials_directory.as_deref())?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let acceptor = config.tls.as_ref().map(|tls| tls::acceptor(&tls.cert, &tls.key)).transpose()?;
    let metrics = Arc::new(Metrics::default());
    let store = Store::new(config, &metrics)?;
    let stop = stop_signal().map_err(|cause| Error::System { doing: "listen to signals", cause })?;
    let listener = Listener::bind(&config.bind).await?;
    let url = public_url(&listener.local_url(acceptor.is_some()));
    announce(config, &listener.local_url(acceptor.is_some()), &url, &keys);
    // Nix has no URL for a cache on a Unix socket.
    let guide = (guide && matches!(config.bind, BindAddress::Tcp(_))).then(|| Guide::new(url, &keys));

    let app = Arc::new(App::new(config, store, keys, metrics));
    tokio::spawn(greet_daemon(Arc::clone(&app), config.daemon.to_string(), guide));
    let limits = Limits { max_connections: config.max_connections(), ..Limits::default() };
    let service = move |request| {
        let app = Arc::clone(&app);
        async move { app.respond(request).await }
    };
    net::serve(listener, acceptor, limits, service, stop).await;
    tracing::info!("stopped");
    Ok(())
}

fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    })
}

/// What an operator wants to see, and a client has to be told.
fn announce(config: &Config, local_url: &str, public_url: &str, keys: &SigningKeys) {
    tracing::info!("listening on {local_url}");
    let keys: Vec<String> = keys.public_keys().map(ToString::to_string).collect();
    if keys.is_empty() {
        tracing::warn!(
            "narinfos are not signed: no key is configured\n  help: nix-store --generate-binary-cache-key makes one for sign_key_paths"
        );
    }
    for key in &keys {
        tracing::info!("signing with {key}");
    }
    if let BindAddress::Tcp(_) = config.bind {
        tracing::info!("for clients, in nix.conf: extra-substituters = {public_url}");
        if !keys.is_empty() {
            tracing::info!("for clients, in nix.conf: extra-trusted-public-keys = {}", keys.join(" "));
        }
    }
}

/// The URL by which other machines reach us: where we listen on every address, by this machine's name.
fn public_url(local_url: &str) -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    local_url.replace("://[::]:", &format!("://{name}:")).replace("://0.0.0.0:", &format!("://{name}:"))
}

/// Tells which daemon this is, or why there is none.
async fn greet_daemon(app: Arc<App>, daemon: String, guide: Option<Guide>) {
    match app.store().session().await {
        Ok(session) => {
            let release = session.release.as_deref().map(|release| format!("nix {release}, ")).unwrap_or_default();
            tracing::info!("nix daemon at {daemon}: {release}protocol {}", session.version);
            if let Some(guide) = guide {
                guide.print(app.store()).await;
            }
        }
        Err(error) => tracing::error!("{error}"),
    }
}
