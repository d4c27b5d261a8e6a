//! The content in the newest release's store as one server serves it, for the tests that change neither.

use std::sync::OnceLock;

use crate::nix::content::Content;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::http::Http;
use crate::support::narinfo::value;
use crate::support::server::Harmonia;
use crate::support::store_item::hash_part;

/// The server, started when first asked for. It ends with the test binary.
pub(crate) fn server() -> &'static Harmonia {
    static SERVER: OnceLock<Harmonia> = OnceLock::new();
    SERVER.get_or_init(|| Harmonia::for_daemon(Daemon::shared(Release::Nix2_34)))
}

/// A client of it.
pub(crate) fn http() -> Http {
    server().http()
}

/// What its store holds.
pub(crate) fn content() -> &'static Content {
    Daemon::shared(Release::Nix2_34).content()
}

/// The URL of the narinfo of what has this name.
pub(crate) fn narinfo_url(name: &str) -> String {
    format!("/{}.narinfo", hash_part(content().path(name)))
}

/// The text of that narinfo.
pub(crate) fn narinfo(name: &str) -> String {
    let response = http().get(&narinfo_url(name));
    assert_eq!(response.status, 200, "{name}");
    response.text().to_owned()
}

/// The URL of the NAR of what has this name, with its slash.
pub(crate) fn nar_url(name: &str) -> String {
    format!("/{}", value(&narinfo(name), "URL"))
}
