//! What a running server takes over of a configuration that was read again.
//!
//! Owns which keys can change without a restart: what is asked for at each use, and so needs nothing to be made anew. A
//! restart is what the others take, and with a socket of the service manager it costs no connection.

use super::Config;

/// The keys whose values are others than before, by their names in the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that have been taken over.
    pub taken: Vec<&'static str>,
    /// Those that need a restart.
    pub waiting: Vec<&'static str>,
}

impl Changes {
    fn take<T: PartialEq>(&mut self, key: &'static str, old: &mut T, new: T) {
        if *old != new {
            *old = new;
            self.taken.push(key);
        }
    }

    fn leave<T: PartialEq>(&mut self, key: &'static str, old: &T, new: &T) {
        if old != new {
            self.waiting.push(key);
        }
    }
}

impl Config {
    /// Takes over of `new` what can change in a running server. The rest stays as it is, so that the next call tells it
    /// again.
    pub fn take_over(&mut self, new: Self) -> Changes {
        let mut changes = Changes::default();
        // Every field by its name: one that is added has to be decided about.
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
        } = new;
        changes.take("shutdown_timeout", &mut self.shutdown_timeout, shutdown_timeout);
        let per_worker = "max_connections";
        changes.take(per_worker, &mut self.max_connections_per_worker, max_connections_per_worker);
        let per_client = "max_connections_per_client";
        changes.take(per_client, &mut self.max_connections_per_client, max_connections_per_client);
        changes.take("trusted_proxies", &mut self.trusted_proxies, trusted_proxies);
        changes.take("narinfo_cache.ttl", &mut self.narinfo_cache.ttl, narinfo_cache.ttl);
        changes.take("sign_key_paths", &mut self.sign_key_paths, sign_key_paths);
        changes.take("credentials", &mut self.credentials_directory, credentials_directory);
        changes.take("sign", &mut self.sign, sign);
        match (&mut self.tls, tls) {
            (Some(old), Some(new)) => {
                changes.take("tls_cert_path", &mut old.cert, new.cert);
                changes.take("tls_key_path", &mut old.key, new.key);
            }
            (old, new) => changes.leave("tls_cert_path", old, &new),
        }
        match (&mut self.nar_cache, nar_cache) {
            (Some(old), Some(new)) => {
                changes.leave("nar_cache.dir", &old.dir, &new.dir);
                changes.take("nar_cache.max_size", &mut old.max_size, new.max_size);
                changes.leave("nar_cache.precompress", &old.precompress, &new.precompress);
            }
            (old, new) => changes.leave("nar_cache", old, &new),
        }
        match (&mut self.access_log, access_log) {
            (Some(old), Some(new)) => {
                changes.take("access_log.file", &mut old.file, new.file);
                changes.take("access_log.format", &mut old.format, new.format);
            }
            (old, new) => changes.leave("access_log.enable", old, &new),
        }
        changes.leave("bind", &self.bind, &bind);
        changes.leave("unix_socket_mode", &self.unix_socket_mode, &unix_socket_mode);
        changes.leave("admin_socket", &self.admin_socket, &admin_socket);
        changes.leave("workers", &self.workers, &workers);
        changes.leave("max_metadata_connections", &self.max_metadata_connections, &max_metadata_connections);
        changes.leave("max_nar_connections", &self.max_nar_connections, &max_nar_connections);
        changes.leave("priority", &self.priority, &priority);
        changes.leave("browse", &self.browse, &browse);
        changes.leave("enable_compression", &self.enable_compression, &enable_compression);
        changes.leave("zstd", &self.zstd, &zstd);
        changes.leave("nar_cache.threads", &self.encoders.threads, &encoders.threads);
        changes.leave("nar_cache.nice", &self.encoders.niceness, &encoders.niceness);
        changes.leave("narinfo_cache.max_size", &self.narinfo_cache.max_size, &narinfo_cache.max_size);
        changes.leave("virtual_nix_store", &self.virtual_nix_store, &virtual_nix_store);
        changes.leave("real_nix_store", &self.real_nix_store, &real_nix_store);
        changes.leave("build_log_dir", &self.build_log_dir, &build_log_dir);
        changes.leave("gc_protection", &self.gc_protection, &gc_protection);
        changes.leave("daemon", &self.daemon, &daemon);
        changes.leave("nar_source", &self.nar_source, &nar_source);
        changes.leave("verify", &self.verify, &verify);
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::loaded;
    use super::*;

    #[test]
    fn what_can_change_is_taken_over_once_and_the_rest_is_told_every_time() {
        let (mut config, _) = loaded("tls_cert_path = \"/c\"\ntls_key_path = \"/k\"\nworkers = 4");
        let text = "tls_cert_path = \"/c2\"\ntls_key_path = \"/k\"\nworkers = 5\nmax_connections = 2\n\
                    sign = \"trusted\"\nsign_key_paths = [\"/s\"]\npriority = 1\nnarinfo_cache.ttl = 1";
        let new = loaded(text).0;
        let changes = config.take_over(new.clone());
        assert_eq!(changes.taken, ["max_connections", "narinfo_cache.ttl", "sign_key_paths", "sign", "tls_cert_path"]);
        assert_eq!(changes.waiting, ["workers", "priority"]);
        assert_eq!(config.max_connections(), 8);
        assert_eq!(config.take_over(new), Changes { taken: vec![], waiting: vec!["workers", "priority"] });
    }

    #[test]
    fn what_was_not_there_before_needs_a_restart() {
        let (plain, _) = loaded("");
        let (both, _) = loaded("tls_cert_path = \"/c\"\ntls_key_path = \"/k\"\nnar_cache.dir = \"/d\"");
        for (mut old, new) in [(plain.clone(), both.clone()), (both, plain)] {
            let before = old.clone();
            let expected = Changes { taken: vec![], waiting: vec!["tls_cert_path", "nar_cache", "enable_compression"] };
            assert_eq!((old.take_over(new), old), (expected, before));
        }
    }
}
