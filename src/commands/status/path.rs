//! Renders the report on one path for people.

use harmonia_protocol::StoreDir;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::lines::Text;
use super::text::{quarantined, responses};
use super::words::{duration, seconds_since};
use crate::admin::report::PathStatus;
use crate::commands::server;
use crate::http::path_report::{ClosureReport, PathReport};
use crate::human_size::human_size;
use crate::output::counted;
use crate::signing::{SignatureStatus, Trust};

/// Number of references, and of paths of a closure, that are listed.
const LISTED: usize = 5;

/// Returns the request target for a path that the operator named. Follows symbolic links on this machine, except store
/// paths, which may be links themselves.
pub(super) fn target(named: &str, store: &StoreDir) -> String {
    format!("/path?of={}", utf8_percent_encode(&server::named(named, store), NON_ALPHANUMERIC))
}

/// Renders the whole report.
pub(super) fn render(status: &PathStatus) -> String {
    let (mut text, report) = (Text::default(), &status.report);
    text.line(&report.path);
    let since = report.registration_time.map(|time| format!(", for {}", duration(seconds_since(time))));
    text.entry("valid", &format!("yes, says nix-daemon{}", since.unwrap_or_default()));
    text.entry(
        "served",
        &match &report.not_served {
            None => "yes".to_owned(),
            Some(why) => format!("no, clients get a 404 ({}): {}", why.reason, why.explanation),
        },
    );
    if let Some(why) = &status.quarantine {
        text.entry("quarantined", &quarantined(why));
    }
    if let Some(by) = &status.hidden_by {
        let reason = by.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        text.entry(
            "hidden",
            &format!("by {}, who hid {} {} ago{reason}", by.by, by.name(), duration(seconds_since(by.since))),
        );
    }
    signatures(&mut text, report);
    text.entry("trusted", trust(report.trust));
    let compressed = report.compressed.as_ref().map_or_else(
        || "not in the NAR cache".to_owned(),
        |file| format!("{} compressed ({})", human_size(file.size), file.encoding),
    );
    text.entry("NAR", &format!("{}, {}, {compressed}", human_size(report.nar_size), report.nar_hash));
    closure(&mut text, &report.closure);
    list(&mut text, "references", &report.references);
    if let Some(deriver) = &report.deriver {
        text.entry("deriver", deriver);
    }
    if let Some(address) = &report.content_address {
        text.entry("address", address);
    }
    text.entry(
        "last query",
        &status
            .last_requested
            .map_or_else(|| "none known".to_owned(), |time| format!("{} ago", duration(seconds_since(time)))),
    );
    if status.sending.total > 0 {
        text.heading(&format!("Sending {}", counted(status.sending.total as u64, "response")));
        responses(&mut text, &status.sending);
    }
    text.0
}

fn signatures(text: &mut Text, report: &PathReport) {
    if report.signatures.is_empty() {
        return text.entry("signed by", "nobody");
    }
    for signature in &report.signatures {
        let whose = match signature.status {
            SignatureStatus::Ours => "a key of this cache",
            SignatureStatus::Trusted => "one of trusted_public_keys",
            SignatureStatus::Unknown => "an unknown key",
            SignatureStatus::Forged => "FORGED: not made by the key of this name",
        };
        text.entry("signed by", &format!("{} ({whose})", signature.key));
    }
}

const fn trust(trust: Trust) -> &'static str {
    match trust {
        Trust::All => "yes: every path is signed (sign = \"all\")",
        Trust::BuiltHere => "yes: built by this nix-daemon",
        Trust::ContentAddressed => "yes: its content address is correct",
        Trust::TrustedKey => "yes: signed by one of trusted_public_keys",
        Trust::Nobody => "no: not built here, without a correct content address, and not signed by a trusted key",
    }
}

fn closure(text: &mut Text, closure: &ClosureReport) {
    let incomplete = closure.incomplete.as_ref().map(|why| format!(", at least: {why}")).unwrap_or_default();
    let size = human_size(closure.nar_size);
    text.entry("closure", &format!("{}, {size} of NARs{incomplete}", counted(closure.paths as u64, "path")));
    if closure.paths > 1 {
        let parts: Vec<_> =
            closure.largest.iter().map(|part| format!("{:>10}  {}", human_size(part.nar_size), part.name)).collect();
        list(text, "", &parts);
    }
}

/// Renders the first items, one in each line.
fn list(text: &mut Text, name: &str, all: &[String]) {
    for (nth, one) in all.iter().take(LISTED).enumerate() {
        text.entry(if nth == 0 { name } else { "" }, one);
    }
    if all.len() > LISTED {
        text.entry("", &format!("and {} more (see --json)", all.len() - LISTED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_but_for_store_paths() {
        let directory = tempfile::tempdir().unwrap();
        let (link, store) = (directory.path().join("result"), StoreDir::default());
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert_eq!(target(link.to_str().unwrap(), &store), "/path?of=%2Fdev%2Fnull");
        for text in ["/nix/store/x-y", "http://cache/x.narinfo", "x-y"] {
            let encoded = utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            assert_eq!(target(text, &store), format!("/path?of={encoded}"));
        }
    }
}
