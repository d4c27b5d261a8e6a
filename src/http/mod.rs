//! HTTP: from a request to a route, to a handler, to a response.
//!
//! Owns what the endpoints say and by which headers. Knows nothing of sockets (that is `net`) nor of how the store is
//! asked. Source of the rules: RFC 9110, and what releases of Nix from 2.3 to 2.34 were seen to require.

pub mod account;
pub mod body;
pub mod coding;
pub mod compress;
mod directory_page;
pub mod error;
pub mod file_body;
mod files;
mod handlers;
mod html;
mod origin;
pub mod range;
pub mod response;
pub mod route;
mod trouble;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::header::{CONNECTION, ETAG, EXPECT, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};
use ring::digest::{SHA256, digest};
use tokio::sync::Semaphore;

use account::{Account, CountedBody};
use body::Body;
use coding::{Coding, negotiated};
use compress::compress_small;
use error::HandlerError;
use files::Files;
use handlers::landing_page::LandingPage;
use response::{Keep, Reply};
use route::Route;
use trouble::TroubleLog;

use crate::config::{Config, Zstd};
use crate::metrics::Metrics;
use crate::signing::SigningKeys;
use crate::store::Store;

/// A text that fits into one packet gains nothing from being smaller.
const LEAST_TEXT: usize = 1400;

/// What this program is.
const VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// What all requests share.
#[derive(Debug)]
pub struct App {
    store: Store,
    keys: ArcSwap<SigningKeys>,
    compression: Option<Compression>,
    cache_info: Bytes,
    files: Files,
    landing_page: LandingPage,
    metrics: Arc<Metrics>,
    troubles: TroubleLog,
}

/// How bodies are encoded for clients that accept it.
#[derive(Debug)]
struct Compression {
    settings: Zstd,
    /// What distinguishes the encoded bytes in entity tags: the encoder's release and settings decide them.
    tag: String,
    /// As many units are encoded at one time as there are processors.
    encoders: Arc<Semaphore>,
}

impl Compression {
    fn new(settings: Zstd) -> Self {
        let window = settings.window_log.unwrap_or_default();
        let long = if settings.long_distance_matching { "l" } else { "" };
        let tag = format!("zstd{}-{}-{window}{long}", compress::version(), settings.level);
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { settings, tag, encoders: Arc::new(Semaphore::new(processors)) }
    }
}

impl App {
    /// Everything that handlers need.
    #[must_use]
    pub fn new(config: &Config, store: Store, keys: SigningKeys, metrics: Arc<Metrics>) -> Self {
        let cache_info = handlers::cache_info::render(store.directory(), config.priority);
        let landing_page = LandingPage::new(config, &store);
        let compression = config.compression.map(Compression::new);
        let (files, troubles) = (Files::new(), TroubleLog::default());
        Self {
            store,
            keys: ArcSwap::from_pointee(keys),
            compression,
            cache_info,
            files,
            landing_page,
            metrics,
            troubles,
        }
    }

    /// The store that is served.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Signs with these from now on.
    pub fn replace_keys(&self, keys: SigningKeys) {
        self.keys.store(Arc::new(keys));
    }

    /// Answers a request. A request's body is never read: there is nothing to send here.
    pub async fn respond<B>(&self, request: Request<B>) -> Response<CountedBody> {
        let (head, _) = request.into_parts();
        let route = Route::parse(&head.uri);
        let account = Account::open(&self.metrics, &head.method, &route);
        account.answered(self.answer(&head, route).await)
    }

    async fn answer(&self, head: &Parts, route: Route) -> Reply {
        if head.method != Method::GET && head.method != Method::HEAD {
            let mut reply = response::method_not_allowed();
            // Whether the body still comes is now the client's choice, so what comes next could be either.
            if head.version == Version::HTTP_11 && head.headers.contains_key(EXPECT) {
                response::set(&mut reply, CONNECTION, HeaderValue::from_static("close"));
            }
            return reply;
        }
        let reply = match self.route(head, route).await {
            Ok(reply) => reply,
            Err(error) => response::unavailable(&self.troubles.report(head.uri.path(), &error)),
        };
        tracing::debug!(method = %head.method, target = ?head.uri.path(), status = reply.status().as_u16(), "request");
        if head.method == Method::HEAD { reply.map(|_| Body::empty()) } else { reply }
    }

    async fn route(&self, head: &Parts, route: Route) -> Result<Reply, HandlerError> {
        let Parts { method, headers, .. } = head;
        match route {
            Route::LandingPage => Ok(handlers::landing_page::respond(self, head)),
            Route::CacheInfo => Ok(self.text(headers, Keep::AnHour, "text/x-nix-cache-info", self.cache_info.clone())),
            Route::NarInfo { hash, json } => {
                let kind = if json { "application/json" } else { "text/x-nix-narinfo" };
                Ok(match handlers::narinfo::render(self, hash, json).await? {
                    Some(text) => self.text(headers, Keep::AnHour, kind, text),
                    None => response::refusal(StatusCode::NOT_FOUND),
                })
            }
            Route::Realisation(output) => Ok(match handlers::realisation::render(self, &output).await? {
                Some(text) => self.text(headers, Keep::AnHour, "application/json", text),
                None => response::refusal(StatusCode::NOT_FOUND),
            }),
            // Boxed: what holds a NAR is large, and most requests are for narinfos.
            Route::Listing { hash } => Box::pin(handlers::listing::respond(self, headers, hash)).await,
            Route::Nar { hash, nar_hash } => Box::pin(handlers::nar::respond(self, head, hash, nar_hash)).await,
            Route::Version => Ok(response::plain(VERSION)),
            Route::Health => Ok(response::plain("ok")),
            Route::Ready => Ok(handlers::ready::respond(self).await),
            Route::Metrics => Ok(handlers::metrics::respond(self)),
            Route::PublicKeys => Ok(match handlers::public_keys::render(&self.keys.load()) {
                Some(text) => self.text(headers, Keep::AnHour, response::PLAIN_TEXT, text),
                None => response::refusal(StatusCode::NOT_FOUND),
            }),
            Route::BuildLog { hash } => Box::pin(handlers::build_log::respond(self, method, headers, hash)).await,
            Route::Serve(place) => Box::pin(handlers::serve::respond(self, method, headers, &place)).await,
            Route::Unknown => Ok(response::refusal(StatusCode::NOT_FOUND)),
        }
    }

    /// A text of this cache, by the client's leave encoded, with an entity tag.
    fn text(&self, headers: &HeaderMap, keep: Keep, kind: &'static str, text: Bytes) -> Reply {
        let digest = data_encoding::HEXLOWER.encode(&digest(&SHA256, &text).as_ref()[..16]);
        let compression = self.compression.as_ref().filter(|_| text.len() >= LEAST_TEXT);
        let encoded = compression
            .filter(|_| negotiated(headers) == Coding::Zstd)
            .and_then(|compression| Some((compress_small(&text, &compression.settings).ok()?, &compression.tag)));
        let (body, coding, tag) = match encoded {
            Some((body, tag)) => (body.into(), Coding::Zstd, response::etag(&format!("{digest}-{tag}"))),
            None => (text, Coding::Identity, response::etag(&digest)),
        };
        let mut reply = if response::is_held(headers, &tag) {
            response::not_modified(keep, tag)
        } else {
            let mut reply = response::text(StatusCode::OK, keep, kind, body);
            response::set_coding(&mut reply, coding);
            response::set(&mut reply, ETAG, tag);
            reply
        };
        if compression.is_some() {
            response::set_vary(&mut reply);
        }
        reply
    }
}
