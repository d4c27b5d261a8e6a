//! A bucket, or a folder of one, for the hosts of a test.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::host::Host;
use crate::support::engine::{Engine, Kind};
use crate::support::http::{Http, Response};
use crate::support::keys::{self, Key};
use crate::support::s3::S3;
use crate::support::s3_proxy::S3Proxy;
use crate::support::scratch;
use crate::support::store_item::hash_part;

/// Upper bound of a wait, generous because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// The object store of the fleet.
enum Store {
    /// One that other tests use at the same time.
    Shared(&'static Engine),
    /// One whose nodes may be killed.
    Own(Box<Engine>),
}

/// Place in an object store that no other test uses.
pub(crate) struct Fleet {
    store: Store,
    /// Folder in the bucket, without slashes.
    prefix: String,
    /// File with the access key.
    credentials: PathBuf,
}

impl Fleet {
    /// Returns a folder in the object store that all tests share; `None`, which it says and counts, if this machine cannot run it.
    pub(crate) fn shared(kind: Kind) -> Option<Self> {
        Some(Self::on(Store::Shared(Engine::shared(kind)?)))
    }

    /// Starts an object store whose nodes may be killed; `None`, which it says and counts, if this machine cannot run it.
    pub(crate) fn own(kind: Kind) -> Option<Self> {
        Some(Self::on(Store::Own(Box::new(Engine::start(kind)?))))
    }

    fn on(store: Store) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let prefix = format!("fleet-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let fleet = Self { store, prefix, credentials: scratch::fresh_dir().join("credentials") };
        fleet.write_secret_key(fleet.engine().secret_key());
        fleet
    }

    pub(crate) fn engine(&self) -> &Engine {
        match &self.store {
            Store::Shared(engine) => engine,
            Store::Own(engine) => engine,
        }
    }

    /// Writes the file with the access key, with this secret, as a rotation does: at once.
    pub(crate) fn write_secret_key(&self, secret: &str) {
        let new = self.credentials.with_extension("new");
        let text = format!("AWS_ACCESS_KEY_ID={}\nAWS_SECRET_ACCESS_KEY={secret}\n", self.engine().access_key());
        fs::write(&new, text).unwrap();
        fs::rename(new, &self.credentials).unwrap();
    }

    /// Starts a host with an empty store, whose `[bucket]` has these further keys.
    pub(crate) fn host(&self, name: &'static str, keys: &str) -> Host {
        Host::start(name, self, &keys::OURS, keys)
    }

    /// Starts a host that signs with this key.
    pub(crate) fn host_with_key(&self, name: &'static str, key: &Key, keys: &str) -> Host {
        Host::start(name, self, key, keys)
    }

    /// Starts a host without a store.
    pub(crate) fn gateway(&self, name: &'static str, keys: &str) -> Host {
        Host::gateway(name, self, keys)
    }

    /// Returns the lines of `[bucket]` that all hosts have, for one that reaches the object store by this proxy.
    pub(super) fn table(&self, name: &str, proxy: &S3Proxy) -> String {
        let engine = self.engine();
        format!(
            "[bucket]\nurl = \"s3://{}/{}\"\nendpoint = \"http://{}\"\nallow_http = true\nregion = \"{}\"\n\
             credentials_file = \"{}\"\nhost = \"{name}\"\n",
            engine.bucket(),
            self.prefix,
            proxy.address(),
            engine.region(),
            self.credentials.display(),
        )
    }

    /// Returns the key of an object that has this name below the prefix.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    pub(crate) fn s3(&self) -> S3 {
        self.engine().s3()
    }

    /// Gets an object that has this name below the prefix.
    pub(crate) fn object(&self, name: &str) -> Response {
        self.s3().get(&self.key(name))
    }

    /// Returns the names of all objects in a folder, below the prefix.
    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let (s3, mut names, mut token) = (self.s3(), Vec::new(), None::<String>);
        loop {
            let more: Vec<_> = token.iter().map(|token| ("continuation-token", token.as_str())).collect();
            let page = s3.list(&self.key(folder), 1000, &more);
            names.extend(page.keys.iter().map(|key| key[self.prefix.len() + 1..].to_owned()));
            token = page.next;
            if token.is_none() {
                return names;
            }
        }
    }

    /// Deletes every object.
    pub(crate) fn wipe(&self) {
        for name in self.names("") {
            assert!(matches!(self.s3().delete(&self.key(&name)).status, 200 | 204), "{name}");
        }
    }

    /// Returns whether the bucket has the narinfo of a path.
    pub(crate) fn has(&self, path: &str) -> bool {
        let key = self.key(&format!("{}.narinfo", hash_part(path)));
        // rclone replaces an object in place: its body may end early meanwhile.
        self.s3().try_ask("GET", &key, &[], &[], b"").is_ok_and(|response| response.status == 200 && response.complete)
    }

    /// Returns the URL at which anybody can read the bucket without harmonia.
    pub(crate) fn public_url(&self) -> String {
        format!("{}/{}", self.engine().public_url(), self.prefix)
    }
}

/// Polls until this holds, and returns how long that took: no event tells.
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> bool) -> Duration {
    within(PATIENCE, what, holds)
}

/// Polls until this holds, for at most so long, and returns how long that took.
pub(crate) fn within(time: Duration, what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < time, "{what}: not within {time:?}");
        thread::sleep(POLL);
    }
    begin.elapsed()
}

/// Requests the narinfo of a path.
pub(crate) fn narinfo(http: Http, path: &str) -> Response {
    http.get(&format!("/{}.narinfo", hash_part(path)))
}
