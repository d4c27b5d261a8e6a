//! Client certificates: what is granted to their names, and that nothing else names a client.

use std::fs;
use std::io;

use rcgen::{DistinguishedName, date_time_ymd};

use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;
use crate::support::tls::{Authority, ClientIdentity, Tls};
use crate::support::users::{basic, users_file};

/// A private cache that builders may read.
struct Private {
    item: StoreItem,
    tls: Tls,
    harmonia: Harmonia,
    _daemon: ScriptedDaemon,
}

impl Private {
    fn start(authority: &Authority) -> Self {
        Self::with(authority, "", "")
    }

    /// Starts it with more lines in `[access]` and after the grants.
    fn with(authority: &Authority, access: &str, more: &str) -> Self {
        let item = StoreItem::file(b"private");
        let daemon = ScriptedDaemon::start(item.script());
        let tls = Tls::new(authority);
        let config = format!(
            "{}{}[access]\nanonymous = []\n{access}client_ca_path = \"{}\"\n[[access.grant]]\nwho = [\"cert:builder*\"]\nmay = [\"read\"]\n\
             {more}",
            daemon.config(),
            tls.config,
            tls.client_ca.display()
        );
        let harmonia = Harmonia::start(&config);
        Self { item, tls, harmonia, _daemon: daemon }
    }

    /// Returns the status of a GET by a client with this certificate, if any.
    async fn get(&self, own: Option<&ClientIdentity>, url: &str) -> io::Result<u16> {
        self.tls.get(self.harmonia.address(), own, url, "").await.map(|(status, _)| status)
    }
}

#[tokio::test]
async fn the_name_in_a_client_certificate_has_what_is_granted_to_it() {
    let (ours, strange) = (Authority::new(), Authority::new());
    let cache = Private::start(&ours);
    let url = cache.item.narinfo_url();
    let builder = ours.issue("builder1");
    for url in [&*url, "/nix-cache-info", &*cache.item.nar_url()] {
        assert_eq!(cache.get(Some(&builder), url).await.unwrap(), 200, "{url}");
        assert_eq!(cache.get(None, url).await.unwrap(), 401, "{url}");
        assert_eq!(cache.get(Some(&ours.issue("mallory")), url).await.unwrap(), 403, "{url}");
    }
    // A DNS name counts only without a common name.
    let dns_name = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("builder2.example.org".try_into().unwrap())];
    };
    let by_dns_name = ours.issue_with("", |params| {
        params.distinguished_name = DistinguishedName::new();
        dns_name(params);
    });
    assert_eq!(cache.get(Some(&by_dns_name), &url).await.unwrap(), 200);
    assert_eq!(cache.get(Some(&ours.issue_with("mallory", dns_name)), &url).await.unwrap(), 403);
    // These name nobody, which is as without a certificate.
    let long = format!("builder{}", "1".repeat(247));
    for name in ["*", "builder*", "builder1\0.evil.example", "builder1\r\nX", "builder\u{202e}1", &long] {
        assert_eq!(cache.get(Some(&ours.issue(name)), &url).await.unwrap(), 401, "{name:?}");
    }
    let line = cache.harmonia.wait_for_log("a client certificate names nobody");
    assert!(line.contains("WARN") && line.contains("wildcard"), "{line}");
    assert!(!cache.harmonia.log().contains("evil"), "{}", cache.harmonia.log());
    // These end the connection.
    let expired = ours.issue_with("builder1", |params| params.not_after = date_time_ymd(2020, 1, 1));
    for own in [&expired, &strange.issue("builder1")] {
        assert!(cache.get(Some(own), &url).await.is_err());
    }
    cache.harmonia.wait_for_log("rejected a client certificate");
}

#[tokio::test]
async fn no_header_names_a_client_even_from_a_trusted_proxy() {
    let ours = Authority::new();
    let cache = Private::start(&ours);
    let headers = "X-Forwarded-For: 192.0.2.1\r\nX-SSL-Client-Verify: SUCCESS\r\nX-SSL-Client-CN: builder1\r\n\
                   X-SSL-Client-S-DN: CN=builder1\r\nX-SSL-Client-Cert: builder1\r\nX-Client-Cert-CN: builder1\r\n\
                   X-Forwarded-Client-Cert: Subject=\"CN=builder1\"\r\nClient-Cert: :AAAA:\r\nSSL-Client-S-DN: CN=builder1\r\n\
                   X-Remote-User: builder1\r\nRemote-User: builder1\r\n";
    let (address, url) = (cache.harmonia.address(), cache.item.narinfo_url());
    let status = cache.tls.get(address, None, &url, headers).await.unwrap().0;
    assert_eq!(status, 401);
    // Nor do they change a name.
    let mallory = ours.issue("mallory");
    assert_eq!(cache.tls.get(address, Some(&mallory), &url, headers).await.unwrap().0, 403);
}

#[tokio::test]
async fn a_certificate_and_a_password_on_one_connection_add_up_for_each_request_alone() {
    let ours = Authority::new();
    let users = users_file(&[("alice", "correct horse")]);
    let more = "[[access.grant]]\nwho = [\"user:alice\"]\nmay = [\"metrics\"]\n";
    let cache = Private::with(&ours, &format!("users_file = \"{}\"\n", users.display()), more);
    let (address, url) = (cache.harmonia.address(), cache.item.narinfo_url());
    let (right, wrong) = [basic("alice", "correct horse"), basic("alice", "wrong horse")]
        .map(|value| format!("Authorization: {value}\r\n"))
        .into();
    let mut both = cache.tls.connect(address, Some(&ours.issue("builder1"))).await.unwrap();
    for (path, headers, status) in [
        (&*url, &*right, 200),
        ("/metrics", &right, 200),
        (&url, "", 200),
        // The password was of one request, not of the connection.
        ("/metrics", "", 403),
        // Nor does a certificate make a wrong password right.
        (&url, &wrong, 401),
        (&url, "", 200),
    ] {
        assert_eq!(both.get(path, headers).await.unwrap().0, status, "{path} {headers}");
    }
    let mut password = cache.tls.connect(address, None).await.unwrap();
    for (path, headers, status) in [("/metrics", &*right, 200), (&url, &right, 403), (&url, "", 401)] {
        assert_eq!(password.get(path, headers).await.unwrap().0, status, "{path} {headers}");
    }
}

#[tokio::test]
async fn the_certificate_of_a_trusted_proxy_names_none_of_its_clients() {
    let ours = Authority::new();
    let item = StoreItem::file(b"behind a proxy");
    let daemon = ScriptedDaemon::start(item.script());
    let tls = Tls::new(&ours);
    // By default a connection from this machine is that of a proxy.
    let files = tls.config.strip_prefix("trusted_proxies = []\n").unwrap();
    let access = format!(
        "[access]\nanonymous = [\"metrics\"]\nclient_ca_path = \"{}\"\n[[access.grant]]\nwho = [\"cert:proxy\"]\nmay = [\"read\"]\n",
        tls.client_ca.display()
    );
    let harmonia = Harmonia::start(&format!("{}{files}{access}", daemon.config()));
    let proxy = ours.issue("proxy");
    for headers in ["", "X-Forwarded-For: 192.0.2.1\r\n", "X-Forwarded-For: 192.0.2.1\r\nX-SSL-Client-CN: proxy\r\n"] {
        let (status, _) = tls.get(harmonia.address(), Some(&proxy), &item.narinfo_url(), headers).await.unwrap();
        assert_eq!(status, 401, "{headers}");
    }
    let line = harmonia.wait_for_log("ignored the client certificate of \"proxy\", which is a trusted proxy");
    assert!(line.contains("INFO"), "{line}");
    let (_, metrics) = tls.get(harmonia.address(), None, "/metrics", "").await.unwrap();
    for line in ["{result=\"of_proxy\"} 3", "{result=\"named\"} 0"] {
        let line = format!("\nharmonia_tls_client_certificates_total{line}\n");
        assert!(metrics.contains(&line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn sighup_replaces_the_authorities_for_new_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let cache = Private::start(&old);
    let (address, url) = (cache.harmonia.address(), cache.item.narinfo_url());
    let of_old = old.issue("builder1");
    let mut open = cache.tls.connect(address, Some(&of_old)).await.unwrap();
    assert_eq!(open.get(&url, "").await.unwrap().0, 200);

    fs::write(&cache.tls.client_ca, "broken").unwrap();
    cache.harmonia.reload();
    let line =
        cache.harmonia.wait_for_log("keeping the current authorities of client certificates: no certificate in ");
    assert!(line.contains("ERROR"), "{line}");
    assert_eq!(cache.tls.get(address, Some(&of_old), &url, "").await.unwrap().0, 200);

    fs::write(&cache.tls.client_ca, new.pem()).unwrap();
    cache.harmonia.reload();
    cache.harmonia.wait_for_log("reloaded the authorities of client certificates");
    assert!(cache.tls.get(address, Some(&of_old), &url, "").await.is_err());
    assert_eq!(cache.tls.get(address, Some(&new.issue("builder1")), &url, "").await.unwrap().0, 200);
    assert_eq!(open.get(&url, "").await.unwrap().0, 200);
}
