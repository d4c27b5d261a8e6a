//! A store path of a scripted daemon: its path info, each field of which a test can falsify, and its NAR.

use ring::digest::{SHA256, digest};

use super::keys::Key;
use super::scripted_daemon::{Query, Reply, Script};
use super::wire::{LAST, Wire};

/// A store path with its path info and its NAR, consistent unless a test changes a field.
#[derive(Clone)]
pub(crate) struct StoreItem {
    pub(crate) path: String,
    pub(crate) deriver: String,
    /// SHA-256 of the NAR, in hexadecimal.
    pub(crate) nar_hash: String,
    pub(crate) references: Vec<String>,
    pub(crate) nar_size: u64,
    pub(crate) signatures: Vec<String>,
    pub(crate) content_address: String,
    pub(crate) nar: Vec<u8>,
}

impl StoreItem {
    /// Returns a path that is a file with these contents.
    pub(crate) fn file(contents: &[u8]) -> Self {
        Self::with_nar(
            Wire::new()
                .string("nix-archive-1")
                .string("(")
                .string("type")
                .string("regular")
                .string("contents")
                .string(contents)
                .string(")")
                .done(),
        )
    }

    /// Returns a path with this NAR.
    pub(crate) fn with_nar(nar: Vec<u8>) -> Self {
        Self {
            path: "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-scripted".to_owned(),
            deriver: String::new(),
            nar_hash: data_encoding::HEXLOWER.encode(digest(&SHA256, &nar).as_ref()),
            references: Vec::new(),
            nar_size: nar.len() as u64,
            signatures: Vec::new(),
            content_address: String::new(),
            nar,
        }
    }

    /// Returns a path that is a file of this many bytes, none of which is zero: missing bytes are noticed.
    pub(crate) fn file_of(size: usize) -> Self {
        let contents: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap() + 1).collect();
        Self::file(&contents)
    }

    pub(crate) fn hash_part(&self) -> &str {
        hash_part(&self.path)
    }

    pub(crate) fn narinfo_url(&self) -> String {
        format!("/{}.narinfo", self.hash_part())
    }

    /// Returns the URL of the NAR with the hash of the path info.
    pub(crate) fn nar_url(&self) -> String {
        format!("/nar/{}-{}.nar", self.hash_part(), self.nar_hash_in_nix32())
    }

    /// Returns the NAR hash as in URLs.
    pub(crate) fn nar_hash_in_nix32(&self) -> String {
        let hash = data_encoding::HEXLOWER.decode(self.nar_hash.as_bytes()).unwrap();
        harmonia_protocol::nix32::encode(&hash)
    }

    /// Returns the fingerprint that signatures are made of.
    pub(crate) fn fingerprint(&self) -> String {
        let (hash, references) = (self.nar_hash_in_nix32(), self.references.join(","));
        format!("1;{};sha256:{hash};{};{references}", self.path, self.nar_size)
    }

    /// Returns the objects of the path in a bucket, signed by this key, with their names: its NAR and its narinfo.
    pub(crate) fn objects(&self, key: &Key) -> [(String, Vec<u8>); 2] {
        let file = zstd::bulk::compress(&self.nar, 3).unwrap();
        let hash = harmonia_protocol::nix32::encode(digest(&SHA256, &file).as_ref());
        let url = format!("nar/{hash}.nar.zst");
        let names: Vec<_> = self.references.iter().map(|path| &path["/nix/store/".len()..]).collect();
        let deriver = self.deriver.strip_prefix("/nix/store/").map(|name| format!("Deriver: {name}\n"));
        let narinfo = format!(
            "StorePath: {}\nURL: {url}\nCompression: zstd\nFileHash: sha256:{hash}\nFileSize: {}\nNarHash: sha256:{}\nNarSize: {}\n\
             References: {}\n{}Sig: {}\n",
            self.path,
            file.len(),
            self.nar_hash_in_nix32(),
            self.nar_size,
            names.join(" "),
            deriver.unwrap_or_default(),
            key.sign(self.fingerprint().as_bytes())
        );
        [(url, file), (format!("{}.narinfo", self.hash_part()), narinfo.into_bytes())]
    }

    /// Returns the reply to `QueryPathFromHashPart`.
    pub(crate) fn path_reply(&self) -> Wire {
        Wire::new().number(LAST).string(&self.path)
    }

    /// Returns the reply to `QueryPathInfo`.
    pub(crate) fn info_reply(&self) -> Wire {
        self.info_reply_with(0)
    }

    /// Returns the reply to `QueryPathInfo` of a path that was built locally.
    pub(crate) fn info_reply_of_built(&self) -> Wire {
        self.info_reply_with(1)
    }

    fn info_reply_with(&self, ultimate: u64) -> Wire {
        let (valid, registration_time) = (1, 1_700_000_000);
        Wire::new()
            .number(LAST)
            .number(valid)
            .string(&self.deriver)
            .string(&self.nar_hash)
            .strings(&self.references)
            .number(registration_time)
            .number(self.nar_size)
            .number(ultimate)
            .strings(&self.signatures)
            .string(&self.content_address)
    }

    /// Returns the reply to `NarFromPath`.
    pub(crate) fn nar_reply(&self) -> Wire {
        Wire::new().number(LAST).raw(&self.nar)
    }

    /// Returns the reply of the item that a query is about; `None` if it is about none of these.
    pub(crate) fn reply_among(items: &[Self], query: &Query) -> Option<Reply> {
        let is_asked = |item: &&Self| match query {
            Query::PathFromHashPart(hash) => hash == item.hash_part(),
            Query::PathInfo(path) | Query::Nar(path) => *path == item.path,
            _ => false,
        };
        items.iter().find(is_asked).map(|item| item.reply(query))
    }

    /// Returns the reply of a daemon that has only this path.
    pub(crate) fn reply(&self, query: &Query) -> Reply {
        match query {
            Query::PathFromHashPart(hash) if hash == self.hash_part() => self.path_reply(),
            Query::PathFromHashPart(_) => Wire::new().number(LAST).string(""),
            Query::PathInfo(path) if *path == self.path => self.info_reply(),
            Query::PathInfo(_) | Query::Realisation(_) | Query::BuildTrace(..) => Wire::new().number(LAST).number(0),
            Query::Nar(path) if *path == self.path => self.nar_reply(),
            Query::Nar(_) => Wire::new().number(LAST).error("no such path"),
            Query::AllPaths => Wire::new().number(LAST).strings(&[&self.path]),
        }
        .into()
    }

    /// Returns the script of a daemon that has only this path.
    pub(crate) fn script(&self) -> Script {
        let item = self.clone();
        Script::replying(move |query| item.reply(query))
    }

    /// Returns the script of a daemon that has every requested path, all with the content of this one.
    pub(crate) fn script_for_any_path(&self) -> Script {
        let item = self.clone();
        Script::replying(move |query| {
            let path = match query {
                Query::PathFromHashPart(hash) => format!("/nix/store/{hash}-item"),
                Query::PathInfo(path) | Query::Nar(path) => path.clone(),
                other => panic!("asked {other:?}"),
            };
            Self { path, ..item.clone() }.reply(query)
        })
    }

    /// Returns the script of a daemon that has only this path, with another reply to `NarFromPath`.
    pub(crate) fn script_with_nar(&self, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Script {
        let item = self.clone();
        Script::replying(move |query| match query {
            Query::Nar(_) => reply(),
            _ => item.reply(query),
        })
    }
}

/// Returns the numbered path, a file with these references.
pub(crate) fn item(number: u32, references: &[&StoreItem]) -> StoreItem {
    StoreItem {
        path: format!("/nix/store/{number:032}-item"),
        references: references.iter().map(|item| item.path.clone()).collect(),
        ..StoreItem::file(format!("contents of {number}").as_bytes())
    }
}

/// Returns the hash part of a full store path.
pub(crate) fn hash_part(path: &str) -> &str {
    &path["/nix/store/".len()..][..32]
}

/// Returns deterministic bytes that do not compress (xorshift64).
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
