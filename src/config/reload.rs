//! Reload: applies a new configuration to a running server.
//!
//! Owns which keys apply without a restart: those that are read at each use. With socket activation a restart loses no
//! waiting connection.

use super::resolve::Config;

/// Changed keys, by their names in the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReloadReport {
    /// Keys whose new values are in use.
    pub applied: Vec<&'static str>,
    /// Keys whose new values take effect after a restart.
    pub needs_restart: Vec<&'static str>,
}

impl ReloadReport {
    fn apply<T: PartialEq>(&mut self, key: &'static str, old: &mut T, new: T) {
        if *old != new {
            *old = new;
            self.applied.push(key);
        }
    }

    /// Applies the changes of a table. One that is added or removed takes effect after a restart.
    fn apply_table<T: PartialEq>(&mut self, key: &'static str, old: &mut Option<T>, new: Option<T>) {
        match (old, new) {
            (Some(old), Some(new)) => self.apply(key, old, new),
            (old, new) => self.require_restart(key, old, &new),
        }
    }

    fn require_restart<T: PartialEq>(&mut self, key: &'static str, old: &T, new: &T) {
        if old != new {
            self.needs_restart.push(key);
        }
    }
}

impl Config {
    /// Applies the keys of `new` that need no restart. The others keep their values, so the next call reports them again.
    pub fn apply(&mut self, new: Self) -> ReloadReport {
        let mut report = ReloadReport::default();
        // Names every field, so that the compiler asks for a decision about a new one.
        let Self {
            bind,
            unix_socket_mode,
            admin_socket,
            shutdown_timeout,
            workers,
            max_connections_per_worker,
            max_connections_per_client,
            trusted_proxies,
            max_metadata_connections,
            max_nar_connections,
            priority,
            browse,
            enable_compression,
            zstd,
            nar_cache,
            encoders,
            narinfo_cache,
            virtual_nix_store,
            real_nix_store,
            build_log_dir,
            access_log,
            gc_protection,
            daemon,
            nar_source,
            verify,
            sign_key_paths,
            credentials_directory,
            sign,
            tls,
            access,
            views,
            audit,
            push,
            bucket,
            state_dir,
        } = new;
        report.apply("shutdown_timeout", &mut self.shutdown_timeout, shutdown_timeout);
        let per_worker = "max_connections";
        report.apply(per_worker, &mut self.max_connections_per_worker, max_connections_per_worker);
        let per_client = "max_connections_per_client";
        report.apply(per_client, &mut self.max_connections_per_client, max_connections_per_client);
        report.apply("trusted_proxies", &mut self.trusted_proxies, trusted_proxies);
        report.apply("narinfo_cache.ttl", &mut self.narinfo_cache.ttl, narinfo_cache.ttl);
        report.apply("sign_key_paths", &mut self.sign_key_paths, sign_key_paths);
        report.apply("credentials", &mut self.credentials_directory, credentials_directory);
        report.apply("sign", &mut self.sign, sign);
        report.apply_table("access", &mut self.access, access);
        report.apply("views", &mut self.views, views);
        report.apply_table("audit", &mut self.audit, audit);
        report.apply_table("push", &mut self.push, push);
        report.require_restart("bucket", &self.bucket, &bucket);
        report.require_restart("state_dir", &self.state_dir, &state_dir);
        match (&mut self.tls, tls) {
            (Some(old), Some(new)) => {
                report.apply("tls_cert_path", &mut old.cert, new.cert);
                report.apply("tls_key_path", &mut old.key, new.key);
            }
            (old, new) => report.require_restart("tls_cert_path", old, &new),
        }
        match (&mut self.nar_cache, nar_cache) {
            (Some(old), Some(new)) => {
                report.require_restart("nar_cache.dir", &old.dir, &new.dir);
                report.apply("nar_cache.max_size", &mut old.max_size, new.max_size);
                report.require_restart("nar_cache.precompress", &old.precompress, &new.precompress);
            }
            (old, new) => report.require_restart("nar_cache", old, &new),
        }
        match (&mut self.access_log, access_log) {
            (Some(old), Some(new)) => {
                report.apply("access_log.file", &mut old.file, new.file);
                report.apply("access_log.format", &mut old.format, new.format);
            }
            (old, new) => report.require_restart("access_log.enable", old, &new),
        }
        report.require_restart("bind", &self.bind, &bind);
        report.require_restart("unix_socket_mode", &self.unix_socket_mode, &unix_socket_mode);
        report.require_restart("admin_socket", &self.admin_socket, &admin_socket);
        report.require_restart("workers", &self.workers, &workers);
        report.require_restart("max_metadata_connections", &self.max_metadata_connections, &max_metadata_connections);
        report.require_restart("max_nar_connections", &self.max_nar_connections, &max_nar_connections);
        report.require_restart("priority", &self.priority, &priority);
        report.require_restart("browse", &self.browse, &browse);
        report.require_restart("enable_compression", &self.enable_compression, &enable_compression);
        report.require_restart("zstd", &self.zstd, &zstd);
        report.require_restart("nar_cache.threads", &self.encoders.threads, &encoders.threads);
        report.require_restart("nar_cache.nice", &self.encoders.nice, &encoders.nice);
        report.require_restart("narinfo_cache.max_size", &self.narinfo_cache.max_size, &narinfo_cache.max_size);
        report.require_restart("virtual_nix_store", &self.virtual_nix_store, &virtual_nix_store);
        report.require_restart("real_nix_store", &self.real_nix_store, &real_nix_store);
        report.require_restart("build_log_dir", &self.build_log_dir, &build_log_dir);
        report.require_restart("gc_protection", &self.gc_protection, &gc_protection);
        report.require_restart("daemon", &self.daemon, &daemon);
        report.require_restart("nar_source", &self.nar_source, &nar_source);
        report.require_restart("verify", &self.verify, &verify);
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::loaded;

    #[test]
    fn what_can_change_is_taken_over_once_and_the_rest_is_told_every_time() {
        let (mut config, _) = loaded("tls_cert_path = \"/c\"\ntls_key_path = \"/k\"\nworkers = 4");
        let text = "tls_cert_path = \"/c2\"\ntls_key_path = \"/k\"\nworkers = 5\nmax_connections = 2\n\
                    sign = \"trusted\"\nsign_key_paths = [\"/s\"]\npriority = 1\nnarinfo_cache.ttl = 1";
        let new = loaded(text).0;
        let report = config.apply(new.clone());
        assert_eq!(report.applied, ["max_connections", "narinfo_cache.ttl", "sign_key_paths", "sign", "tls_cert_path"]);
        assert_eq!(report.needs_restart, ["workers", "priority"]);
        assert_eq!(config.max_connections(), 8);
        assert_eq!(config.apply(new), ReloadReport { applied: vec![], needs_restart: vec!["workers", "priority"] });
    }

    #[test]
    fn what_was_not_there_before_needs_a_restart() {
        let (plain, _) = loaded("");
        let (both, _) = loaded("tls_cert_path = \"/c\"\ntls_key_path = \"/k\"\nnar_cache.dir = \"/d\"");
        for (mut old, new) in [(plain.clone(), both.clone()), (both, plain)] {
            let before = old.clone();
            let expected = ReloadReport {
                applied: vec![],
                needs_restart: vec!["tls_cert_path", "nar_cache", "enable_compression"],
            };
            assert_eq!((old.apply(new), old), (expected, before));
        }
    }
}
