//! A server of objects that plays a script: GET, HEAD and LIST as S3 has them, over HTTP/1.1 and without signatures, and faults that
//! no real engine shows when they are wanted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use harmonia_protocol::nix32;
use ring::digest::{SHA256, digest};

use super::keys;
use super::store_item::StoreItem;

/// Name of the bucket.
const BUCKET: &str = "/cache/";

/// Behaviour towards GET of NARs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// None.
    Nothing,
    /// The connection ends after so many bytes of each body.
    Cut(usize),
    /// All of an object is sent, whichever range was asked for.
    NoRanges,
    /// Each request gets a 503.
    Unavailable,
    /// Each NAR is absent.
    Absent,
}

/// A running server. It ends with the test binary.
pub(crate) struct ObjectServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    objects: BTreeMap<String, Vec<u8>>,
    fault: Fault,
    /// Method and name of each request.
    requests: Vec<(String, String)>,
}

impl ObjectServer {
    /// Starts a server without objects.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { objects: BTreeMap::new(), fault: Fault::Nothing, requests: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                thread::spawn(move || serve(connection, &state));
            }
        });
        Self { address, state }
    }

    /// Returns the lines of a configuration that name the bucket and trust [`keys::OURS`].
    pub(crate) fn config(&self) -> String {
        format!(
            "bucket.url = \"s3://cache\"\nbucket.endpoint = \"http://{}\"\nbucket.allow_http = true\nbucket.host = \"b\"\n\
             bucket.trusted_public_keys = [\"{}\"]\n",
            self.address,
            keys::OURS.public
        )
    }

    /// Puts an object.
    pub(crate) fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.state.lock().unwrap().objects.insert(name.to_owned(), bytes.into());
    }

    /// Publishes a path as another host does, and returns the name of the file of its NAR below `nar/`.
    pub(crate) fn publish(&self, item: &StoreItem) -> String {
        let file = zstd::encode_all(&*item.nar, 3).unwrap();
        let name = format!("{}.nar.zst", file_hash(&file));
        let base = |path: &str| path.rsplit('/').next().unwrap().to_owned();
        let references: Vec<_> = item.references.iter().map(|it| base(it)).collect();
        let narinfo = format!(
            "StorePath: {}\nURL: nar/{name}\nCompression: zstd\nFileHash: sha256:{}\nFileSize: {}\nNarHash: sha256:{}\nNarSize: {}\n\
             References: {}\nSig: {}\n",
            item.path,
            file_hash(&file),
            file.len(),
            item.nar_hash_in_nix32(),
            item.nar_size,
            references.join(" "),
            keys::OURS.sign(item.fingerprint().as_bytes()),
        );
        self.put(&format!("nar/{name}"), file);
        self.put(&format!("{}.narinfo", item.hash_part()), narinfo);
        let last = format!("a/1700000000000-{:08}", self.published());
        self.put(&format!("harmonia/v1/index/{last}.zst"), segment(item.hash_part()));
        self.put("harmonia/v1/latest", format!("{last}\n"));
        name
    }

    /// Returns the number of published paths.
    fn published(&self) -> usize {
        self.state.lock().unwrap().objects.keys().filter(|name| name.starts_with("harmonia/v1/index/")).count()
    }

    /// Changes the behaviour from now on.
    pub(crate) fn play(&self, fault: Fault) {
        self.state.lock().unwrap().fault = fault;
    }

    /// Returns the number of requests of this method for names that begin so.
    pub(crate) fn requests(&self, method: &str, name: &str) -> usize {
        let state = self.state.lock().unwrap();
        state.requests.iter().filter(|(of, about)| of == method && about.starts_with(name)).count()
    }
}

/// Returns the hash of a file as in its name.
pub(crate) fn file_hash(file: &[u8]) -> String {
    nix32::encode(digest(&SHA256, file).as_ref())
}

/// Returns a segment of the index with one path.
fn segment(hash_part: &str) -> Vec<u8> {
    let mut plain = b"harmidx1".to_vec();
    plain.extend(1_u32.to_le_bytes());
    plain.extend(0_u32.to_le_bytes());
    plain.extend(nix32::decode(hash_part.as_bytes()).unwrap());
    let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
    compressor.include_checksum(true).unwrap();
    compressor.compress(&plain).unwrap()
}

fn serve(connection: TcpStream, state: &Mutex<State>) {
    let mut writer = connection.try_clone().unwrap();
    let mut reader = BufReader::new(connection);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or_default() == 0 {
                return;
            }
            if line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        if !answer(&head, state, &mut writer) {
            return;
        }
    }
}

/// Answers a request. Returns whether the connection goes on.
fn answer(head: &[String], state: &Mutex<State>, writer: &mut TcpStream) -> bool {
    let mut words = head[0].split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let range = head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let name = path.strip_prefix(BUCKET).unwrap_or_default().to_owned();
    let is_nar = name.starts_with("nar/");
    let (object, fault) = {
        let mut state = state.lock().unwrap();
        state.requests.push((method.to_owned(), name.clone()));
        let list = query.contains("list-type=2").then(|| list(&state.objects, query));
        (list.or_else(|| state.objects.get(&name).cloned()), state.fault)
    };
    let absent = is_nar && fault == Fault::Absent;
    let (status, object, part) = match (object, range) {
        _ if fault == Fault::Unavailable => ("503 Service Unavailable", Vec::new(), String::new()),
        (None, _) => ("404 Not Found", Vec::new(), String::new()),
        _ if absent => ("404 Not Found", Vec::new(), String::new()),
        (Some(object), Some(range)) if fault != Fault::NoRanges => {
            let (first, last) = range.split_once('-').unwrap();
            let (first, end): (usize, usize) = (first.parse().unwrap(), last.parse::<usize>().unwrap() + 1);
            let part = format!("Content-Range: bytes {first}-{}/{}\r\n", end - 1, object.len());
            ("206 Partial Content", object[first..end].to_vec(), part)
        }
        (Some(object), _) => ("200 OK", object, String::new()),
    };
    let sent = match fault {
        _ if method == "HEAD" => &[][..],
        Fault::Cut(after) if is_nar => &object[..after.min(object.len())],
        _ => &object,
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{part}ETag: \"x\"\r\nLast-Modified: Fri, 27 Nov 2026 09:00:00 GMT\r\n\r\n",
        object.len()
    );
    let written = writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(sent));
    written.is_ok() && (method == "HEAD" || sent.len() == object.len())
}

/// Returns the answer to a LIST.
fn list(objects: &BTreeMap<String, Vec<u8>>, query: &str) -> Vec<u8> {
    let prefix = query.split('&').find_map(|part| part.strip_prefix("prefix=")).unwrap_or_default().replace("%2F", "/");
    let mut contents = String::new();
    for (name, bytes) in objects.iter().filter(|(name, _)| name.starts_with(&prefix)) {
        let _ = write!(
            contents,
            "<Contents><Key>{name}</Key><LastModified>2026-11-27T09:00:00.000Z</LastModified><ETag>\"x\"</ETag>\
             <Size>{}</Size></Contents>",
            bytes.len()
        );
    }
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>").into_bytes()
}
