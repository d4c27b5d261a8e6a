//! A host without a store, which serves what others have published: `daemon_socket = "none"`.

use std::path::Path;

use super::bucket::BucketConfig;
use super::bucket_table::Publish;
use super::daemon::{Daemon, DaemonAddress};
use super::error::{Collected, Problem};
use super::file::ConfigFile;

/// Value of `daemon_socket` that stands for no nix-daemon. A socket of this name is `./none`.
const NONE: &str = "none";

/// Returns the address that a socket stands for.
pub(super) fn address(socket: std::path::PathBuf) -> DaemonAddress {
    if socket == Path::new(NONE) { DaemonAddress::None } else { DaemonAddress::Socket(socket) }
}

/// Checks that a host without a store has something to serve, and is not to do what needs a store.
pub(super) fn check(
    file: &ConfigFile,
    daemon: &Daemon,
    bucket: Option<&BucketConfig>,
    (has_views, has_push): (bool, bool),
    errors: &mut Collected,
) {
    if daemon.address != DaemonAddress::None {
        return;
    }
    if !bucket.is_some_and(|bucket| bucket.read) {
        errors.push(file.error_at("daemon_socket", Problem::NothingToServe));
    }
    let publishes = bucket.is_some_and(|bucket| bucket.publish != Publish::None);
    for (key, is_set) in [("views", has_views), ("push", has_push), ("bucket.publish", publishes)] {
        if is_set {
            errors.push(file.error_at(key, Problem::RequiresStore { key }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{loaded, message};

    const BUCKET: &str = "[bucket]\nhost = \"a\"\nurl = \"s3://cache\"\n";

    #[test]
    fn a_host_without_a_store_serves_what_others_have_published() {
        let (config, warnings) = loaded(&format!("daemon_socket = \"none\"\n{BUCKET}"));
        assert_eq!((&config.daemon.address, config.gc_protection), (&DaemonAddress::None, None));
        assert_eq!((config.real_nix_store, config.build_log_dir), (None, None));
        assert_eq!(warnings, Vec::<String>::new());
        let (config, _) = loaded("daemon_socket = \"./none\"");
        assert_eq!(config.daemon.address, DaemonAddress::Socket("./none".into()));
    }

    #[test]
    fn it_needs_a_bucket_and_nothing_that_needs_a_store() {
        let state = "daemon_socket = \"none\"\nstate_dir = \"/s\"\nnar_cache.dir = \"/n\"\n";
        for (text, expected) in [
            ("daemon_socket = \"none\"".to_owned(), "config.toml:1: daemon_socket = \"none\" leaves nothing to serve"),
            (
                format!("daemon_socket = \"none\"\n{BUCKET}read = false"),
                "config.toml:1: daemon_socket = \"none\" leaves",
            ),
            (format!("{state}{BUCKET}publish = \"all\""), "config.toml:7: bucket.publish needs a store"),
        ] {
            assert!(message(&text).starts_with(expected), "{text}: {}", message(&text));
        }
    }
}
