//! Every command of Nix that reads from a cache, by clients of every release, over every transport of harmonia.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::proxies::caching_proxy::Proxy as _;
use crate::proxies::nginx::Nginx;
use crate::support::keys;
use crate::support::scratch;
use crate::support::server::Harmonia;

const LOG: &str = "what the builder said";

/// A daemon, with the log of the build of one of its paths.
pub(super) struct Served {
    daemon: &'static Daemon,
    log_dir: PathBuf,
}

impl Served {
    pub(super) fn new() -> Self {
        let daemon = Daemon::shared(Release::Nix2_26);
        let log_dir = scratch::fresh_dir();
        let deriver = daemon.path_info(daemon.content().path("with-deriver"))["deriver"].as_str().unwrap().to_owned();
        let (start, rest) = deriver.strip_prefix("/nix/store/").unwrap().split_at(2);
        fs::create_dir_all(log_dir.join("drvs").join(start)).unwrap();
        fs::write(log_dir.join("drvs").join(start).join(rest), format!("{LOG}\n")).unwrap();
        Self { daemon, log_dir }
    }

    /// Returns a path of its store.
    pub(super) fn path(&self) -> &str {
        self.daemon.content().path("with-deriver")
    }

    /// Starts harmonia with this configuration.
    pub(super) fn harmonia(&self, bind: &str, more: &str) -> Harmonia {
        let config = scratch::fresh_dir().join("config.toml");
        let lines = format!(
            "bind = \"{bind}\"\ndaemon_socket = \"{}\"\nsign_key_paths = [\"{}\"]\nbuild_log_dir = \"{}\"\n{more}",
            self.daemon.socket().display(),
            keys::OURS.secret.display(),
            self.log_dir.display()
        );
        fs::write(&config, lines).unwrap();
        let mut program = Harmonia::program();
        program.arg("--config").arg(config).env("RUST_LOG", "info,harmonia::http=debug");
        Harmonia::launch(program)
    }

    /// Asserts that every command works for a client of every release that was prepared so; the clients run side by side.
    pub(super) fn works_for_all(&self, way: &str, url: &str, prepare: impl Fn(&Client) + Sync) {
        let prepare = &prepare;
        thread::scope(|scope| {
            for release in Release::ALL {
                scope.spawn(move || self.works(&format!("Nix {release} over {way}"), release, url, prepare));
            }
        });
    }

    /// Asserts that every command works for a client of this release that was prepared so.
    pub(super) fn works(&self, case: &str, release: Release, url: &str, prepare: impl Fn(&Client)) {
        let client = || {
            let client = Client::new(release, url, &[&keys::OURS]);
            prepare(&client);
            client
        };
        let content = self.daemon.content();
        let (path, tree) = (content.path("with-deriver"), content.path("deep-tree"));

        let asking = client();
        assert_eq!(asking.nix_store("path-info", &[path]).text(), path, "{case}: path-info");
        let listed = asking.nix_store("ls", &["-R", tree]).text();
        let file = listed
            .lines()
            .map(|line| line.trim_start_matches("./"))
            .find(|line| self.daemon.on_host(tree).join(line.trim_start_matches('/')).is_file());
        let file = file.unwrap_or_else(|| panic!("{case}: ls shows no file:\n{listed}")).trim_start_matches('/');
        let expected = fs::read(self.daemon.on_host(tree).join(file)).unwrap();
        let shown = asking.nix_store("cat", &[&format!("{tree}/{file}")]).stdout();
        assert!(shown == expected, "{case}: cat {file}");
        assert_eq!(asking.log(path).text(), LOG, "{case}: log");

        let copying = client();
        let _ = copying.copy(&[path, tree]).stdout();
        assert!(copying.verified_closure(&[path, tree]).len() >= 2, "{case}: copy");
        let building = client();
        let _ = building.realise(&[path, tree]).stdout();
        assert!(building.verified_closure(&[path, tree]).len() >= 2, "{case}: realise");
    }
}

#[test]
fn over_http() {
    let served = Served::new();
    let harmonia = served.harmonia("127.0.0.1:0", "");
    served.works_for_all("http", harmonia.url(), |_| {});
}

#[test]
fn over_http_compressed() {
    let served = Served::new();
    let nars = scratch::fresh_dir().join("nars");
    let more = format!("enable_compression = true\nnar_cache.dir = \"{}\"\n", nars.display());
    let harmonia = served.harmonia("127.0.0.1:0", &more);
    served.works_for_all("http, compressed", harmonia.url(), |_| {});
    assert!(harmonia.log().contains(".nar.zst"));
}

/// Returns lines of a configuration with TLS, and the certificate for clients.
pub(super) fn with_tls() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let write = |name: &str, text: &str| {
        let file = scratch::fresh_dir().join(name);
        fs::write(&file, text).unwrap();
        file
    };
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let line = |key: &str, file: &Path| format!("{key} = \"{}\"\n", file.display());
    let lines =
        line("tls_cert_path", &write("cert.pem", &certificate)) + &line("tls_key_path", &write("key.pem", &key));
    (lines, certificate)
}

#[test]
fn over_https_with_http_2() {
    let (more, certificate) = with_tls();
    let served = Served::new();
    for release in Release::ALL {
        let harmonia = served.harmonia("127.0.0.1:0", &more);
        served.works(&format!("Nix {release} over https"), release, harmonia.url(), |client| {
            client.trust_certificate(&certificate);
        });
        let log = harmonia.log();
        assert!(log.contains("version=HTTP/2.0") && !log.contains("version=HTTP/1.1"), "{release}:\n{log}");
    }
}

#[test]
fn over_a_unix_socket_behind_nginx() {
    let served = Served::new();
    let socket = scratch::fresh_dir().join("http");
    let _harmonia = served.harmonia(&format!("unix:{}", socket.display()), "");
    let nginx = Nginx::before_address(&format!("unix:{}", socket.display()));
    served.works_for_all("a Unix socket behind nginx", &format!("http://{}", nginx.address()), |_| {});
}
