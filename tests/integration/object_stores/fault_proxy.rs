//! The proxy that fails requests: each fault is what it says, before servers that check signatures and before one that does not.

use std::time::{Duration, Instant};

use crate::support::engine::{Engine, Kind};
use crate::support::http::Http;
use crate::support::s3::{S3, error_code};
use crate::support::s3_proxy::{Fault, S3Proxy};
use crate::support::s3_request::Kind as Object;

const NAR: &str = "proxied/nar/0.nar.zst";

fn before(engine: &Engine) -> (S3Proxy, S3) {
    let proxy = S3Proxy::new(engine.address());
    let s3 = S3::new(proxy.address(), engine.region(), engine.access_key(), engine.secret_key(), engine.bucket());
    (proxy, s3)
}

#[test]
fn without_a_fault_everything_passes_and_is_counted() {
    for kind in [Kind::Swift, Kind::Rclone, Kind::Moto] {
        let Some(engine) = Engine::shared(kind) else { continue };
        let (proxy, s3) = before(engine);
        assert_eq!(s3.put(NAR, b"0123456789").status, 200, "{kind:?}");
        assert_eq!(s3.get(NAR).body, b"0123456789");
        let url = s3.presign("GET", NAR, Duration::from_secs(3600));
        assert_eq!(Http::new(proxy.address()).get(&url).body, b"0123456789");
        assert!(s3.list("proxied/", 9, &[]).keys.iter().any(|key| key == NAR));
        assert_eq!((proxy.count("PUT", Object::Nar), proxy.count("GET", Object::Nar)), (1, 2), "{kind:?}");
        assert_eq!((proxy.count("", Object::List), proxy.nar_bytes_sent()), (1, 10), "{kind:?}");
        assert_eq!(proxy.requests().iter().filter(|request| request.is_presigned()).count(), 1);
        assert!(proxy.requests().iter().all(|request| request.status == 200), "{:?}", proxy.requests());
    }
}

#[test]
fn each_fault_is_what_it_says() {
    let Some(moto) = Engine::shared(Kind::Moto) else { return };
    let (proxy, s3) = before(moto);
    let (key, direct) = ("faulty/nar/1.nar.zst", moto.s3());
    let put = || s3.try_ask("PUT", key, &[], &[], b"0123456789");
    proxy.fail("PUT", Object::Nar, Fault::SlowDown, 1);
    let refused = put().unwrap();
    assert_eq!((refused.status, &*error_code(&refused), direct.get(key).status), (503, "SlowDown", 404));
    proxy.fail("PUT", Object::Nar, Fault::Refuse, 1);
    assert!(put().is_err() && direct.get(key).status == 404);
    proxy.fail("PUT", Object::Nar, Fault::LoseAnswer, 1);
    assert!(put().is_err() && direct.get(key).body == b"0123456789");
    proxy.fail("PUT", Object::Nar, Fault::StoreShort(4), 1);
    assert!(put().unwrap().status == 200 && direct.get(key).body == b"0123");
    assert_eq!(put().unwrap().status, 200);
    proxy.fail("GET", None, Fault::Corrupt(2), 1);
    assert_eq!(s3.get(key).body, b"0133456789");
    proxy.fail("GET", None, Fault::CutAnswer(7), 1);
    let cut = s3.try_ask("GET", key, &[], &[], b"").unwrap();
    assert_eq!((cut.complete, &*cut.body), (false, &b"0123456"[..]));
    proxy.fail("GET", None, Fault::Delay(Duration::from_millis(200)), 1);
    let begin = Instant::now();
    assert_eq!(s3.get(key).body, b"0123456789");
    assert!(begin.elapsed() >= Duration::from_millis(200));
}

#[test]
fn an_upload_that_breaks_off_leaves_what_was_there() {
    for kind in [Kind::Swift, Kind::Rclone] {
        let Some(engine) = Engine::shared(kind) else { continue };
        let (proxy, s3) = before(engine);
        let key = "broken/nar/2.nar.zst";
        assert_eq!(s3.put(key, b"before").status, 200);
        proxy.fail("PUT", Object::Nar, Fault::CutRequest(4), 1);
        assert!(s3.try_ask("PUT", key, &[], &[], b"0123456789").is_err(), "{kind:?}");
        assert_eq!(s3.get(key).body, b"before", "{kind:?}");
    }
}

#[test]
fn lists_lack_what_was_written_since_they_are_stale() {
    for kind in [Kind::Swift, Kind::Rclone, Kind::Moto] {
        let Some(engine) = Engine::shared(kind) else { continue };
        let (proxy, s3) = before(engine);
        assert_eq!(s3.put("stale/a", b"").status, 200);
        proxy.freeze_lists();
        assert_eq!(s3.put("stale/b", b"").status, 200);
        assert_eq!(s3.put("stale/c", b"").status, 200);
        assert_eq!(s3.list("stale/", 9, &[]).keys, ["stale/a"], "{kind:?}");
        proxy.hide_from_lists(["stale/a".to_owned()]);
        assert_eq!(s3.list("stale/", 9, &[]).keys, Vec::<String>::new(), "{kind:?}");
        proxy.heal();
        assert_eq!(s3.list("stale/", 9, &[]).keys, ["stale/a", "stale/b", "stale/c"], "{kind:?}");
    }
}

#[test]
fn writes_after_so_many_are_held_and_never_arrive() {
    let Some(rclone) = Engine::shared(Kind::Rclone) else { return };
    let (proxy, s3) = before(rclone);
    proxy.hold_after_writes(1);
    assert_eq!(s3.put("held/a", b"").status, 200);
    std::thread::scope(|scope| {
        let held = scope.spawn(|| s3.try_ask("PUT", "held/b", &[], &[], b""));
        assert!(proxy.wait_until_held_or(|| false));
        assert_eq!(s3.get("held/a").status, 200);
        proxy.heal();
        assert!(held.join().unwrap().is_err());
    });
    assert_eq!(rclone.s3().get("held/b").status, 404);
}
