//! The report on one path, as people read it.

use std::path::Path;

use harmonia_protocol::StoreDir;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::lines::Text;
use super::text::{held_back, responses};
use super::words::{counted, duration, seconds_since};
use crate::admin::report::PathStatus;
use crate::http::path_report::{ClosureReport, PathReport};
use crate::human_size::human_size;
use crate::signing::{SignatureStatus, Trust};

/// References and parts of a closure that are listed.
const LISTED: usize = 5;

/// What is asked of the server about the path that somebody has named. A link on this machine is followed here, where it is;
/// a store path may itself be a link, and is not.
pub(super) fn target(named: &str, store: &StoreDir) -> String {
    let may_be_link = named.contains('/') && !named.contains("://") && !Path::new(named).starts_with(store.as_str());
    // What a link names may have been collected, and is asked about all the same.
    let follow = || Path::new(named).canonicalize().or_else(|_| Path::new(named).read_link());
    let followed = if may_be_link { follow().ok() } else { None };
    let text = followed.as_deref().and_then(Path::to_str).unwrap_or(named);
    format!("/path?of={}", utf8_percent_encode(text, NON_ALPHANUMERIC))
}

/// All of it, in lines.
pub(super) fn of(status: &PathStatus) -> String {
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
        text.entry("held back", &held_back(why));
    }
    signatures(&mut text, report);
    text.entry("trusted", trust(report.trust));
    let compressed = report.compressed.as_ref().map_or_else(
        || "not compressed yet, or not kept compressed".to_owned(),
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
        "asked for",
        &status.last_requested.map_or_else(
            || "not, as far as is remembered".to_owned(),
            |time| format!("{} ago", duration(seconds_since(time))),
        ),
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
            SignatureStatus::Unknown => "a key that is not known here",
            SignatureStatus::Forged => "FORGED: the key of this name has not made it",
        };
        text.entry("signed by", &format!("{} ({whose})", signature.key));
    }
}

const fn trust(trust: Trust) -> &'static str {
    match trust {
        Trust::All => "yes: every path is signed (sign = \"all\")",
        Trust::BuiltHere => "yes: nix-daemon built it itself",
        Trust::ContentAddressed => "yes: its contents are those that its address names",
        Trust::TrustedKey => "yes: one of trusted_public_keys has signed it",
        Trust::Nobody => {
            "no: it was not built here, has no content address that holds, and no trusted key has signed it"
        }
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

/// The first ones, a line each.
fn list(text: &mut Text, name: &str, all: &[String]) {
    for (nth, one) in all.iter().take(LISTED).enumerate() {
        text.entry(if nth == 0 { name } else { "" }, one);
    }
    if all.len() > LISTED {
        text.entry("", &format!("and {} more (--json has them)", all.len() - LISTED));
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
