//! Renders the status of a server for people.

use std::fmt::Write as _;

use super::lines::Text;
use super::words::{duration, percent, seconds_since, seconds_until};
use crate::admin::report::{
    Compressing, Connections, DaemonStatus, Listed, LoggedLine, NarCache, NarinfoCache, QuarantineEntry, Sending,
    Status,
};
use crate::human_size::human_size;
use crate::output::counted;

/// Renders the whole status.
pub(super) fn render(status: &Status) -> String {
    let mut text = Text::default();
    text.line(&format!("harmonia {}, up {}, process {}", status.version, duration(status.uptime), status.pid));
    for url in &status.listening {
        text.entry("listening", url);
    }
    for key in &status.keys {
        text.entry("key", key);
    }
    if status.keys.is_empty() {
        text.entry("key", "none: narinfos have only the signatures from the store");
    }
    if let Some(end) = status.certificate_ends {
        let left = seconds_until(end);
        let when = if left == 0 { "expired".to_owned() } else { format!("expires in {}", duration(left)) };
        text.entry("certificate", &when);
    }
    text.entry(
        "requests",
        &format!(
            "{} answered, {} in flight, {} sent",
            status.requests.answered,
            status.requests.in_flight,
            human_size(status.requests.bytes_sent)
        ),
    );
    daemon(&mut text, &status.daemon);
    connections(&mut text, &status.connections);
    sending(&mut text, &status.sending);
    compressing(&mut text, &status.compressing);
    caches(&mut text, status);
    quarantine(&mut text, &status.quarantine);
    errors(&mut text, &status.errors);
    text.0
}

fn daemon(text: &mut Text, daemon: &DaemonStatus) {
    text.heading(&format!("nix-daemon at {}", daemon.address));
    let since = daemon.since.map(|since| format!(" for {}", duration(since))).unwrap_or_default();
    let release = daemon.release.as_deref().map(|release| format!("Nix {release}, ")).unwrap_or_default();
    let protocol = daemon.protocol.as_deref().unwrap_or("unknown");
    let state = match &daemon.error {
        None => format!("up{since}: {release}protocol {protocol}, answers in {:.1} ms", daemon.answered_in),
        Some(error) => format!("DOWN{since}: {error}"),
    };
    text.indented(&state);
    let connections = daemon.connections.iter().map(|(pool, now)| {
        let waiting = if now.waiting > 0 { format!(", {} waiting", now.waiting) } else { String::new() };
        format!("{} of {} for {pool}{waiting}", now.in_use, now.max)
    });
    text.indented(&format!("connections in use: {}", connections.collect::<Vec<_>>().join("; ")));
}

fn connections(text: &mut Text, now: &Connections) {
    let waiting = if now.waiting > 0 { format!(", {} waiting", now.waiting) } else { String::new() };
    text.heading(&format!(
        "{} of {}: {} active, {} idle{waiting}",
        counted(now.active + now.idle + now.waiting, "connection"),
        counted(now.clients.total as u64, "client"),
        now.active,
        now.idle
    ));
    let rows = now.clients.first.iter().map(|client| {
        let number = |number: usize| number.to_string();
        [client.client.clone(), number(client.connections), number(client.active), number(client.waiting)]
    });
    text.table(["CLIENT", ">CONNECTIONS", ">ACTIVE", ">WAITING"], rows, &now.clients);
}

fn sending(text: &mut Text, sending: &Listed<Sending>) {
    if sending.total == 0 {
        return;
    }
    text.heading(&format!("Sending {}", counted(sending.total as u64, "response")));
    responses(text, sending);
}

/// Renders a table of responses that are being sent.
pub(super) fn responses(text: &mut Text, sending: &Listed<Sending>) {
    let rows = sending.first.iter().map(|it| {
        let (of, done) = match it.length {
            Some(length) => (human_size(length), percent(it.sent, length)),
            None => ("?".to_owned(), String::new()),
        };
        let what = it.path.clone().unwrap_or_else(|| it.url.clone());
        let rate = format!("{}/s", human_size(it.rate));
        [it.client.clone(), human_size(it.sent), of, done, rate, format!("{:.0} s", it.duration), what]
    });
    text.table(["CLIENT", ">SENT", ">OF", ">", ">RATE", ">SINCE", "WHAT"], rows, sending);
}

fn compressing(text: &mut Text, compressing: &Listed<Compressing>) {
    if compressing.total == 0 {
        return;
    }
    text.heading(&format!("Compressing {}", counted(compressing.total as u64, "NAR")));
    let rows = compressing.first.iter().map(|it| {
        let written = if it.is_waiting { "waiting".to_owned() } else { human_size(it.written) };
        [human_size(it.nar_size), written, duration(it.duration), it.path.clone()]
    });
    text.table([">NAR", ">WRITTEN", ">SINCE", "PATH"], rows, compressing);
}

fn caches(text: &mut Text, status: &Status) {
    text.heading("Caches");
    let NarinfoCache { entries, bytes, max_bytes, hits, misses, stale } = status.narinfo_cache;
    let hit_rate = percent(hits + stale, hits + misses + stale);
    let aged = if stale > 0 { format!(", {stale} stale hits while nix-daemon was unavailable") } else { String::new() };
    text.entry(
        "narinfos",
        &format!("{entries} paths, {} of {}, hit rate {hit_rate}{aged}", human_size(bytes), human_size(max_bytes)),
    );
    match &status.nar_cache {
        None => text.entry("NARs", "no NAR cache"),
        Some(NarCache { dir, entries, bytes, max_bytes, hits, joined, misses, bypassed, corrupt }) => {
            let hit_rate = percent(hits + joined, hits + joined + misses + bypassed);
            let mut line = format!(
                "{entries} compressed, {} of {}, hit rate {hit_rate}, in {}",
                human_size(*bytes),
                human_size(*max_bytes),
                dir.display()
            );
            for (number, what) in [(bypassed, "sent uncompressed because the directory failed"), (corrupt, "corrupt")] {
                if *number > 0 {
                    // Writing to a string cannot fail.
                    let _ = write!(line, "; {number} {what}");
                }
            }
            text.entry("NARs", &line);
        }
    }
    if let Some(gc) = status.gc_protection {
        let failed = if gc.failed > 0 { format!("; {} requests failed", gc.failed) } else { String::new() };
        text.entry("gc roots", &format!("{}, for {} each{failed}", gc.roots, duration(gc.seconds)));
    }
    if !status.reclaimed.is_empty() {
        let what = status.reclaimed.iter().map(|(what, times)| format!("{what} {times}"));
        text.entry("reclaimed", &format!("from idle or slow clients: {}", what.collect::<Vec<_>>().join(", ")));
    }
}

fn quarantine(text: &mut Text, quarantine: &Listed<QuarantineEntry>) {
    if quarantine.total == 0 {
        return;
    }
    text.heading(&format!("Quarantined: {} whose NAR fails verification", counted(quarantine.total as u64, "path")));
    for it in &quarantine.first {
        text.indented(&it.path);
        text.indented(&format!("  {}", quarantined(it)));
    }
    text.rest(quarantine);
}

/// Renders for how long a path has been quarantined, and why.
pub(super) fn quarantined(it: &QuarantineEntry) -> String {
    let state = if it.is_quarantined { "404" } else { "being verified" };
    format!("{state} for {}, next check in {}: {}", duration(it.since), duration(it.next_try), it.reason)
}

fn errors(text: &mut Text, errors: &Listed<LoggedLine>) {
    if errors.total == 0 {
        return text.heading("No errors or warnings since the start");
    }
    text.heading("Last errors and warnings");
    for line in &errors.first {
        text.indented(&format!("{} ago, {}: {}", duration(seconds_since(line.time)), line.level, line.message));
    }
    text.rest(errors);
}
