//! One server of the newest release's store with the test content, shared by the tests that change neither.

use std::sync::OnceLock;

use crate::nix::content::Content;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::http::Http;
use crate::support::narinfo::value;
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;

/// Returns the server, started at the first call. It ends with the test binary.
pub(crate) fn server() -> &'static Harmonia {
    static SERVER: OnceLock<Harmonia> = OnceLock::new();
    SERVER.get_or_init(|| Harmonia::for_daemon(Daemon::shared(Release::Nix2_34)))
}

/// Returns a client of the server.
pub(crate) fn http() -> Http {
    server().http()
}

/// Returns the content of its store.
pub(crate) fn content() -> &'static Content {
    Daemon::shared(Release::Nix2_34).content()
}

/// Returns the URL of the narinfo of the path of this name.
pub(crate) fn narinfo_url(name: &str) -> String {
    format!("/{}.narinfo", hash_part(content().path(name)))
}

/// Requests the narinfo of the path of this name.
pub(crate) fn narinfo(name: &str) -> String {
    let response = http().get(&narinfo_url(name));
    assert_eq!(response.status, 200, "{name}");
    response.text().to_owned()
}

/// Returns the URL of the NAR of the path of this name, with a leading slash.
pub(crate) fn nar_url(name: &str) -> String {
    format!("/{}", value(&narinfo(name), "URL"))
}
