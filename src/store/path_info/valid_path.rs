//! Valid paths as they are kept in memory, where there may be a hundred thousand of them.
//!
//! Owns the representation: what the daemon said of a path, mostly names of other paths, is one text in the syntax of
//! narinfos, so that a narinfo is put together of its pieces and nothing else need be kept of it but our own signatures.
//! Whoever wants more parses it ([`CompactInfo::expand`]).

use crate::sync::Mutex;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use harmonia_protocol::StorePath;
use harmonia_protocol::content_address::ContentAddress;
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::path_info::PathInfo;
use harmonia_protocol::signature::Signature;
use rustix::time::{ClockId, clock_gettime};

use crate::store::gc_roots::root_state::RootState;
use crate::store::path_info::cached_verdict::CachedVerdict;

/// What an allocation costs beside its bytes: the allocator's own word, and rounding.
const ALLOCATION: usize = 16;
/// The two counts of an `Arc`.
const COUNTS: usize = 2 * size_of::<usize>();

/// A path that the daemon has called valid, and what it knows of it.
#[derive(Debug)]
pub struct ValidPath {
    /// The path.
    pub path: StorePath,
    /// What the daemon knows of it. The NAR's size is not 0.
    pub info: CompactInfo,
    /// What those above have decided about it.
    pub verdict: CachedVerdict,
    /// Whether it is kept from the garbage collector.
    pub(crate) mark: RootState,
    /// The time of a client's last request for it, in seconds since 1970; 0 if there was none.
    asked: AtomicU32,
    /// With who made it.
    signed: Mutex<Option<(Arc<()>, SignatureLines)>>,
}

/// What those who sign make of a valid path. It holds for as long as the path info is the same.
#[derive(Debug, Clone)]
pub struct SignatureLines {
    /// Lines of the narinfo, `Sig` and perhaps `CA`.
    pub lines: Arc<str>,
    /// Whether [`CompactInfo::lines`] follow.
    pub append_daemon_lines: bool,
}

impl ValidPath {
    /// A path and what the daemon says of it.
    #[must_use]
    pub fn new(path: StorePath, info: &PathInfo) -> Self {
        let (verdict, mark, signed) = (CachedVerdict::default(), RootState::default(), Mutex::default());
        Self { path, info: CompactInfo::from_path_info(info), verdict, mark, asked: AtomicU32::new(0), signed }
    }

    /// Takes note that a client asks for it now. Costs some nanoseconds: the clock is the one of the kernel's ticks.
    pub fn record_request(&self) {
        let now = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
        self.asked.store(u32::try_from(now).unwrap_or_default(), Ordering::Relaxed);
    }

    /// When a client asked for it last, in seconds since 1970, as far as is remembered: for as long as what the daemon says
    /// of it is kept and stays the same.
    #[must_use]
    pub fn last_requested(&self) -> Option<u64> {
        Some(self.asked.load(Ordering::Relaxed)).filter(|asked| *asked > 0).map(u64::from)
    }

    /// What the signer of this identity has made of it, if it was the last one that did.
    #[must_use]
    pub fn signature_lines(&self, by: &Arc<()>) -> Option<SignatureLines> {
        self.signed.lock().as_ref().filter(|(signer, _)| Arc::ptr_eq(signer, by)).map(|(_, signed)| signed.clone())
    }

    pub(crate) fn set_signature_lines(&self, by: &Arc<()>, signed: SignatureLines) {
        *self.signed.lock() = Some((Arc::clone(by), signed));
    }

    /// The memory that it takes, in bytes, or a little more.
    #[must_use]
    pub fn weight(&self) -> usize {
        let signed = self.signed.lock().as_ref().map_or(0, |(_, signed)| signed.lines.len() + COUNTS + ALLOCATION);
        let texts = self.path.base_name().len() + self.info.text.len() + 2 * ALLOCATION;
        size_of::<Self>() + COUNTS + ALLOCATION + texts + signed
    }
}

/// What the daemon knows of a path: a [`PathInfo`], but for a deriver that is no derivation.
#[derive(Debug, PartialEq, Eq)]
pub struct CompactInfo {
    /// The hash of its NAR.
    pub nar_hash: NarHash,
    /// The length of its NAR in bytes.
    pub nar_size: u64,
    registration_time: u64,
    ultimate: bool,
    /// References, deriver and lines, one after the other.
    text: Box<str>,
    references_end: usize,
    deriver_end: usize,
}

impl CompactInfo {
    /// The same in less memory.
    #[must_use]
    pub fn from_path_info(info: &PathInfo) -> Self {
        let mut text = String::new();
        for reference in &info.references {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(reference.base_name());
        }
        let references_end = text.len();
        // Nothing is done with another one: clients refuse it, and it has no log.
        if let Some(deriver) = info.deriver.as_ref().filter(|it| it.is_derivation()) {
            text.push_str(deriver.base_name());
        }
        let deriver_end = text.len();
        for signature in &info.signatures {
            // Writing to a string does not fail.
            let _ = writeln!(text, "Sig: {signature}");
        }
        if let Some(address) = &info.content_address {
            let _ = writeln!(text, "CA: {address}");
        }
        let PathInfo { nar_hash, nar_size, registration_time, ultimate, .. } = *info;
        let text = text.into_boxed_str();
        Self { nar_hash, nar_size, registration_time, ultimate, text, references_end, deriver_end }
    }

    /// The base names of what the path refers to, ascending, with a space between two.
    #[must_use]
    pub fn references(&self) -> &str {
        &self.text[..self.references_end]
    }

    /// The base name of the derivation that built the path, if known.
    #[must_use]
    pub fn deriver(&self) -> Option<&str> {
        Some(&self.text[self.references_end..self.deriver_end]).filter(|deriver| !deriver.is_empty())
    }

    /// The daemon's signatures and the content address as lines of a narinfo.
    #[must_use]
    pub fn trailing_lines(&self) -> &str {
        &self.text[self.deriver_end..]
    }

    /// What the path refers to, ascending.
    pub fn reference_paths(&self) -> impl Iterator<Item = StorePath> {
        // They were store paths before, as all else here was what it is parsed as.
        self.references().split(' ').filter_map(|name| StorePath::from_base_name(name).ok())
    }

    /// All of it.
    #[must_use]
    pub fn to_path_info(&self) -> PathInfo {
        let lines = || self.trailing_lines().lines().filter_map(|line| line.split_once(": "));
        let of = |wanted: &'static str| lines().filter(move |(name, _)| *name == wanted).map(|(_, value)| value);
        PathInfo {
            deriver: self.deriver().and_then(|name| StorePath::from_base_name(name).ok()),
            nar_hash: self.nar_hash,
            references: self.reference_paths().collect(),
            registration_time: self.registration_time,
            nar_size: self.nar_size,
            ultimate: self.ultimate,
            signatures: of("Sig").filter_map(|text| Signature::parse(text).ok()).collect(),
            content_address: of("CA").next().and_then(ContentAddress::parse),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        StorePath::from_base_name(&format!("0123456789abcdfghijklmnpqrsvwxyz-{name}")).unwrap()
    }

    fn info() -> PathInfo {
        let signature = |key: &str| Signature::parse(&format!("{key}:{}==", "A".repeat(86))).unwrap();
        PathInfo {
            deriver: Some(path("a.drv")),
            nar_hash: NarHash::from_digest([7; 32]),
            references: vec![path("a"), path("b")],
            registration_time: 1,
            nar_size: 120,
            ultimate: true,
            signatures: vec![signature("one-1"), signature("two-1")],
            content_address: ContentAddress::parse(&format!("fixed:r:sha256:{}", "0".repeat(52))),
        }
    }

    #[test]
    fn an_info_comes_out_as_it_went_in() {
        let nothing = PathInfo {
            deriver: None,
            references: Vec::new(),
            ultimate: false,
            signatures: Vec::new(),
            content_address: None,
            ..info()
        };
        assert!(info().content_address.is_some());
        for info in
            [info(), PathInfo { deriver: None, ..info() }, PathInfo { signatures: Vec::new(), ..info() }, nothing]
        {
            assert_eq!(CompactInfo::from_path_info(&info).to_path_info(), info);
        }
    }

    #[test]
    fn infos_are_the_same_only_if_all_of_them_is() {
        let others = [
            PathInfo { deriver: None, ..info() },
            PathInfo { nar_hash: NarHash::from_digest([8; 32]), ..info() },
            PathInfo { references: vec![path("a")], ..info() },
            PathInfo { registration_time: 2, ..info() },
            PathInfo { nar_size: 121, ..info() },
            PathInfo { ultimate: false, ..info() },
            PathInfo { signatures: Vec::new(), ..info() },
            PathInfo { content_address: None, ..info() },
        ];
        for other in others {
            assert_ne!(CompactInfo::from_path_info(&other), CompactInfo::from_path_info(&info()));
        }
    }

    #[test]
    fn what_one_signer_made_is_not_used_for_another_and_weighs_something() {
        let valid = ValidPath::new(path("a"), &info());
        let before = valid.weight();
        let (one, other) = (Arc::default(), Arc::default());
        assert!(valid.signature_lines(&one).is_none());
        valid.set_signature_lines(&one, SignatureLines { lines: "Sig: x\n".into(), append_daemon_lines: true });
        assert!(valid.signature_lines(&one).is_some() && valid.signature_lines(&other).is_none());
        assert!(valid.weight() >= before + "Sig: x\n".len());
    }
}
