//! Checks the certificate: whether it can be used, for which names, and until when; and the authorities of client certificates.

use std::time::{SystemTime, UNIX_EPOCH};

use super::report::Report;
use crate::config::{Config, TlsConfig};
use crate::error::Error;
use crate::net::tls::{ClientCa, Identity};

const DAY: i64 = 24 * 60 * 60;
/// Days before expiry from which there is a warning: automatic renewal happens long before.
const WARN_DAYS: i64 = 7;

pub(super) fn check(config: &Config, report: &mut Report) {
    let Some(files) = &config.tls else {
        return Report::line(format_args!("tls: off, serving http"));
    };
    check_identity(config, files, report);
    check_client_ca(config, report);
}

fn check_identity(config: &Config, files: &TlsConfig, report: &mut Report) {
    let Some(identity) = report.ok(Identity::load(files, &config.store_directories())) else { return };
    let Some(facts) = identity.certificate() else {
        return Report::line(format_args!("tls: ok, {}", files.cert.display()));
    };
    let names = if facts.names.is_empty() { "no name".to_owned() } else { facts.names.join(", ") };
    Report::line(format_args!("tls: {} is for {names}, until {}", files.cert.display(), facts.end));
    check_dates(files, facts.not_before, facts.not_after, now(), report);
}

/// Checks the authorities of client certificates, if there are any. They are trusted beyond their validity, which is a warning.
fn check_client_ca(config: &Config, report: &mut Report) {
    let Some(file) = ClientCa::configured(config) else { return };
    let Some(authorities) = report.ok(ClientCa::load(file)) else { return };
    let (file, mut all) = (file.display(), authorities.authorities());
    let Some(first) = all.next() else { return };
    let (mut count, mut earliest) = (1, first);
    for authority in all {
        count += 1;
        if authority.not_after < earliest.not_after {
            earliest = authority;
        }
    }
    let noun = if count == 1 { "authority" } else { "authorities" };
    Report::line(format_args!("client certificates: ok, {count} {noun} in {file}, until {}", earliest.end));
    if earliest.not_after < now() {
        tracing::warn!(
            "an authority of client certificates in {file} expired {} days ago, and is still trusted\n  help: remove it from the file",
            (now() - earliest.not_after) / DAY
        );
    }
}

fn check_dates(files: &TlsConfig, not_before: i64, not_after: i64, now: i64, report: &mut Report) {
    let certificate = files.cert.display();
    if not_after < now {
        report.problem(Error::CertificateEnded { path: files.cert.clone(), days: (now - not_after) / DAY });
    } else if not_before > now {
        tracing::warn!(
            "the certificate {certificate} is not valid yet\n  help: check this machine's clock; clients reject the certificate until it is valid"
        );
    } else if not_after - now < WARN_DAYS * DAY {
        tracing::warn!(
            "the certificate {certificate} expires in {} days\n  help: renew it, then run systemctl reload harmonia or send SIGHUP",
            (not_after - now) / DAY
        );
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
