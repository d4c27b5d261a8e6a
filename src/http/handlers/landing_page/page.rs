//! The landing page as HTML, rendered for each request.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::client_setup::{netrc, nix_conf, nixos_module};
use crate::access::{Granted, Principal, Rights};
use crate::config::{Config, SigningPolicy};
use crate::http::error::HandlerError;
use crate::http::error_reason::Reason;
use crate::http::handlers::version::VERSION;
use crate::http::html::escape::escape;
use crate::http::html::page::{Facts, code_box, lookup_form, number, page, section};
use crate::human_size::human_size;
use crate::metrics::Totals;
use crate::store::{Inventory, Store};

/// Timeout for nix-daemon's reply: nobody waits longer for a page.
const DAEMON_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for which the status of nix-daemon is reused.
const STATUS_TTL: Duration = Duration::from_secs(1);

/// The parts of the page that do not depend on the request, and the last status of nix-daemon.
#[derive(Debug)]
pub(crate) struct LandingPage {
    priority: u32,
    store: String,
    started: Instant,
    /// Locked during a query, so that concurrent requests share its result.
    daemon: Mutex<Option<(Instant, DaemonStatus)>>,
}

/// Status of nix-daemon: `None` if it replies, or why not, as clients may know it.
pub(super) type DaemonStatus = Option<&'static str>;

/// The parts of the page that depend on the request and the time.
pub(super) struct View<'a> {
    pub(super) url: &'a str,
    pub(super) keys: &'a [String],
    pub(super) sign: &'a SigningPolicy,
    pub(super) daemon: DaemonStatus,
    pub(super) inventory: Option<&'a Inventory>,
    pub(super) totals: Totals,
    pub(super) has_browse: bool,
    pub(super) granted: &'a Granted,
}

impl LandingPage {
    /// Creates the page of a cache.
    pub(crate) fn new(config: &Config, store: &Store) -> Self {
        let store = store.directory().to_string();
        Self { priority: config.priority, store, started: Instant::now(), daemon: Mutex::default() }
    }

    /// Returns the status of nix-daemon, with one query for concurrent requests.
    pub(super) async fn daemon_status(&self, store: &Store) -> DaemonStatus {
        let mut last = self.daemon.lock().await;
        if let Some((_, status)) = last.filter(|(at, _)| at.elapsed() < STATUS_TTL) {
            return status;
        }
        let status = match timeout(DAEMON_TIMEOUT, store.probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(HandlerError::from(error).reason().public_text()),
            // The time may have passed while it waited for a connection.
            Err(_) => Some(match &*store.daemon_outage().borrow() {
                Some(outage) => HandlerError::from(outage.error.clone()).reason().public_text(),
                None => Reason::DaemonTimeout.public_text(),
            }),
        };
        *last = Some((Instant::now(), status));
        status
    }

    /// Renders the page. Links are relative: a proxy may serve this cache below any path.
    pub(super) fn render(&self, view: &View<'_>) -> String {
        let View { url, keys, sign, granted, .. } = *view;
        let name = name(keys);
        let state = match view.daemon {
            None => "<p class=\"status ok\">nix-daemon responds.</p>".to_owned(),
            Some(why) => format!("<p class=\"status\">Not all paths can be served now: {}.</p>", escape(why)),
        };
        let browse = if view.has_browse { "<p><a href=\"browse\">All paths by name</a></p>\n" } else { "" };
        let mut main = format!(
            "<h1>{}</h1>\n{state}\n<p>A Nix binary cache: it serves the paths of a Nix store to other machines, which then need not \
             build them.</p>\n{}{browse}<section>\n<h2>URL</h2>\n{}</section>\n",
            escape(&name),
            lookup_form("", ""),
            code_box(url)
        );
        main += &section(
            "nix.conf",
            "For <code>/etc/nix/nix.conf</code> of any machine with Nix:",
            &[&nix_conf(url, keys)],
        );
        main += &section("NixOS", "In a NixOS configuration instead:", &[&nixos_module(url, keys)]);
        main += &public_keys(keys, sign);
        let try_it = format!("nix store info --store {url}");
        let copy = format!("nix copy --from {url} {}/HASH-NAME", self.store);
        let lead = "The first command checks that this machine reaches the cache (older releases call it <code>nix store ping</code>, \
                    Nix 2.3 <code>nix ping-store</code>), the second one copies a path. If <code>nix.conf</code> does not \
                    enable <code>nix-command</code>, add <code>--extra-experimental-features nix-command</code>:";
        main += &section("Try it", lead, &[&try_it, &copy]);
        if granted.may(Rights::PUSH) {
            main += &section(
                "Push",
                "You may add signed paths to this cache:",
                &[&format!("nix copy --to {url} ./result")],
            );
        }
        main += &principal(granted, url);
        main += ACCESS;
        main += "<section>\n<h2>About</h2>\n";
        main += &self.facts(view);
        main += "</section>\n";
        let pubkey = if keys.is_empty() { "" } else { "<a href=\"pubkey\">pubkey</a>\n" };
        let metrics = if granted.may(Rights::METRICS) { "<a href=\"metrics\">metrics</a>\n" } else { "" };
        let footer =
            format!("<a href=\"nix-cache-info\">nix-cache-info</a>\n{pubkey}<a href=\"ready\">ready</a>\n{metrics}");
        page(&name, &main, &footer)
    }

    fn facts(&self, view: &View<'_>) -> String {
        let mut facts = Facts::default();
        facts.row("Store directory", &format!("<code>{}</code>", escape(&self.store)));
        if let Some(inventory) = view.inventory {
            let (known, bytes) = inventory.cached;
            let paths = format!("{}, counted {} ago", number(inventory.paths as u64), time(inventory.at.elapsed()));
            facts.row("Paths in the store", &paths);
            if known > 0 {
                let known = number(known as u64);
                facts.row("Size", &format!("{} in the {known} paths that were requested recently", human_size(bytes)));
            }
        }
        let Totals { bytes_sent, narinfos_found, narinfos_missed } = view.totals;
        let up = time(self.started.elapsed());
        facts.row("Sent", &format!("{} of NARs since the start {up} ago", human_size(bytes_sent)));
        let requests = narinfos_found + narinfos_missed;
        if requests > 0 {
            let tenths = u128::from(narinfos_found) * 1000 / u128::from(requests);
            let hits = format!("{}.{}% of {} requested paths", tenths / 10, tenths % 10, number(requests));
            facts.row("Hit rate", &hits);
        }
        facts.row("Priority", &format!("{} (clients try the lowest first; cache.nixos.org has 40)", self.priority));
        facts.row("Version", VERSION);
        facts.html()
    }
}

const ACCESS: &str = "<section>
<h2>Who may use it</h2>
<p>Nix takes substituters and keys from <code>nix.conf</code>, which root writes; on the command line it takes them only from users \
in <code>trusted-users</code>. <code>trusted-substituters</code> permits any user to name this URL on the command line.</p>
<p>If the cache or a proxy in front of it requires a password or a token, Nix reads it from <code>netrc-file</code>, by default \
<code>/etc/nix/netrc</code>: <code>machine HOST login USER password PASSWORD</code>.</p>
</section>
";

/// Tells a client with credentials who it is here, and a user what Nix needs.
fn principal(granted: &Granted, url: &str) -> String {
    let who = match &granted.principal {
        Principal::Anonymous => return String::new(),
        who => escape(&who.to_string()),
    };
    let lead = format!("You are <code>{who}</code>, and may {}.", granted.rights);
    match &granted.principal {
        Principal::User(name) => {
            section("You", &format!("{lead} For <code>/etc/nix/netrc</code>:"), &[&netrc(url, name)])
        }
        _ => section("You", &lead, &[]),
    }
}

/// Returns the name of the cache: that of its first key without the number of the key.
fn name(keys: &[String]) -> String {
    let key = keys.first().and_then(|key| key.split(':').next()).unwrap_or_default();
    let name = key.rsplit_once('-').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    match name.map_or(key, |(name, _)| name) {
        "" => "Nix binary cache".to_owned(),
        name => name.to_owned(),
    }
}

/// Renders a duration in one unit.
fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

fn public_keys(keys: &[String], sign: &SigningPolicy) -> String {
    let what = match sign {
        SigningPolicy::All => "Every path",
        SigningPolicy::Trusted(_) => "Every path that this cache trusts",
    };
    let mut lead = match keys.len() {
        0 => "This cache has no signing key. Clients accept paths from it that are signed with keys that they already trust."
            .to_owned(),
        1 => format!("{what} is signed with the key whose public half is:"),
        _ => format!("{what} is signed with each of the keys whose public halves are below; a client needs one of them:"),
    };
    if let SigningPolicy::Trusted(_) = sign {
        lead = format!("It signs {}. {lead}", escape(&sign.to_string()));
    }
    section("Public keys", &lead, &keys.iter().map(String::as_str).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(keys: &[String], daemon: DaemonStatus, inventory: Option<&Inventory>) -> String {
        html_for(Granted::everything(), keys, daemon, inventory)
    }

    fn html_for(granted: &Granted, keys: &[String], daemon: DaemonStatus, inventory: Option<&Inventory>) -> String {
        let (store, started) = ("/nix/store".to_owned(), Instant::now());
        let page = LandingPage { priority: 30, store, started, daemon: Mutex::default() };
        let totals = Totals { bytes_sent: 3 << 30, narinfos_found: 999, narinfos_missed: 1 };
        page.render(&View {
            url: "http://cache:5000",
            keys,
            sign: &SigningPolicy::All,
            daemon,
            inventory,
            totals,
            has_browse: false,
            granted,
        })
    }

    #[test]
    fn a_client_with_credentials_is_told_who_it_is_and_what_it_may_do() {
        let anonymous = html(&[], None, None);
        assert!(!anonymous.contains("You are") && anonymous.contains("href=\"metrics\""), "{anonymous}");
        let may = |principal, rights| Granted { principal, rights, ..Granted::everything().clone() };
        let alice = html_for(&may(Principal::User("<alice>".into()), Rights::READ), &[], None, None);
        let said = "You are <code>user:&lt;alice&gt;</code>, and may read.";
        assert!(alice.contains(said) && alice.contains("machine cache login &lt;alice&gt; password "), "{alice}");
        assert!(!alice.contains("nix copy --to") && !alice.contains("href=\"metrics\""), "{alice}");
        let ci = html_for(&may(Principal::Jwt("app".into()), Rights::READ.union(Rights::PUSH)), &[], None, None);
        assert!(ci.contains("You are <code>jwt:app</code>") && ci.contains("nix copy --to http://cache:5000 "), "{ci}");
    }

    #[test]
    fn no_key_name_becomes_markup() {
        let odd = ["<b>\"${x}\\-1:AAAA".to_owned()];
        let html = html(&odd, None, None);
        assert!(!html.contains("<b>"), "{html}");
    }

    #[test]
    fn without_keys_there_is_nothing_to_trust() {
        let html = html(&[], None, None);
        assert!(
            html.contains("has no signing key")
                && !html.contains("extra-trusted-public-keys")
                && !html.contains("pubkey")
        );
    }

    #[test]
    fn a_cache_has_the_name_of_its_key_without_the_number() {
        for (key, title) in [
            ("cache.example.org-1:AAAA", "cache.example.org"),
            ("cache-of-mine-12:AAAA", "cache-of-mine"),
            ("my-cache:AAAA", "my-cache"),
            ("-1:AAAA", "Nix binary cache"),
        ] {
            assert_eq!(name(&[key.to_owned()]), title);
        }
        assert_eq!(name(&[]), "Nix binary cache");
    }

    #[tokio::test]
    async fn unknown_facts_are_left_out() {
        let inventory = Inventory { at: Instant::now(), paths: 12_345, cached: (10, 1 << 30), names: [].into() };
        let page = html(&[], None, Some(&inventory));
        for part in [
            "nix-daemon responds",
            "12,345, counted 0 seconds ago",
            "1.0 GiB in the 10 paths",
            "3.0 GiB of NARs since",
            "99.9% of 1,000",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        let page = html(&[], Some("nix-daemon is unreachable"), None);
        assert!(
            page.contains("Not all paths can be served now: nix-daemon is unreachable.")
                && !page.contains("Paths in the store")
        );
    }

    #[test]
    fn durations_have_one_unit() {
        for (seconds, text) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7200, "2 hours"),
            (200_000, "2 days"),
        ] {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }
}
