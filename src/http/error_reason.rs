//! Reasons of error responses: a name for logs and metrics, a status, and a line of text for clients and one for operators.
//!
//! To a client, a hidden path looks exactly like one that is not there; the difference is for the operator only.

use hyper::StatusCode;

/// Reason of a 404: there is nothing under this URL, or nothing that clients get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NotFound {
    /// The URL belongs to no endpoint, or is malformed.
    UnknownUrl,
    /// nix-daemon says that no path with this hash is valid.
    NotValid,
    /// The path is in none of the client's views, whether it is valid or not.
    OutsideView,
    /// The path is valid, but neither built here nor signed by a trusted key (`serve_untrusted = false`).
    Untrusted,
    /// The path is valid, but its NAR failed verification.
    Quarantined,
    /// An operator hides the path, or one that it refers to.
    Hidden,
    /// The path has another NAR than the URL names.
    NarHashMismatch,
    /// The client resumes a compressed NAR that this cache does not have.
    NoCompressedNar,
    /// The store path has no such file, or none that can be served.
    NoFile,
    /// There is no log of this derivation or output.
    NoLog,
    /// nix-daemon has no realisation of this output.
    NoRealisation,
    /// nix-daemon does not support realisations, or not in this form.
    RealisationsUnsupported,
    /// nix-daemon has one, but no trusted key signed it (`serve_untrusted = false`).
    UntrustedRealisation,
    /// No path that is served has the debug info of this build.
    NoDebugInfo,
    /// No signing key is configured.
    NoPublicKeys,
}

/// Reason of an error response: 404, 502 or 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    /// There is nothing under this URL: 404.
    NotFound(NotFound),
    /// No connection to nix-daemon: 502.
    DaemonUnreachable,
    /// nix-daemon refuses this user: 502.
    DaemonRefuses,
    /// nix-daemon timed out: 502.
    DaemonTimeout,
    /// nix-daemon has another store directory: 502.
    StoreDirMismatch,
    /// nix-daemon replied with an error, or violated its protocol: 502.
    DaemonError,
    /// The NAR or path info of a valid path is broken: 502.
    BrokenPath,
    /// Too many requests at once: 503.
    Overloaded,
    /// The index of the store is still being built: 503.
    IndexNotReady,
    /// The store has more paths than the index can hold: 503.
    IndexFull,
    /// The path changed while it was read: 503.
    PathChanged,
    /// A file cannot be read: 503.
    FileError,
    /// The NAR cannot be compressed: 503.
    NarCacheError,
    /// The request would have to be recorded, and cannot be: 503.
    AuditLogError,
    /// Another host may have published the path, and the object store cannot be asked: 503.
    BucketUnreachable,
}

impl Reason {
    /// All reasons.
    pub(crate) const ALL: [Self; 29] = [
        Self::NotFound(NotFound::UnknownUrl),
        Self::NotFound(NotFound::NotValid),
        Self::NotFound(NotFound::OutsideView),
        Self::NotFound(NotFound::Untrusted),
        Self::NotFound(NotFound::Quarantined),
        Self::NotFound(NotFound::Hidden),
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
        Self::AuditLogError,
        Self::BucketUnreachable,
    ];

    /// Returns the status of the response.
    ///
    /// Failures of nix-daemon are 502. Nix since 2.35 takes a 503 for a rate limit and waits for 25 s to 78 s in total before
    /// it tries another cache, where five 502 take it a second; earlier releases treat both alike. So 503 is for what
    /// passes by waiting: overload, an index that is being built, a file.
    #[must_use]
    pub(crate) const fn status(self) -> StatusCode {
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
            | Self::NarCacheError
            | Self::AuditLogError
            | Self::BucketUnreachable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the name in metrics and in JSON, of `a-z` and `_`.
    #[must_use]
    pub(crate) const fn label(self) -> &'static str {
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
            Self::AuditLogError => "audit_log_error",
            Self::BucketUnreachable => "bucket_unreachable",
        }
    }

    /// Returns a line for clients. It has no path, no address and no text of the system, and does not tell a hidden path from
    /// one that is not there.
    #[must_use]
    pub(crate) const fn public_text(self) -> &'static str {
        match self {
            Self::NotFound(why) => why.public_text(),
            Self::DaemonUnreachable => "nix-daemon is unreachable",
            Self::DaemonRefuses => "nix-daemon refuses this user",
            Self::DaemonTimeout => "nix-daemon timed out",
            Self::StoreDirMismatch => "nix-daemon has another store directory",
            Self::DaemonError | Self::BrokenPath => "nix-daemon sent an error or invalid data",
            Self::Overloaded => "too many requests at once",
            Self::IndexNotReady => "the index of the store is still being built",
            Self::IndexFull => "the store has more paths than can be indexed",
            Self::PathChanged => "the store path changed while it was read",
            Self::FileError => "a file cannot be read",
            Self::NarCacheError => "the NAR cannot be compressed at the moment",
            Self::AuditLogError => "the audit log of this cache cannot be written",
            Self::BucketUnreachable => "the object store of this cache is unreachable",
        }
    }
}

impl NotFound {
    const fn label(self) -> &'static str {
        match self {
            Self::UnknownUrl => "unknown_url",
            Self::NotValid => "not_valid",
            Self::OutsideView => "outside_view",
            Self::Untrusted => "untrusted",
            Self::Quarantined => "quarantined",
            Self::Hidden => "hidden",
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
            Self::NotValid | Self::OutsideView | Self::Untrusted | Self::Quarantined | Self::Hidden => {
                "this cache has no store path with this hash"
            }
            Self::NarHashMismatch => "the NAR of this store path has another hash: see its narinfo",
            Self::NoCompressedNar => "the NAR is not available in this encoding: restart the download",
            Self::NoFile => "this cache has no such file in this store path",
            Self::NoLog => "this cache has no log of this derivation or store path",
            Self::NoRealisation | Self::RealisationsUnsupported | Self::UntrustedRealisation => {
                "this cache has no realisation of this output"
            }
            Self::NoDebugInfo => "this cache has no debug info of this build ID",
            Self::NoPublicKeys => "this cache has no signing key",
        }
    }

    /// Returns a line for the operator, who may know that a path is hidden from clients and why.
    #[must_use]
    pub(crate) const fn explanation(self) -> &'static str {
        match self {
            Self::NotValid => "nix-daemon says that no path with this hash is valid",
            Self::OutsideView => "the path, if there is one, is in no view that this client may read",
            Self::Untrusted => {
                "the path is valid, but neither built here nor signed by a trusted key, and serve_untrusted is false"
            }
            Self::Quarantined => {
                "the path is valid, but its NAR does not match nix-daemon's path info: it is quarantined until it does"
            }
            Self::Hidden => "the path, or one that it refers to, is hidden by harmonia hide",
            Self::RealisationsUnsupported => {
                "nix-daemon does not support realisations (experimental feature ca-derivations)"
            }
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
    fn each_reason_has_its_own_name_and_one_line_for_clients() {
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
    fn a_hidden_path_looks_like_one_that_is_not_there() {
        for (absent, hidden) in [
            (NotFound::NotValid, NotFound::OutsideView),
            (NotFound::NotValid, NotFound::Untrusted),
            (NotFound::NotValid, NotFound::Quarantined),
            (NotFound::NotValid, NotFound::Hidden),
            (NotFound::NoRealisation, NotFound::UntrustedRealisation),
        ] {
            let of = |why| (Reason::NotFound(why).status(), Reason::NotFound(why).public_text());
            assert_eq!(of(absent), of(hidden));
            assert_ne!(absent.explanation(), hidden.explanation());
        }
    }
}
