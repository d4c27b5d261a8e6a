//! HTTP: from a request to a route, to a handler, to a response.
//!
//! Owns what the endpoints say and by which headers. Knows nothing of sockets (that is `net`) nor of how the store is
//! asked. Source of the rules: RFC 9110, and what releases of Nix from 2.3 to 2.34 were seen to require.

pub mod account;
pub mod body;
pub mod coding;
mod compress;
mod directory_page;
pub mod error;
pub mod file_body;
mod files;
mod given_out;
mod handlers;
mod host;
mod html;
mod listing_body;
mod logged;
mod lookup;
mod origin;
pub mod pasted;
pub mod path_report;
mod people_page;
pub mod range;
pub mod reason;
pub mod reclaimable;
pub mod response;
pub mod route;
mod sending;
pub mod stored_zstd;
mod text;
mod trouble;
mod user_agent;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use harmonia_protocol::HashPart;
use hyper::header::{CONNECTION, EXPECT, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};

use account::{Account, CountedBody};
use body::Body;
use compress::Compression;
use error::HandlerError;
use files::Files;
use handlers::landing_page::LandingPage;
use handlers::narinfo::Syntax;
use logged::Entry;
pub use lookup::LookedUp;
use people_page::PeoplePages;
use reason::{NotFound, Reason};
use response::{Keep, Reply};
use route::Route;
pub use sending::{Progress, Sending};
use trouble::TroubleLog;

use crate::access_log::AccessLog;
use crate::config::Config;
use crate::fairness::ClientId;
use crate::fairness::Requester;
use crate::metrics::{self, Metrics};
use crate::nar_cache::NarCache;
use crate::signing::{Signer, SigningKeys};
use crate::store::{Store, ValidPath};

/// What this program is.
const VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// How often the daemon is asked which paths there are, where new ones are compressed ahead.
const NEW_PATHS: Duration = Duration::from_secs(10);

/// What all requests share.
#[derive(Debug)]
pub struct App {
    store: Arc<Store>,
    /// Nothing where compressed NARs are not kept.
    nars: Option<Arc<NarCache>>,
    signer: ArcSwap<Signer>,
    compression: Option<Compression>,
    cache_info: Bytes,
    files: Files,
    pages: PeoplePages,
    landing_page: LandingPage,
    /// Whether valid paths are listed for people.
    is_browsed: bool,
    metrics: Arc<Metrics>,
    troubles: Arc<TroubleLog>,
    sending: Arc<Sending>,
    /// Nothing where none is written.
    access_log: Option<Arc<AccessLog>>,
}

impl App {
    /// Everything that handlers need.
    #[must_use]
    pub fn new(config: &Config, store: Store, signer: Signer, metrics: Arc<Metrics>) -> Self {
        store.set_known_keys(signer.known_keys());
        let store = Arc::new(store);
        let nars = NarCache::open(config, Arc::clone(&store), Arc::clone(&metrics));
        let cache_info = handlers::cache_info::render(store.directory(), config.priority);
        let (pages, landing_page) = (PeoplePages::new(config.tls.is_some()), LandingPage::new(config, &store));
        let compression = config.enable_compression.then(|| Compression::new(config.zstd));
        let (files, troubles) = (Files::new(&metrics), Arc::default());
        for reason in Reason::ALL {
            metrics.expect_error_responses(reason.status().as_u16(), reason.label());
        }
        Self {
            store,
            nars,
            signer: ArcSwap::from_pointee(signer),
            compression,
            cache_info,
            files,
            pages,
            landing_page,
            is_browsed: config.browse,
            metrics,
            troubles,
            sending: Arc::default(),
            access_log: None,
        }
    }

    /// Enters responses there from now on.
    #[must_use]
    pub fn with_access_log(self, access_log: Option<Arc<AccessLog>>) -> Self {
        Self { access_log, ..self }
    }

    /// Opens the access log anew, for it may have been rotated.
    pub fn reopen_access_log(&self, config: &Config) {
        if let (Some(log), Some(config)) = (&self.access_log, &config.access_log) {
            log.reopen(config);
        }
    }

    /// Waits until the access log is written.
    pub async fn flush_access_log(&self) {
        if let Some(log) = &self.access_log {
            log.flush().await;
        }
    }

    /// The store that is served.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The compressed NARs that are kept, if any are.
    #[must_use]
    pub fn nar_cache(&self) -> Option<&Arc<NarCache>> {
        self.nars.as_ref()
    }

    /// The responses that are on their way.
    #[must_use]
    pub fn sending(&self) -> &Sending {
        &self.sending
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Brings the metrics of what is kept in memory and on disk up to date.
    pub fn record(&self) {
        self.store.update_metrics();
        if let Some(nars) = &self.nars {
            nars.update_metrics();
        }
    }

    /// Takes up what of these settings is looked at each time: how long what is known of paths is used, and how much of the
    /// disk compressed NARs may take.
    pub fn adjust(&self, config: &Config) {
        self.store.apply_config(config);
        if let Some(nars) = &self.nars {
            nars.apply_config(config);
        }
    }

    /// Signs paths whose narinfos clients are expected to ask for, without an end: of all that is done for a narinfo it
    /// takes the most time.
    pub async fn sign_ahead(&self) {
        while let Some(valid) = self.store.next_prefetched().await {
            handlers::narinfo::sign_ahead(self, &valid).await;
        }
    }

    /// Compresses NARs that clients are expected to ask for, without an end.
    pub async fn compress_ahead(&self) {
        match &self.nars {
            Some(nars) if nars.precompresses_new() => {
                tokio::join!(nars.run_precompress(), self.expect_new(nars));
            }
            Some(nars) => nars.run_precompress().await,
            None => {}
        }
    }

    /// Compresses NARs of paths that an operator has handed over, without an end.
    pub async fn compress_handed_over(&self) {
        if let Some(nars) = &self.nars {
            nars.run_warm_queue().await;
        }
    }

    /// Expects requests for all paths that are new in the store, without an end.
    async fn expect_new(&self, nars: &NarCache) {
        let mut known: Option<HashSet<HashPart>> = None;
        loop {
            if let Ok(paths) = self.store.all_hash_parts().await {
                let all: HashSet<_> = paths.into_iter().collect();
                for hash in known.iter().flat_map(|known| all.difference(known)) {
                    if let Ok(valid) = self.valid_path(*hash, ClientId::Server).await {
                        nars.precompress(&valid, ClientId::Server);
                    }
                }
                known = Some(all);
            }
            tokio::time::sleep(NEW_PATHS).await;
        }
    }

    /// Where the NAR of a path is compressed, if it is.
    fn compressed_nars(&self, valid: &ValidPath) -> Option<&Arc<NarCache>> {
        self.nars.as_ref().filter(|nars| self.compression.is_some() && nars.fits_nar(valid))
    }

    /// The keys in use.
    #[must_use]
    pub fn keys(&self) -> Arc<SigningKeys> {
        Arc::clone(self.signer.load().keys())
    }

    /// Signs so from now on.
    pub fn replace_signer(&self, signer: Signer) {
        self.store.set_known_keys(signer.known_keys());
        self.signer.store(Arc::new(signer));
    }

    /// Answers a request of a reader. A request's body is never read: there is nothing to send here.
    pub async fn respond<B>(&self, reader: Requester, request: Request<B>) -> Response<CountedBody> {
        let (head, _) = request.into_parts();
        let route = Route::parse(&head.uri);
        let account = Account::open(&self.metrics, &head.method, &route);
        let Some(log) = &self.access_log else {
            let reply = self.answer(&head, route, &reader).await;
            return account.answered(reply, head.uri.path(), &reader, &self.troubles, &self.sending, None);
        };
        let mut entry = Box::new(Entry::open(log, &head, &route, &reader));
        let (reply, notes) = Box::pin(metrics::taken(self.answer(&head, route, &reader))).await;
        entry.answered(&reply, notes, &self.store, || self.request_id(&head, &reader));
        account.answered(reply, head.uri.path(), &reader, &self.troubles, &self.sending, Some(entry))
    }

    async fn answer(&self, head: &Parts, route: Route, reader: &Requester) -> Reply {
        if !host::is_named(head) {
            let mut reply = response::refusal(StatusCode::BAD_REQUEST);
            if head.version <= Version::HTTP_11 {
                response::set(&mut reply, CONNECTION, HeaderValue::from_static("close"));
            }
            return reply;
        }
        if head.method != Method::GET && head.method != Method::HEAD {
            let mut reply =
                if head.method == Method::OPTIONS { response::options() } else { response::method_not_allowed() };
            // Whether the body still comes is now the client's choice, so what comes next could be either.
            if head.version == Version::HTTP_11 && head.headers.contains_key(EXPECT) {
                response::set(&mut reply, CONNECTION, HeaderValue::from_static("close"));
            }
            return reply;
        }
        let is_of_store = matches!(route, Route::Serve(_));
        let reply = self.route(head, route, reader.client()).await;
        let mut reply = reply.unwrap_or_else(|error| self.failed(head, reader, &error));
        if is_of_store {
            handlers::serve::protect(&mut reply);
        }
        let (version, status) = (head.version, reply.status().as_u16());
        tracing::debug!(method = %head.method, target = ?head.uri.path(), ?version, status, "request");
        if head.method == Method::HEAD { reply.map(|_| Body::empty()) } else { reply }
    }

    fn request_id(&self, head: &Parts, reader: &Requester) -> String {
        logged::id_of_proxy(&head.headers, reader).unwrap_or_else(|| self.troubles.new_id())
    }

    fn failed(&self, head: &Parts, reader: &Requester, error: &HandlerError) -> Reply {
        let reason = error.reason();
        self.metrics.error_response(reason.status().as_u16(), reason.label());
        if let Reason::NotFound(_) = reason {
            return response::not_found(reason);
        }
        let id = self.request_id(head, reader);
        self.troubles.report(head.uri.path(), reason.status(), error, &id);
        response::unavailable(reason, &id, user_agent::takes_error_bodies(&head.headers))
    }

    async fn route(&self, head: &Parts, route: Route, client: ClientId) -> Result<Reply, HandlerError> {
        let headers = &head.headers;
        match route {
            Route::LandingPage => Ok(Box::pin(handlers::landing_page::respond(self, head)).await),
            Route::CacheInfo => Ok(self.text(headers, Keep::AnHour, "text/x-nix-cache-info", self.cache_info.clone())),
            Route::NarInfo { hash, json } => {
                let syntax = if json { Syntax::Json } else { Syntax::Nix };
                handlers::narinfo::respond(self, headers, hash, syntax, client).await
            }
            Route::Realisation(output) => {
                let text = Box::pin(handlers::realisation::render(self, &output, client)).await?;
                Ok(self.text(headers, Keep::AnHour, "application/json", text))
            }
            // Boxed: what holds a NAR is large, and most requests are for narinfos.
            Route::Listing { hash } => Box::pin(handlers::listing::respond(self, head, hash, client)).await,
            Route::CompressedNar { hash, nar_hash, tag } => {
                Box::pin(handlers::compressed_nar::respond(self, head, hash, nar_hash, tag.as_ref(), client)).await
            }
            Route::Nar { hash, nar_hash } => Box::pin(handlers::nar::respond(self, head, hash, nar_hash, client)).await,
            Route::Version => Ok(response::plain(VERSION)),
            Route::Health => Ok(response::plain("OK")),
            Route::Ready => Ok(Box::pin(handlers::ready::respond(self)).await),
            Route::Metrics => Ok(handlers::metrics::respond(self, headers)),
            Route::PublicKeys => {
                let text = handlers::public_keys::render(self.signer.load().keys()).ok_or(NotFound::NoPublicKeys)?;
                Ok(self.text(headers, Keep::AnHour, response::PLAIN_TEXT, text))
            }
            Route::BuildLog { hash } => Box::pin(handlers::build_log::respond(self, head, hash, client)).await,
            Route::DebugInfo { id } => {
                let text = Box::pin(handlers::debug_info::render(self, &id, client)).await?;
                Ok(self.text(headers, Keep::AnHour, "application/json", text))
            }
            Route::Serve(place) => Box::pin(handlers::serve::respond(self, head, &place, client)).await,
            Route::PathPage { path } => Box::pin(handlers::path_page::respond(self, head, &path, client)).await,
            Route::Pasted(pasted) => handlers::path_page::redirect_pasted(self, &pasted, client).await,
            Route::Lookup { text } => Box::pin(handlers::lookup::respond(self, text.as_deref(), client)).await,
            Route::Browse { filter, from } => Box::pin(handlers::browse::respond(self, &filter, from, client)).await,
            Route::Unknown => Err(NotFound::UnknownUrl.into()),
        }
    }

    /// A text, by the client's leave encoded, with an entity tag.
    fn text(&self, headers: &HeaderMap, keep: Keep, kind: &'static str, text: Bytes) -> Reply {
        text::reply(text, text::ONE_PACKET, self.compression.as_ref(), headers, keep, kind)
    }
}
