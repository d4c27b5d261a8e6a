//! `harmonia cache warm`: compresses the NARs of closures before anybody asks for them.
//!
//! A running server has the directory, so it is asked, at the address that it listens on, for the first byte of each NAR:
//! the answer comes when the NAR has been made. Where none runs the NARs are made here.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harmonia_protocol::narinfo::NarInfo;
use harmonia_protocol::{HashPart, StoreDir, StorePath};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{HOST, RANGE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::config::{BindAddress, Config};
use crate::error::Error;
use crate::nar_cache::NarCache;
use crate::store::{ClosureLimits, Missing, Store};

/// How often it says how far it is.
const PROGRESS: Duration = Duration::from_secs(5);
/// Tries for a NAR of which a server says that it cannot be had now, and the pause before each but the first.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(2);
/// Paths of a closure: more than any store has, and less than half a gigabyte of memory.
const MAX_PATHS: usize = 1 << 20;
/// Longest narinfo that is read, in bytes.
const MAX_NARINFO: usize = 4 << 20;

/// What came of all of it.
#[derive(Debug, Default)]
pub struct Warmed {
    /// NARs that were made.
    pub made: usize,
    /// NARs that were there.
    pub found: usize,
    /// NARs that are served as they are.
    pub plain: usize,
}

/// Compresses the NARs of these paths and of all that they refer to. The first one that fails is the error.
pub async fn run(config: &Config, paths: &[PathBuf]) -> Result<Warmed, Error> {
    let directory = &config.virtual_nix_store;
    let hashes = paths.iter().map(|path| hash_part(path, directory)).collect::<Result<Vec<_>, _>>()?;
    let store = Arc::new(Store::new(config, &Arc::default())?);
    let mut pending = closure(&store, &hashes).await?;
    let (all, maker) = (pending.len(), Arc::new(Maker::find(config, store).await?));
    let (mut warmed, mut said) = (Warmed::default(), Instant::now());
    let mut making = JoinSet::new();
    loop {
        while making.len() < 2 * config.encoders.threads {
            let Some(hash) = pending.pop() else { break };
            let maker = Arc::clone(&maker);
            making.spawn(async move { maker.make(hash).await });
        }
        let Some(made) = making.join_next().await else { return Ok(warmed) };
        match made.unwrap_or_else(|panicked| Err(Error::Warm { what: "it".to_owned(), cause: panicked.to_string() }))? {
            Outcome::Made => warmed.made += 1,
            Outcome::Found => warmed.found += 1,
            Outcome::Plain => warmed.plain += 1,
        }
        if said.elapsed() > PROGRESS {
            said = Instant::now();
            let done = warmed.made + warmed.found + warmed.plain;
            tracing::info!("{done} of {all} nars, {} of them made now", warmed.made);
        }
    }
}

/// These paths and all that they refer to.
async fn closure(store: &Store, hashes: &[HashPart]) -> Result<Vec<HashPart>, Error> {
    let mut roots = Vec::new();
    for hash in hashes {
        roots.push(store.valid_path(*hash, Client::Server).await?.ok_or(Error::NotValid(*hash))?);
    }
    let limits = ClosureLimits { paths: MAX_PATHS, time: None };
    let closure = store.closure(&roots, limits, |_| true, Client::Server).await;
    match closure.missing {
        None => Ok(closure.members.iter().map(|member| member.path.hash_part()).collect()),
        Some(Missing::Store(error)) => Err(error.into()),
        Some(Missing::NotValid(path)) => Err(Error::NotValid(path.hash_part())),
        Some(cause) => Err(Error::Warm { what: "the closure".to_owned(), cause: cause.to_string() }),
    }
}

/// Of a store path, or of what is in one, or of a link to that.
fn hash_part(path: &PathBuf, directory: &StoreDir) -> Result<HashPart, Error> {
    let target = if path.starts_with(directory.as_str()) { None } else { path.canonicalize().ok() };
    let target = target.as_ref().unwrap_or(path);
    let name = target.strip_prefix(directory.as_str()).ok().and_then(|rest| rest.iter().next()?.to_str());
    let parsed = name.and_then(|name| StorePath::from_base_name(name).ok());
    parsed.map(|path| path.hash_part()).ok_or_else(|| Error::NoStorePath(path.clone()))
}

enum Outcome {
    Made,
    Found,
    Plain,
}

type Made = Result<Outcome, Error>;

/// Who makes them.
enum Maker {
    Server { bind: BindAddress, directory: StoreDir },
    Here { store: Arc<Store>, nars: Arc<NarCache> },
}

impl Maker {
    async fn find(config: &Config, store: Arc<Store>) -> Result<Self, Error> {
        let settings = config.nar_cache.as_ref().ok_or(Error::NoNarCache)?;
        if connect(&config.bind).await.is_ok() {
            if config.tls.is_some() {
                let cause = "it speaks TLS, and this command does not".to_owned();
                return Err(Error::Warm { what: format!("the server at {}", config.bind), cause });
            }
            tracing::info!("asking the server at {}", config.bind);
            return Ok(Self::Server { bind: config.bind.clone(), directory: config.virtual_nix_store.clone() });
        }
        tracing::info!("no server at {}, compressing here", config.bind);
        let nars = NarCache::open(config, Arc::clone(&store), Arc::default()).ok_or_else(|| Error::Warm {
            what: settings.dir.display().to_string(),
            cause: "the directory cannot be used".to_owned(),
        })?;
        Ok(Self::Here { store, nars })
    }

    async fn make(&self, hash: HashPart) -> Made {
        match self {
            Self::Here { store, nars } => here(store, nars, hash).await,
            Self::Server { bind, directory } => asked_for(bind, directory, hash).await,
        }
    }
}

async fn here(store: &Store, nars: &Arc<NarCache>, hash: HashPart) -> Made {
    let Some(valid) = store.valid_path(hash, Client::Server).await? else { return Err(Error::NotValid(hash)) };
    if !nars.takes(valid.info.nar_size) {
        return Ok(Outcome::Plain);
    }
    let failed = |cause: crate::nar_cache::FillError| Error::Warm {
        what: store.directory().full_path(&valid.path),
        cause: cause.to_string(),
    };
    let mut nar = nars.compressed(&valid, Client::Server).await.map_err(failed)?;
    let outcome = if nar.known_length().is_some() { Outcome::Found } else { Outcome::Made };
    nar.length().await.map_err(failed)?;
    Ok(outcome)
}

async fn asked_for(bind: &BindAddress, directory: &StoreDir, hash: HashPart) -> Made {
    let (target, failed) = (format!("/{hash}.narinfo"), |cause: String| Error::Warm { what: hash.to_string(), cause });
    let (status, text) = get(bind, &target, None).await.map_err(failed)?;
    match status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Err(Error::NotValid(hash)),
        _ => return Err(failed(format!("the server answers {status}"))),
    }
    let text = String::from_utf8(text).map_err(|error| failed(error.to_string()))?;
    let narinfo = NarInfo::parse(&text, directory).map_err(|error| failed(error.to_string()))?;
    if narinfo.compression.name() == "none" {
        return Ok(Outcome::Plain);
    }
    if narinfo.file_size.is_some() {
        return Ok(Outcome::Found);
    }
    let status = get(bind, &format!("/{}", narinfo.url.as_str()), Some("bytes=0-0")).await.map_err(failed)?.0;
    if status.is_success() { Ok(Outcome::Made) } else { Err(failed(format!("the server answers {status}"))) }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// To a server that listens on all addresses by one of this machine's own.
async fn connect(bind: &BindAddress) -> std::io::Result<Box<dyn Stream>> {
    Ok(match bind {
        BindAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
        BindAddress::Tcp(address) => {
            let own = address.replace("[::]:", "[::1]:").replace("0.0.0.0:", "127.0.0.1:");
            Box::new(TcpStream::connect(own).await?)
        }
    })
}

/// The response, tried again while the server is there and cannot answer.
async fn get(bind: &BindAddress, target: &str, range: Option<&str>) -> Result<(StatusCode, Vec<u8>), String> {
    let mut tries = 1;
    loop {
        match get_once(bind, target, range).await {
            Ok((status, _)) if status.is_server_error() && tries < TRIES => {}
            Err(_) if tries < TRIES => {}
            last => return last,
        }
        tries += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn get_once(bind: &BindAddress, target: &str, range: Option<&str>) -> Result<(StatusCode, Vec<u8>), String> {
    let stream = connect(bind).await.map_err(|cause| cause.to_string())?;
    let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connected.map_err(|cause| cause.to_string())?;
    tokio::spawn(connection);
    let mut request = Request::get(target).header(HOST, "localhost");
    if let Some(range) = range {
        request = request.header(RANGE, range);
    }
    let request = request.body(Empty).map_err(|cause| cause.to_string())?;
    let response = sender.send_request(request).await.map_err(|cause| cause.to_string())?;
    let (head, mut body) = response.into_parts();
    let mut text = Vec::new();
    while let Some(bytes) = next(&mut body).await.transpose().map_err(|cause| cause.to_string())? {
        text.extend_from_slice(&bytes);
        if text.len() > MAX_NARINFO {
            return Err("the answer is too long".to_owned());
        }
    }
    Ok((head.status, text))
}

async fn next(body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
    let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
}

/// The body of a request.
struct Empty;

impl hyper::body::Body for Empty {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}
