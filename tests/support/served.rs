//! The content in the newest release's store as one server serves it, for the tests that change neither.

use std::sync::OnceLock;

use super::content::{Content, hash_part};
use super::daemon::Daemon;
use super::http::Http;
use super::release::Release;
use super::server::Harmonia;

/// The server, started when first asked for. It ends with the test binary.
pub(crate) fn server() -> &'static Harmonia {
    static SERVER: OnceLock<Harmonia> = OnceLock::new();
    SERVER.get_or_init(|| Harmonia::before(Daemon::shared(Release::Nix2_34)))
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

/// The lines of a narinfo as names and values, which `": "` separates.
pub(crate) fn fields(narinfo: &str) -> Vec<(&str, &str)> {
    let lines = narinfo.strip_suffix('\n').expect("no line feed at the end").split('\n');
    lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("not a field: {line:?}"))).collect()
}

/// All values of a field of a narinfo.
pub(crate) fn values<'t>(narinfo: &'t str, name: &str) -> Vec<&'t str> {
    fields(narinfo).into_iter().filter(|(field, _)| *field == name).map(|(_, value)| value).collect()
}

/// The value of a field that is there once.
pub(crate) fn value<'t>(narinfo: &'t str, name: &str) -> &'t str {
    let [value] = values(narinfo, name)[..] else { panic!("not one {name} in:\n{narinfo}") };
    value
}
