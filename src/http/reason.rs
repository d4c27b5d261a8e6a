//! Reasons for which a request has no answer: one name each, for the log, the metrics and the operator, and what of it a
//! client is told.
//!
//! Owns that a path which is kept from clients looks to them like one that is not there, to the byte: the reason is for
//! the operator alone.

use hyper::StatusCode;

/// A reason for a 404: there is nothing, or nothing that this client is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotFound {
    /// The URL is of no endpoint, or malformed.
    UnknownUrl,
    /// The daemon says that no path with this hash is valid.
    NotValid,
    /// The path is valid, and nobody who is trusted vouches for it (`serve_untrusted = false`).
    Untrusted,
    /// The path is valid, and its NAR has turned out not to be what the daemon says.
    Quarantined,
    /// The path has another NAR than the URL names.
    NarHashMismatch,
    /// The rest of a compressed NAR is asked for that is not kept here.
    NoCompressedNar,
    /// The store path has no such file, or none that can be given out.
    NoFile,
    /// There is no log of this derivation or output.
    NoLog,
    /// The daemon knows of no realisation of this output.
    NoRealisation,
    /// The daemon has no realisations, or none in this form.
    RealisationsUnsupported,
    /// The daemon has one, and nobody who is trusted has signed it (`serve_untrusted = false`).
    UntrustedRealisation,
    /// No path that is given out has the debug info of this build.
    NoDebugInfo,
    /// Nothing is signed here.
    NoPublicKeys,
}

/// A reason for an error of ours: 404, 502 or 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// There is nothing: 404.
    NotFound(NotFound),
    /// No connection to the daemon: 502.
    DaemonUnreachable,
    /// The daemon does not serve this user: 502.
    DaemonRefuses,
    /// The daemon does not answer in time: 502.
    DaemonTimeout,
    /// The daemon has the store of another directory: 502.
    StoreDirMismatch,
    /// The daemon answers with an error, or against its protocol: 502.
    DaemonError,
    /// The daemon calls a path valid whose NAR or path info is broken: 502.
    BrokenPath,
    /// Too many requests wait for the same: 503.
    Overloaded,
    /// The index of the store is still being built: 503.
    IndexNotReady,
    /// The index of the store has no room for all there is: 503.
    IndexFull,
    /// The path changed while it was read: 503.
    PathChanged,
    /// A file cannot be read here: 503.
    FileError,
    /// The NAR cannot be compressed or kept: 503.
    NarCacheError,
}

impl Reason {
    /// All there are.
    pub const ALL: [Self; 25] = [
        Self::NotFound(NotFound::UnknownUrl),
        Self::NotFound(NotFound::NotValid),
        Self::NotFound(NotFound::Untrusted),
        Self::NotFound(NotFound::Quarantined),
        Self::NotFound(NotFound::NarHashMismatch),
        Self::NotFound(NotFound::NoCompressedNar),
        Self::NotFound(NotFound::NoFile),
        Self::NotFound(NotFound::NoLog),
        Self::NotFound(NotFound::NoRealisation),
        Self::NotFound(NotFound::RealisationsUnsupported),
        Self::NotFound(NotFound::UntrustedRealisation),
        Self::NotFound(NotFound::NoDebugInfo),
        Self::NotFound(NotFound::NoPublicKeys),
        Self::DaemonUnreachable,
        Self::DaemonRefuses,
        Self::DaemonTimeout,
        Self::StoreDirMismatch,
        Self::DaemonError,
        Self::BrokenPath,
        Self::Overloaded,
        Self::IndexNotReady,
        Self::IndexFull,
        Self::PathChanged,
        Self::FileError,
        Self::NarCacheError,
    ];

    /// The status of the response.
    ///
    /// Trouble with the daemon is 502. Nix from 2.35 on takes a 503 for a limit on requests: it waits for 25 s to 78 s in
    /// all before it goes on to another cache, where five 502 take it a second; earlier releases make no difference. So
    /// 503 is for what passes by waiting: too much at once, an index that is being made, a file.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::DaemonUnreachable
            | Self::DaemonRefuses
            | Self::DaemonTimeout
            | Self::StoreDirMismatch
            | Self::DaemonError
            | Self::BrokenPath => StatusCode::BAD_GATEWAY,
            Self::Overloaded
            | Self::IndexNotReady
            | Self::IndexFull
            | Self::PathChanged
            | Self::FileError
            | Self::NarCacheError => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The name in metrics and in JSON, of `a-z` and `_`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotFound(why) => why.label(),
            Self::DaemonUnreachable => "daemon_unreachable",
            Self::DaemonRefuses => "daemon_refuses",
            Self::DaemonTimeout => "daemon_timeout",
            Self::StoreDirMismatch => "store_dir_mismatch",
            Self::DaemonError => "daemon_error",
            Self::BrokenPath => "broken_path",
            Self::Overloaded => "overloaded",
            Self::IndexNotReady => "index_not_ready",
            Self::IndexFull => "index_full",
            Self::PathChanged => "path_changed",
            Self::FileError => "file_error",
            Self::NarCacheError => "nar_cache_error",
        }
    }

    /// A line for clients: no path, no address, no word of the system, and nothing that tells a path that is kept from
    /// them from one that is not there.
    #[must_use]
    pub const fn public_text(self) -> &'static str {
        match self {
            Self::NotFound(why) => why.public_text(),
            Self::DaemonUnreachable => "the nix daemon is unreachable",
            Self::DaemonRefuses => "the nix daemon refuses this user",
            Self::DaemonTimeout => "the nix daemon does not answer in time",
            Self::StoreDirMismatch => "the nix daemon has another store directory",
            Self::DaemonError | Self::BrokenPath => "the nix daemon answers wrongly",
            Self::Overloaded => "too many requests at once",
            Self::IndexNotReady => "the index of the store is still being built",
            Self::IndexFull => "the store has more than can be indexed",
            Self::PathChanged => "the store path changed while it was read",
            Self::FileError => "a file cannot be read here",
            Self::NarCacheError => "the NAR cannot be compressed now",
        }
    }
}

impl NotFound {
    const fn label(self) -> &'static str {
        match self {
            Self::UnknownUrl => "unknown_url",
            Self::NotValid => "not_valid",
            Self::Untrusted => "untrusted",
            Self::Quarantined => "quarantined",
            Self::NarHashMismatch => "nar_hash_mismatch",
            Self::NoCompressedNar => "no_compressed_nar",
            Self::NoFile => "no_file",
            Self::NoLog => "no_log",
            Self::NoRealisation => "no_realisation",
            Self::RealisationsUnsupported => "realisations_unsupported",
            Self::UntrustedRealisation => "untrusted_realisation",
            Self::NoDebugInfo => "no_debug_info",
            Self::NoPublicKeys => "no_public_keys",
        }
    }

    const fn public_text(self) -> &'static str {
        match self {
            Self::UnknownUrl => "this cache has no such URL",
            Self::NotValid | Self::Untrusted | Self::Quarantined => "this cache has no store path with this hash",
            Self::NarHashMismatch => "the NAR of this store path has another hash, which its narinfo names",
            Self::NoCompressedNar => "this compressed form of the NAR is not kept here: begin its download anew",
            Self::NoFile => "this cache has no such file in this store path",
            Self::NoLog => "this cache has no log of this derivation or store path",
            Self::NoRealisation | Self::RealisationsUnsupported | Self::UntrustedRealisation => {
                "this cache has no realisation of this output"
            }
            Self::NoDebugInfo => "this cache has no debug info of this build ID",
            Self::NoPublicKeys => "this cache signs nothing: it has no public keys",
        }
    }

    /// A line for the operator, who may know that a path is kept from clients and why.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::NotValid => "no path with this hash is valid in the store, says nix-daemon",
            Self::Untrusted => {
                "the path is valid, but neither built here nor signed by a trusted key, and serve_untrusted is false"
            }
            Self::Quarantined => {
                "the path is valid, but its NAR does not match nix-daemon's path info: it is kept back until it does"
            }
            Self::RealisationsUnsupported => "nix-daemon has no realisations (experimental feature ca-derivations)",
            Self::UntrustedRealisation => "no trusted key has signed the realisation, and serve_untrusted is false",
            Self::UnknownUrl
            | Self::NarHashMismatch
            | Self::NoCompressedNar
            | Self::NoFile
            | Self::NoLog
            | Self::NoRealisation
            | Self::NoDebugInfo
            | Self::NoPublicKeys => self.public_text(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_reason_has_a_name_of_its_own_and_one_line_for_clients() {
        let labels: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            let (label, text) = (reason.label(), reason.public_text());
            assert!(label.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()), "{label}");
            let is_line = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
            assert!(is_line && !text.contains('/') && text.len() < 80, "{text}");
        }
    }

    #[test]
    fn what_is_kept_from_clients_looks_like_what_is_not_there() {
        for (absent, hidden) in [
            (NotFound::NotValid, NotFound::Untrusted),
            (NotFound::NotValid, NotFound::Quarantined),
            (NotFound::NoRealisation, NotFound::UntrustedRealisation),
        ] {
            let of = |why| (Reason::NotFound(why).status(), Reason::NotFound(why).public_text());
            assert_eq!(of(absent), of(hidden));
            assert_ne!(absent.explanation(), hidden.explanation());
        }
    }
}
