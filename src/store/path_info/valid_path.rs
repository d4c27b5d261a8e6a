//! Valid paths in a form that is compact enough to cache a hundred thousand of them.
//!
//! A path info, which is mostly names of other paths, is one text in the syntax of narinfos. So a narinfo is assembled
//! from slices of it, and only our own signatures need be cached beside it. [`CompactInfo::to_path_info`] parses it for
//! everything else.

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

/// Overhead of an allocation, in bytes: the allocator's header, and rounding.
const ALLOCATION: usize = 16;
/// Size of the two counts of an `Arc`.
const COUNTS: usize = 2 * size_of::<usize>();

/// A valid path with its path info and derived values cached with it.
#[derive(Debug)]
pub struct ValidPath {
    /// Store path.
    pub path: StorePath,
    /// Path info. The NAR size is not 0.
    pub info: CompactInfo,
    /// Cached decision whether the path may be served.
    pub verdict: CachedVerdict,
    /// State of its GC root.
    pub(crate) root_state: RootState,
    /// Time of the last request, in seconds since the Unix epoch; 0 if there was none.
    last_requested: AtomicU32,
    /// Our signatures, with the identity of the signer.
    signed: Mutex<Option<(Arc<()>, SignatureLines)>>,
}

/// Our signatures of a valid path, valid for as long as the path info is unchanged.
#[derive(Debug, Clone)]
pub struct SignatureLines {
    /// Lines of the narinfo: `Sig`, and possibly `CA`.
    pub lines: Arc<str>,
    /// Whether [`CompactInfo::trailing_lines`] follow them in the narinfo.
    pub append_daemon_lines: bool,
}

impl ValidPath {
    /// Creates a value with nothing cached.
    #[must_use]
    pub fn new(path: StorePath, info: &PathInfo) -> Self {
        let (verdict, root_state, signed) = (CachedVerdict::default(), RootState::default(), Mutex::default());
        Self {
            path,
            info: CompactInfo::from_path_info(info),
            verdict,
            root_state,
            last_requested: AtomicU32::new(0),
            signed,
        }
    }

    /// Records the time of a request. Takes some nanoseconds, because it reads the coarse clock.
    pub fn record_request(&self) {
        let now = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
        self.last_requested.store(u32::try_from(now).unwrap_or_default(), Ordering::Relaxed);
    }

    /// Returns the time of the last request in seconds since the Unix epoch; `None` if there was none while this
    /// path info was cached.
    #[must_use]
    pub fn last_requested(&self) -> Option<u64> {
        Some(self.last_requested.load(Ordering::Relaxed)).filter(|seconds| *seconds > 0).map(u64::from)
    }

    /// Returns the cached signatures, if they are of the signer with this identity.
    #[must_use]
    pub fn signature_lines(&self, by: &Arc<()>) -> Option<SignatureLines> {
        self.signed.lock().as_ref().filter(|(signer, _)| Arc::ptr_eq(signer, by)).map(|(_, signed)| signed.clone())
    }

    pub(crate) fn set_signature_lines(&self, by: &Arc<()>, signed: SignatureLines) {
        *self.signed.lock() = Some((Arc::clone(by), signed));
    }

    /// Returns the memory it takes, in bytes, rounded up.
    #[must_use]
    pub fn weight(&self) -> usize {
        let signed = self.signed.lock().as_ref().map_or(0, |(_, signed)| signed.lines.len() + COUNTS + ALLOCATION);
        let texts = self.path.base_name().len() + self.info.text.len() + 2 * ALLOCATION;
        size_of::<Self>() + COUNTS + ALLOCATION + texts + signed
    }
}

/// A [`PathInfo`], without a deriver that is no derivation.
#[derive(Debug, PartialEq, Eq)]
pub struct CompactInfo {
    /// Hash of the NAR.
    pub nar_hash: NarHash,
    /// Size of the NAR, in bytes.
    pub nar_size: u64,
    registration_time: u64,
    ultimate: bool,
    /// References, deriver and lines, concatenated.
    text: Box<str>,
    references_end: usize,
    deriver_end: usize,
}

impl CompactInfo {
    /// Converts a path info.
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
        // Any other is useless: clients refuse it, and it has no build log.
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

    /// Returns the base names of the references, ascending, separated by spaces.
    #[must_use]
    pub fn references(&self) -> &str {
        &self.text[..self.references_end]
    }

    /// Returns the base name of the derivation that built the path, if known.
    #[must_use]
    pub fn deriver(&self) -> Option<&str> {
        Some(&self.text[self.references_end..self.deriver_end]).filter(|deriver| !deriver.is_empty())
    }

    /// Returns nix-daemon's signatures and the content address as lines of a narinfo.
    #[must_use]
    pub fn trailing_lines(&self) -> &str {
        &self.text[self.deriver_end..]
    }

    /// Returns the references, ascending.
    pub fn reference_paths(&self) -> impl Iterator<Item = StorePath> {
        // They were store paths when they were encoded.
        self.references().split(' ').filter_map(|name| StorePath::from_base_name(name).ok())
    }

    /// Converts it back into a path info.
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
    fn a_path_info_survives_a_round_trip() {
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
    fn path_infos_are_equal_only_if_all_fields_are() {
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
    fn signatures_belong_to_one_signer_and_have_a_weight() {
        let valid = ValidPath::new(path("a"), &info());
        let before = valid.weight();
        let (one, other) = (Arc::default(), Arc::default());
        assert!(valid.signature_lines(&one).is_none());
        valid.set_signature_lines(&one, SignatureLines { lines: "Sig: x\n".into(), append_daemon_lines: true });
        assert!(valid.signature_lines(&one).is_some() && valid.signature_lines(&other).is_none());
        assert!(valid.weight() >= before + "Sig: x\n".len());
    }
}
