//! Collects the status of the running server for a request.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use harmonia_protocol::StorePath;
use hyper::StatusCode;

use super::report::{
    ClientConnections, Compressing, Connections, DaemonConnections, DaemonStatus, GcProtection, Listed, LoggedLine,
    NarCache, NarinfoCache, PathStatus, QuarantineEntry, Requests, Sending, Status,
};
use super::requests::{DEFAULT_LIMIT, Refusal, Server};
use crate::http::error::HandlerError;
use crate::http::{App, LookedUp, ResponseProgress};
use crate::metrics::Samples;
use crate::store::{Outage, QuarantinedPath, Uptime};

impl Server {
    /// Returns the status, with at most `limit` items in each list. Probes nix-daemon.
    pub(super) async fn status(&self, limit: usize) -> Status {
        let app = &*self.app;
        let daemon = self.daemon().await;
        app.update_gauges();
        let samples = app.metrics().samples();
        let count = |name: &str| samples.value(name, None);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: self.started.elapsed().as_secs(),
            listening: self.listening.clone(),
            keys: app.signing_keys().public_keys().map(ToString::to_string).collect(),
            certificate_ends: Some(count("harmonia_tls_certificate_expiry_timestamp_seconds")).filter(|end| *end > 0),
            daemon: DaemonStatus { connections: daemon_connections(&samples), ..daemon },
            requests: Requests {
                answered: samples.sum("harmonia_http_requests_total"),
                in_flight: count("harmonia_http_requests_in_flight"),
                bytes_sent: samples.sum("harmonia_http_response_bytes_total"),
            },
            connections: self.connections(&samples, limit),
            sending: sending(app, limit, |_| true),
            compressing: compressing(app, limit),
            narinfo_cache: self.narinfo_cache(&samples),
            nar_cache: nar_cache(app, &samples),
            gc_protection: self.config.gc_protection.map(|duration| GcProtection {
                seconds: duration.as_secs(),
                roots: count("harmonia_gc_roots"),
                failed: ["full", "failed"]
                    .map(|it| result(&samples, "harmonia_gc_root_requests_total", it))
                    .iter()
                    .sum(),
            }),
            quarantine: quarantine(app, limit),
            reclaimed: {
                let all = samples.by_label("harmonia_reclaimed_total", "resource");
                all.into_iter().filter(|(_, times)| *times > 0).collect()
            },
            errors: Listed::new(self.recent.all().into_iter().rev().map(LoggedLine::from), limit),
        }
    }

    /// Returns the report on the path that `text` names.
    pub(super) async fn path(&self, text: &str) -> Result<PathStatus, Refusal> {
        let app = &*self.app;
        let unavailable = |error: HandlerError| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, &error);
        let missing = |why: &dyn Display| Err(Refusal::new(StatusCode::NOT_FOUND, why));
        let (hash, report, last_requested) = match app.look_up(text).await.map_err(unavailable)? {
            LookedUp::Valid { hash, report, last_requested } => (hash, *report, last_requested),
            LookedUp::NotValid(hash) => {
                return missing(&format_args!(
                    "no valid path has the hash part {hash}, so clients get a 404\n  help: build it or copy it to this machine, for example with nix-store --realise PATH"
                ));
            }
            LookedUp::NoSuchNar(nar_hash) => {
                return missing(&format_args!(
                    "no path in memory has the NAR sha256:{}\n  help: pass a store path; nix-daemon cannot look up paths by NAR hash",
                    nar_hash.to_nix32()
                ));
            }
            LookedUp::OtherStore => {
                return missing(&format_args!("not in {}, the store that is served", app.store().directory()));
            }
            LookedUp::Unrecognized => {
                let why = "not a store path\n  help: pass /nix/store/HASH-NAME, HASH-NAME, HASH or a URL of this cache";
                return Err(Refusal::new(StatusCode::BAD_REQUEST, &why));
            }
        };
        let quarantined_paths = app.store().quarantined();
        Ok(PathStatus {
            report,
            last_requested,
            quarantine: quarantined_paths.iter().find(|it| it.path.hash_part() == hash).map(quarantined),
            hidden_by: app.store().hidden_by(hash),
            sending: sending(app, DEFAULT_LIMIT, |it| it.hash == Some(hash)),
        })
    }

    async fn daemon(&self) -> DaemonStatus {
        let (store, began) = (self.app.store(), Instant::now());
        let answer = store.probe().await;
        let (answered_in, presence) = (began.elapsed().as_secs_f64() * 1000.0, store.daemon_uptime());
        let since = match &answer {
            Ok(()) => presence.as_ref().map(Uptime::lasted),
            Err(_) => store.daemon_outage().borrow().as_ref().map(Outage::lasted),
        };
        let session = presence.map(|presence| presence.session);
        DaemonStatus {
            address: self.config.daemon.to_string(),
            is_up: answer.is_ok(),
            since: since.as_ref().map(Duration::as_secs),
            answered_in,
            error: answer.err().map(|error| error.to_string()),
            release: session.as_ref().and_then(|session| session.release.clone()),
            protocol: session.map(|session| session.version.to_string()),
            connections: BTreeMap::new(),
        }
    }

    fn connections(&self, samples: &Samples, limit: usize) -> Connections {
        let state = |state| samples.value("harmonia_http_connections", Some(("state", state)));
        let mut clients = self.connection_limiter.clients();
        clients.sort_by_key(|share| Reverse((share.held, share.waiting)));
        let clients = clients.into_iter().map(|share| ClientConnections {
            client: share.client.to_string(),
            connections: share.held,
            active: share.in_use,
            waiting: share.waiting,
        });
        Connections {
            active: state("active"),
            idle: state("idle"),
            waiting: state("waiting"),
            clients: Listed::new(clients, limit),
        }
    }

    fn narinfo_cache(&self, samples: &Samples) -> NarinfoCache {
        let asked = |it| result(samples, "harmonia_narinfo_cache_requests_total", it);
        NarinfoCache {
            entries: samples.value("harmonia_narinfo_cache_entries", None),
            bytes: samples.value("harmonia_narinfo_cache_bytes", None),
            max_bytes: self.config.narinfo_cache.max_size.bytes(),
            hits: asked("hit"),
            misses: asked("miss"),
            stale: asked("stale"),
        }
    }
}

fn result(samples: &Samples, name: &str, result: &str) -> u64 {
    samples.value(name, Some(("result", result)))
}

fn daemon_connections(samples: &Samples) -> BTreeMap<String, DaemonConnections> {
    let of = |name: &str, pool: &str| samples.value(name, Some(("pool", pool)));
    let connections = |pool: &str| DaemonConnections {
        in_use: of("harmonia_daemon_pool_in_use", pool),
        max: of("harmonia_daemon_pool_max_size", pool),
        waiting: of("harmonia_daemon_pool_waiting", pool),
    };
    ["metadata", "nar"].map(|pool| (pool.to_owned(), connections(pool))).into()
}

fn name(path: &StorePath) -> String {
    path.base_name().to_owned()
}

fn sending(app: &App, limit: usize, is_wanted: impl Fn(&ResponseProgress) -> bool) -> Listed<Sending> {
    let mut all = app.active_responses().progress();
    all.retain(is_wanted);
    all.sort_by_key(|it| Reverse(it.length.unwrap_or(it.sent)));
    let sending = |it: ResponseProgress| Sending {
        client: it.client.to_string(),
        path: it.hash.and_then(|hash| app.store().cached_path(hash)).map(|valid| name(&valid.path)),
        url: it.target.into(),
        sent: it.sent,
        length: it.length,
        rate: it.rate,
        duration: it.took.as_secs_f64(),
    };
    Listed { total: all.len(), first: all.into_iter().take(limit).map(sending).collect() }
}

fn compressing(app: &App, limit: usize) -> Listed<Compressing> {
    let mut all = app.nar_cache().map(|nars| nars.active_fills()).unwrap_or_default();
    all.sort_by_key(|it| Reverse((it.is_running, it.elapsed)));
    let compressing = all.into_iter().map(|it| Compressing {
        path: name(&it.valid.path),
        nar_size: it.valid.info.nar_size,
        written: it.written,
        is_waiting: !it.is_running,
        duration: it.elapsed.as_secs(),
    });
    Listed::new(compressing, limit)
}

fn nar_cache(app: &App, samples: &Samples) -> Option<NarCache> {
    let nars = app.nar_cache()?;
    let asked = |it| result(samples, "harmonia_nar_cache_requests_total", it);
    Some(NarCache {
        dir: nars.dir().to_owned(),
        entries: samples.value("harmonia_nar_cache_entries", None),
        bytes: samples.value("harmonia_nar_cache_bytes", None),
        max_bytes: nars.max_size(),
        hits: asked("hit"),
        joined: asked("joined"),
        misses: asked("miss"),
        bypassed: asked("bypassed"),
        corrupt: samples.value("harmonia_nar_cache_removed_total", Some(("reason", "corrupt"))),
    })
}

fn quarantine(app: &App, limit: usize) -> Listed<QuarantineEntry> {
    let mut all = app.store().quarantined();
    all.sort_by_key(|it| Reverse((it.is_quarantined, it.lasted)));
    Listed::new(all.iter().map(quarantined), limit)
}

fn quarantined(it: &QuarantinedPath) -> QuarantineEntry {
    QuarantineEntry {
        path: name(&it.path),
        is_quarantined: it.is_quarantined,
        reason: it.why.to_string(),
        since: it.lasted.as_secs(),
        next_try: it.due_in.as_secs(),
    }
}
