//! `/`: for people who open the cache's URL in a browser. Whether it works, what to copy, and what this is.
//!
//! Rendered when it is asked for, and never kept. What takes the daemon long is asked for rarely and in the background.

use std::time::Duration;

use hyper::StatusCode;
use hyper::http::request::Parts;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::super::error::HandlerError;
use super::super::html::escape;
use super::super::people_page::{Facts, HTML, code_box, lookup_form, number, page, section};
use super::super::reason::Reason;
use super::super::response::{Keep, Reply, text};
use super::super::route::Route;
use super::super::{App, VERSION};
use crate::config::{Config, Sign};
use crate::human_size::human_size;
use crate::metrics::Totals;
use crate::store::{Inventory, Store};

/// Time for the daemon's answer: nobody waits longer for a page.
const PATIENCE: Duration = Duration::from_secs(1);
/// Time for which its answer is shared by those who ask.
const HOLDS: Duration = Duration::from_secs(1);
/// Time that the first count of paths is waited for.
const COUNT_PATIENCE: Duration = Duration::from_millis(300);

/// The start page: what every request has in common, and whether the daemon answers.
#[derive(Debug)]
pub(in crate::http) struct LandingPage {
    priority: u32,
    store: String,
    started: Instant,
    /// Held by the one who asks.
    daemon: Mutex<Option<(Instant, State)>>,
}

/// The daemon's state as visitors are told of it: nothing if it answers.
type State = Option<&'static str>;

/// The parts that differ from view to view.
struct Now<'a> {
    url: &'a str,
    keys: &'a [String],
    sign: &'a Sign,
    daemon: State,
    inventory: Option<&'a Inventory>,
    totals: Totals,
    is_browsed: bool,
}

impl LandingPage {
    /// A page about this cache.
    pub(in crate::http) fn new(config: &Config, store: &Store) -> Self {
        let store = store.directory().to_string();
        Self { priority: config.priority, store, started: Instant::now(), daemon: Mutex::default() }
    }

    /// Whether the daemon answers, by one question for all who ask at the same time.
    async fn daemon(&self, store: &Store) -> State {
        let mut known = self.daemon.lock().await;
        if let Some((_, state)) = known.filter(|(at, _)| at.elapsed() < HOLDS) {
            return state;
        }
        let state = match timeout(PATIENCE, store.probe()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(HandlerError::from(error).reason().public_text()),
            // It may have been waited for in vain before anybody could ask it.
            Err(_) => Some(match &*store.daemon_outage().borrow() {
                Some(outage) => HandlerError::from(outage.error.clone()).reason().public_text(),
                None => Reason::DaemonTimeout.public_text(),
            }),
        };
        *known = Some((Instant::now(), state));
        state
    }

    /// Links are relative: a proxy may have this cache below a path.
    fn render(&self, now: &Now<'_>) -> String {
        let Now { url, keys, sign, .. } = *now;
        let name = name(keys);
        let state = match now.daemon {
            None => "<p class=\"state good\">The nix daemon answers.</p>".to_owned(),
            Some(why) => format!("<p class=\"state\">Not all paths can be served now: {}.</p>", escape(why)),
        };
        let browse = if now.is_browsed { "<p><a href=\"browse\">All paths by name</a></p>\n" } else { "" };
        let mut main = format!(
            "<h1>{}</h1>\n{state}\n<p>A Nix binary cache: it serves the paths of a Nix store to other machines, so that they need not \
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
        main += &section("NixOS", "The same in a NixOS configuration:", &[&nixos_module(url, keys)]);
        main += &public_keys(keys, sign);
        let try_it = format!("nix store info --store {url}");
        let copy = format!("nix copy --from {url} {}/HASH-NAME", self.store);
        let lead = "Whether this machine reaches the cache (older releases call it <code>nix store ping</code>, Nix 2.3 \
                    <code>nix ping-store</code>), and a path copied from it. Where <code>nix.conf</code> does not enable \
                    <code>nix-command</code>, <code>--extra-experimental-features nix-command</code> does:";
        main += &section("Try it", lead, &[&try_it, &copy]);
        main += ACCESS;
        main += "<section>\n<h2>About</h2>\n";
        main += &self.facts(now);
        main += "</section>\n";
        let pubkey = if keys.is_empty() { "" } else { "<a href=\"pubkey\">pubkey</a>\n" };
        let footer = format!(
            "<a href=\"nix-cache-info\">nix-cache-info</a>\n{pubkey}<a href=\"ready\">ready</a>\n<a href=\"metrics\">metrics</a>\n"
        );
        page(&name, &main, &footer)
    }

    fn facts(&self, now: &Now<'_>) -> String {
        let mut facts = Facts::default();
        facts.row("Store directory", &format!("<code>{}</code>", escape(&self.store)));
        if let Some(inventory) = now.inventory {
            let (known, bytes) = inventory.known;
            let paths = format!("{}, counted {} ago", number(inventory.paths as u64), time(inventory.at.elapsed()));
            facts.row("Paths in the store", &paths);
            if known > 0 {
                let known = number(known as u64);
                facts.row("Size", &format!("{} in the {known} paths that were asked about of late", human_size(bytes)));
            }
        }
        let Totals { bytes_sent, narinfos_found, narinfos_missed } = now.totals;
        let up = time(self.started.elapsed());
        facts.row("Sent", &format!("{} of NARs since the start {up} ago", human_size(bytes_sent)));
        let asked = narinfos_found + narinfos_missed;
        if asked > 0 {
            let tenths = u128::from(narinfos_found) * 1000 / u128::from(asked);
            let hits = format!("{}.{}% of {} paths that were asked for", tenths / 10, tenths % 10, number(asked));
            facts.row("Hit rate", &hits);
        }
        facts.row("Priority", &format!("{} (the lowest is asked first; cache.nixos.org has 40)", self.priority));
        facts.row("Version", VERSION);
        facts.html()
    }
}

const ACCESS: &str = "<section>
<h2>Who may use it</h2>
<p>Nix takes substituters and keys from <code>nix.conf</code>, which root writes; from the command line only of users in \
<code>trusted-users</code>. With <code>trusted-substituters</code> root allows the URL to all users, who then still have to name it.</p>
<p>If a proxy in front of the cache asks for a password, Nix takes it from the file that <code>netrc-file</code> names, \
<code>/etc/nix/netrc</code> by default: <code>machine HOST login USER password PASSWORD</code>.</p>
</section>
";

/// The page, as the client that asks sees this cache.
pub(in crate::http) async fn respond(app: &App, parts: &Parts) -> Reply {
    let landing_page = &app.landing_page;
    let (daemon, inventory) = tokio::join!(landing_page.daemon(&app.store), app.store.inventory(COUNT_PATIENCE));
    let signer = app.signer.load();
    let keys: Vec<String> = signer.keys().public_keys().map(ToString::to_string).collect();
    let body = landing_page.render(&Now {
        url: &app.pages.url(parts),
        keys: &keys,
        sign: signer.policy(),
        daemon,
        inventory: inventory.as_deref(),
        totals: app.metrics.totals(&[Route::NAR, Route::COMPRESSED_NAR], Route::NARINFO),
        is_browsed: app.is_browsed,
    });
    let mut reply = text(StatusCode::OK, Keep::Not, HTML, body.into());
    app.pages.protect(&mut reply);
    reply
}

/// The cache's name: that of its first key without the number that tells the key from its successors.
fn name(keys: &[String]) -> String {
    let key = keys.first().and_then(|key| key.split(':').next()).unwrap_or_default();
    let name = key.rsplit_once('-').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
    match name.map_or(key, |(name, _)| name) {
        "" => "Nix binary cache".to_owned(),
        name => name.to_owned(),
    }
}

/// A time for people, in one unit.
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

fn public_keys(keys: &[String], sign: &Sign) -> String {
    let what = match sign {
        Sign::All => "Everything from here",
        Sign::Trusted(_) => "What this cache trusts",
    };
    let mut lead = match keys.len() {
        0 => "This cache signs nothing itself. Clients take from it what is signed by keys that they trust already."
            .to_owned(),
        1 => format!("{what} is signed with the secret half of this key:"),
        _ => format!("{what} is signed with the secret halves of these keys; one of them is enough:"),
    };
    if let Sign::Trusted(_) = sign {
        lead = format!("It signs {}. {lead}", escape(&sign.to_string()));
    }
    section("Public keys", &lead, &keys.iter().map(String::as_str).collect::<Vec<_>>())
}

fn nix_conf(url: &str, keys: &[String]) -> String {
    let mut text = format!("extra-substituters = {url}");
    if !keys.is_empty() {
        text += "\nextra-trusted-public-keys = ";
        text += &keys.join(" ");
    }
    text
}

fn nixos_module(url: &str, keys: &[String]) -> String {
    let mut text = String::from("{\n  nix.settings = {\n");
    text += &nix_list("substituters", &[url.to_owned()]);
    if !keys.is_empty() {
        text += &nix_list("trusted-public-keys", keys);
    }
    text + "  };\n}"
}

/// A setting with one string per line.
fn nix_list(name: &str, strings: &[String]) -> String {
    let lines: Vec<_> = strings.iter().map(|string| format!("      {}\n", nix_string(string))).collect();
    format!("    {name} = [\n{}    ];\n", lines.concat())
}

/// A string literal of the Nix language.
fn nix_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn html(keys: &[String], daemon: State, inventory: Option<&Inventory>) -> String {
        let (store, started) = ("/nix/store".to_owned(), Instant::now());
        let page = LandingPage { priority: 30, store, started, daemon: Mutex::default() };
        let totals = Totals { bytes_sent: 3 << 30, narinfos_found: 999, narinfos_missed: 1 };
        page.render(&Now { url: "http://cache", keys, sign: &Sign::All, daemon, inventory, totals, is_browsed: false })
    }

    #[test]
    fn what_a_key_is_called_is_never_markup_nor_nix() {
        let odd = ["<b>\"${x}\\-1:AAAA".to_owned()];
        let html = html(&odd, None, None);
        assert!(!html.contains("<b>"), "{html}");
        assert!(nixos_module("http://cache", &odd).contains(r#""<b>\"\${x}\\-1:AAAA""#));
    }

    #[test]
    fn without_keys_there_is_nothing_to_trust() {
        let html = html(&[], None, None);
        assert!(
            html.contains("signs nothing") && !html.contains("extra-trusted-public-keys") && !html.contains("pubkey")
        );
    }

    #[test]
    fn a_cache_is_called_as_its_key_without_the_number() {
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
    async fn what_is_known_is_told_and_what_is_not_is_left_out() {
        let inventory = Inventory { at: Instant::now(), paths: 12_345, known: (10, 1 << 30), names: [].into() };
        let page = html(&[], None, Some(&inventory));
        for part in [
            "The nix daemon answers",
            "12,345, counted 0 seconds ago",
            "1.0 GiB in the 10 paths",
            "3.0 GiB of NARs since",
            "99.9% of 1,000",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        let page = html(&[], Some("the nix daemon is unreachable"), None);
        assert!(
            page.contains("Not all paths can be served now: the nix daemon is unreachable.")
                && !page.contains("Paths in the store")
        );
    }

    #[test]
    fn times_are_told_in_one_unit() {
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
