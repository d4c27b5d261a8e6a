//! `docs/guide/nginx.conf` in `conf.d` of Debian's configuration, checked by several releases of nginx.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::nix::release::releases;
use crate::support::scratch;

/// `$0` is the root of a release, `$1` what becomes its `/etc/nginx`. Nothing is written to the root: `/var` is as
/// Debian's packages make it. In a network of its own, since nginx takes the addresses that it is to listen on.
const CHECK: &str = r#"
set -e
mount --bind "$1" "$0/etc/nginx"
mount --rbind /dev "$0/dev"
mount -t tmpfs none "$0/run"
mount -t tmpfs none "$0/var"
mkdir -p "$0"/var/cache "$0"/var/lib/nginx "$0"/var/log/nginx
exec chroot "$0" /usr/sbin/nginx -t
"#;

/// The suite, and whether its nginx is of before 1.25.1.
const RELEASES: [(&str, bool); 3] = [("nginx-bookworm", true), ("nginx-trixie", false), ("nginx-sid", false)];

/// The output of `nginx -t` on Debian's configuration with this file in `conf.d`, and nothing else.
fn check(suite: &str, text: &str) -> String {
    let root = releases().join(suite);
    assert!(root.is_dir(), "{} is not there\n  help: run: tests/nix-releases get", root.display());
    let etc = scratch::fresh_dir().join("nginx");
    let copied = Command::new("cp").args(["-a"]).args([&root.join("etc/nginx"), &etc]).status().unwrap();
    assert!(copied.success());
    let default = etc.join("sites-enabled/default");
    if !default.exists() {
        // Made when the package is configured.
        std::os::unix::fs::symlink("../sites-available/default", default).unwrap();
    }
    let made = rcgen::generate_simple_self_signed(["cache.example.org".to_owned()]).unwrap();
    for (name, text) in
        [("conf.d/harmonia.conf", text), ("cert.pem", &made.cert.pem()), ("key.pem", &made.signing_key.serialize_pem())]
    {
        fs::write(etc.join(name), text).unwrap();
    }
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let output = unshare
        .args(["--mount", "--net", "bash", "-c", CHECK])
        .arg(root)
        .arg(etc)
        .output()
        .expect("cannot run unshare");
    String::from_utf8(output.stderr).unwrap()
}

fn configuration() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide/nginx.conf")).unwrap()
}

/// The file with its lines about https, as they are for one of the two ranges of releases.
fn with_https(old: bool) -> String {
    let mut text = configuration();
    for (written, uncommented) in [
        ("#listen 443 ssl;", if old { "listen 443 ssl http2;" } else { "listen 443 ssl;" }),
        ("#listen [::]:443 ssl;", if old { "listen [::]:443 ssl http2;" } else { "listen [::]:443 ssl;" }),
        ("#http2 on;", if old { "" } else { "http2 on;" }),
        ("#ssl_certificate     /etc/ssl/cache.example.org.pem;", "ssl_certificate /etc/nginx/cert.pem;"),
        ("#ssl_certificate_key /etc/ssl/private/cache.example.org.key;", "ssl_certificate_key /etc/nginx/key.pem;"),
    ] {
        assert_eq!(text.matches(written).count(), 1, "{written} in docs/guide/nginx.conf");
        text = text.replace(written, uncommented);
    }
    text
}

#[test]
fn the_file_as_it_is_and_with_https_is_taken_by_nginx_1_22_to_1_30_without_a_warning() {
    for (suite, old) in RELEASES {
        for text in [configuration(), with_https(old)] {
            assert_eq!(
                check(suite, &text),
                "nginx: the configuration file /etc/nginx/nginx.conf syntax is ok\n\
                 nginx: configuration file /etc/nginx/nginx.conf test is successful\n",
                "{suite}"
            );
        }
    }
}

#[test]
fn the_two_ways_to_write_http2_are_not_each_other() {
    assert!(check("nginx-bookworm", &with_https(false)).contains("unknown directive \"http2\""));
    let deprecated = check("nginx-sid", &with_https(true));
    assert!(deprecated.contains("[warn]") && deprecated.contains("deprecated"), "{deprecated}");
}
