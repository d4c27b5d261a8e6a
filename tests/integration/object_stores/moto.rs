//! S3 API of moto, in memory.

use std::time::Duration;

use crate::support::engine::{Engine, Kind};
use crate::support::http::Http;
use crate::support::s3::error_code;

#[test]
fn moto_takes_any_signature() {
    let Some(moto) = Engine::shared(Kind::Moto) else { return };
    let s3 = moto.s3().with_secret_key("wrong");
    assert_eq!(s3.put("object", b"content").status, 200);
    assert_eq!(s3.get("object").body, b"content");
    assert_eq!(Http::new(moto.address()).get("/cache/object").body, b"content");
}

#[test]
fn moto_has_if_none_match_if_match_pages_and_ranges() {
    let Some(moto) = Engine::shared(Kind::Moto) else { return };
    let (s3, http) = (moto.s3(), Http::new(moto.address()));
    assert_eq!(s3.put_new("new", b"0123456789").status, 200);
    let refused = s3.put_new("new", b"");
    assert_eq!((refused.status, &*error_code(&refused)), (412, "PreconditionFailed"));
    let upload = s3.begin("new");
    let part = s3.part("new", &upload, 1, b"one part");
    let refused = s3.complete("new", &upload, &[part], &[("if-none-match", "*")]);
    assert_eq!((refused.status, &*error_code(&refused)), (412, "PreconditionFailed"));
    let url = s3.presign("GET", "new", Duration::from_secs(3600));
    let range = http.get_with(&url, &[("range", "bytes=3-5")]);
    assert_eq!((range.status, &*range.body), (206, &b"345"[..]));
    for key in ["c", "a", "b"] {
        assert_eq!(s3.put(&format!("list/{key}"), b"").status, 200);
    }
    let page = s3.list("list/", 1, &[("start-after", "list/a")]);
    assert_eq!(page.keys, ["list/b"]);
    assert_eq!(s3.list("list/", 9, &[("continuation-token", &page.next.unwrap())]).keys, ["list/c"]);
}
