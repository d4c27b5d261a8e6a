//! Checks the object store of `[bucket]`: whether requests work, and what the server lacks.

use std::sync::Arc;

use super::report::Report;
use crate::bucket::{BucketStore, Probed, Trial};
use crate::commands::bucket::failure::BucketFailure;
use crate::config::{Config, Publish};

pub(super) async fn check(config: &Config, report: &mut Report) {
    let Some(bucket) = &config.bucket else { return };
    let Some(store) = report.ok(BucketStore::open(bucket, Arc::default()).await) else { return };
    let trial = Trial {
        host: &bucket.host,
        // A key that only reads is all that such a host needs.
        writes: bucket.publish != Publish::None,
        public_url: bucket.public_url.as_ref(),
        redirect_from: bucket.redirect_from,
    };
    let probed = store.probe(trial).await.map_err(BucketFailure::from);
    let Some(Probed { works, lacks, refused }) = report.ok(probed) else { return };
    let endpoint = bucket.endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
    Report::line(format_args!(
        "bucket: ok, {}{endpoint}, as host {}: {}",
        bucket.location,
        bucket.host,
        works.join(", ")
    ));
    for lack in lacks {
        Report::line(format_args!("bucket: the server {lack}"));
    }
    if let Some(why) = refused {
        let help = "set bucket.redirect_from = \"never\", or bucket.public_url to where clients can read the objects";
        tracing::warn!("clients would be redirected to the bucket in vain: {why}\n  help: {help}");
    }
    if bucket.read && bucket.trusted_public_keys.is_empty() && config.sign_key_paths.is_empty() {
        tracing::warn!(
            "nothing of the bucket would be served, since no key is trusted\n  help: set bucket.trusted_public_keys to the keys of the hosts that publish"
        );
    }
}
