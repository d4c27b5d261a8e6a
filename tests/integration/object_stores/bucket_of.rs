//! A bucket of a server or in a directory, as tests of commands write and read it without the program.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::support::engine::{Engine, Kind};
use crate::support::s3_proxy::S3Proxy;
use crate::support::scratch;

const INFO: &[u8] = b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n";

/// An empty bucket, of which only its store directory is known.
pub(super) enum Bucket {
    /// A folder of the bucket that all tests share, reached by the program through a proxy.
    Server { engine: &'static Engine, kind: Kind, folder: &'static str, proxy: S3Proxy, credentials: PathBuf },
    /// A directory.
    Directory(PathBuf),
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server { kind, .. } => kind.fmt(f),
            Self::Directory(path) => path.fmt(f),
        }
    }
}

impl Bucket {
    /// Returns a folder of an object store; `None`, which it says and counts, if this machine cannot run it.
    pub(super) fn on(kind: Kind, folder: &'static str) -> Option<Self> {
        let engine = Engine::shared(kind)?;
        let credentials = scratch::fresh_dir().join("access-key");
        let (id, secret) = (engine.access_key(), engine.secret_key());
        fs::write(&credentials, format!("AWS_ACCESS_KEY_ID={id}\nAWS_SECRET_ACCESS_KEY={secret}\n")).unwrap();
        let bucket = Self::Server { engine, kind, folder, proxy: S3Proxy::new(engine.address()), credentials };
        bucket.put("nix-cache-info", INFO);
        Some(bucket)
    }

    /// Creates a directory.
    pub(super) fn directory() -> Self {
        let bucket = Self::Directory(scratch::fresh_dir().join("bucket"));
        bucket.put("nix-cache-info", INFO);
        bucket
    }

    /// Returns the proxy through which the program reaches a server.
    pub(super) fn proxy(&self) -> Option<&S3Proxy> {
        match self {
            Self::Server { proxy, .. } => Some(proxy),
            Self::Directory(_) => None,
        }
    }

    /// Returns the beginning of the table of the configuration, without the name of a host.
    pub(super) fn table(&self) -> String {
        match self {
            Self::Server { engine, folder, proxy, credentials, .. } => format!(
                "[bucket]\nurl = \"s3://{}/{folder}\"\nendpoint = \"http://{}\"\nregion = {:?}\nallow_http = true\n\
                 credentials_file = \"{}\"\n",
                engine.bucket(),
                proxy.address(),
                engine.region(),
                credentials.display()
            ),
            Self::Directory(path) => format!("[bucket]\nurl = \"file://{}\"\n", path.display()),
        }
    }

    /// Puts an object.
    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        match self {
            Self::Server { engine, folder, .. } => {
                assert_eq!(engine.s3().put(&format!("{folder}/{name}"), bytes).status, 200);
            }
            Self::Directory(path) => {
                let file = path.join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, bytes).unwrap();
            }
        }
    }

    /// Makes an object older, in a directory.
    pub(super) fn age(&self, name: &str, by: Duration) {
        let Self::Directory(path) = self else { panic!("the clock of {self:?} is its own") };
        let file = File::options().append(true).open(path.join(name)).unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }

    /// Returns whether there is an object of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        match self {
            // rclone may cut off the body of an object that is deleted meanwhile.
            Self::Server { engine, folder, .. } => engine
                .s3()
                .try_ask("GET", &format!("{folder}/{name}"), &[], &[], b"")
                .is_ok_and(|response| response.status == 200 && response.complete),
            Self::Directory(path) => path.join(name).exists(),
        }
    }

    /// Returns the names of objects in a folder, at most a thousand.
    pub(super) fn names(&self, below: &str) -> Vec<String> {
        match self {
            Self::Server { engine, folder, .. } => engine.s3().list(&format!("{folder}/{below}"), 1000, &[]).keys,
            Self::Directory(path) => files(&path.join(below)),
        }
    }
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
