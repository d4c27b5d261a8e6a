//! References of pushed paths: by pushing a path that refers to another, nobody gets that one to read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::push::Cache;
use crate::push::accept::push;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Script};
use crate::support::store_item::StoreItem;
use crate::support::wire::{LAST, Wire};

/// Returns a daemon that has `old`, and `new` once that was added.
fn daemon(old: &StoreItem, new: &StoreItem) -> Script {
    let is_added = Arc::new(AtomicBool::new(false));
    let (added, items) = (Arc::clone(&is_added), [old.clone(), new.clone()]);
    let reply = move |query: &Query| {
        let valid = if is_added.load(Ordering::SeqCst) { &items[..] } else { &items[..1] };
        StoreItem::reply_among(valid, query).unwrap_or_else(|| match query {
            Query::PathFromHashPart(_) => Wire::new().number(LAST).string("").into(),
            Query::PathInfo(_) => Wire::new().number(LAST).number(0).into(),
            other => panic!("unexpected {other:?}"),
        })
    };
    let new = new.path.clone();
    Script::replying(reply).adding(move |addition| {
        added.fetch_or(addition.path == new, Ordering::SeqCst);
        Wire::new().number(LAST).into()
    })
}

#[test]
fn a_path_that_a_pusher_neither_sees_nor_has_cannot_be_referred_to() {
    let (nothing, secret) = (scratch::fresh_dir(), StoreItem::file(b"secret"));
    let cache = Cache::with_rights(
        "access.anonymous = [\"push\"]",
        &format!(
            "[[access.grant]]\nwho = [\"anonymous\"]\nmay = [\"read\"]\nview = \"own\"\n[views.own]\nroots = [\"{}/*\"]\n",
            nothing.display()
        ),
    );
    let referrer = StoreItem {
        path: "/nix/store/11111111111111111111111111111111-referrer".to_owned(),
        references: vec![secret.path.clone()],
        ..StoreItem::file(b"referrer")
    };
    cache.daemon.play(daemon(&secret, &referrer));

    let refused = push(&cache, &referrer);
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("which is not in this store: push that path first"), "{}", refused.text());
    // Whoever has the NAR gives nothing away, and still does not read it here.
    assert_eq!(push(&cache, &secret).status, 200);
    assert_eq!(push(&cache, &referrer).status, 200);
    assert_eq!(cache.harmonia.http().get(&secret.narinfo_url()).status, 404);
    assert_eq!(cache.harmonia.http().get(&referrer.narinfo_url()).status, 404);
}
