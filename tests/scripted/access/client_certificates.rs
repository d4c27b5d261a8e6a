//! Client certificates: what is granted to their names, and that nothing else names a client.

use std::fs;
use std::io;

use rcgen::{DistinguishedName, date_time_ymd};

use super::tls::{Authority, ClientIdentity, Tls};
use crate::support::scripted_daemon::ScriptedDaemon;
use crate::support::server::Harmonia;
use crate::support::store_item::StoreItem;

/// A private cache that builders may read.
struct Private {
    item: StoreItem,
    tls: Tls,
    harmonia: Harmonia,
    _daemon: ScriptedDaemon,
}

impl Private {
    fn start(authority: &Authority) -> Self {
        let item = StoreItem::file(b"private");
        let daemon = ScriptedDaemon::start(item.script());
        let tls = Tls::new(authority);
        let config = format!(
            "{}{}[access]\nanonymous = []\nclient_ca_path = \"{}\"\n[[access.grant]]\nwho = [\"cert:builder*\"]\nmay = [\"read\"]\n",
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
    for name in ["*", "builder*", "builder1\0.evil.example", "builder1\r\nX", "builder\u{202e}1"] {
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
