//! Checks who may do what: the files of `[access]`, and whether credentials are sent without TLS.

use std::sync::Arc;

use super::report::Report;
use crate::access::Access;
use crate::commands::plain_credentials;
use crate::config::Config;

pub(super) fn check(config: &Config, report: &mut Report) {
    let Some(access) = &config.access else {
        return Report::line(format_args!("access: every client may read"));
    };
    let Some(Some(loaded)) = report.ok(Access::load(config, &Arc::default())) else { return };
    Report::line(format_args!(
        "access: ok, anonymous clients may {}, {} grants, {} users",
        access.anonymous,
        access.grants.len(),
        loaded.users()
    ));
    plain_credentials::warn(config, plain_credentials::configured(&config.bind).into_iter());
}
