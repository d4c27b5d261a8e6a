//! S3 API of rclone, which lacks some of what others have.

use std::fs;
use std::time::Duration;

use crate::support::engine::{Engine, Kind};
use crate::support::http::Http;
use crate::support::s3::error_code;

#[test]
fn rclone_keeps_objects_as_files_and_refuses_other_keys() {
    let Some(rclone) = Engine::shared(Kind::Rclone) else { return };
    let s3 = rclone.s3();
    assert_eq!(s3.put("nar/file", b"content").status, 200);
    assert_eq!(fs::read(rclone.data().join("nar/file")).unwrap(), b"content");
    assert_eq!(s3.get("nar/file").body, b"content");
    let refused = s3.with_secret_key("wrong").get("nar/file");
    assert_eq!((refused.status, &*error_code(&refused)), (403, "SignatureDoesNotMatch"));
    let public = Http::new(rclone.public_url()["http://".len()..].split('/').next().unwrap().parse().unwrap());
    assert_eq!(public.get("/cache/nar/file").body, b"content");
}

#[test]
fn rclone_ignores_if_none_match() {
    let Some(rclone) = Engine::shared(Kind::Rclone) else { return };
    let s3 = rclone.s3();
    assert_eq!(s3.put_new("created", b"first").status, 200);
    assert_eq!(s3.put_new("created", b"second").status, 200);
    assert_eq!(s3.get("created").body, b"second");
}

#[test]
fn rclone_answers_presigned_urls_but_says_200_to_a_range() {
    let Some(rclone) = Engine::shared(Kind::Rclone) else { return };
    let (s3, http) = (rclone.s3(), Http::new(rclone.address()));
    assert_eq!(s3.put("presigned", b"0123456789").status, 200);
    let url = s3.presign("GET", "presigned", Duration::from_secs(3600));
    assert_eq!(http.get(&url).body, b"0123456789");
    let part = http.get_with(&url, &[("range", "bytes=3-5")]);
    assert_eq!((part.status, &*part.body, part.header("content-range")), (200, &b"345"[..], Some("bytes 3-5/10")));
}

#[test]
fn rclone_lists_pages_that_begin_after_a_key() {
    let Some(rclone) = Engine::shared(Kind::Rclone) else { return };
    let s3 = rclone.s3();
    for key in ["c", "a", "b"] {
        assert_eq!(s3.put(&format!("list/{key}"), b"").status, 200);
    }
    let first = s3.list("list/", 1, &[("start-after", "list/a")]);
    assert_eq!(first.keys, ["list/b"]);
    let second = s3.list("list/", 9, &[("continuation-token", &first.next.unwrap())]);
    assert_eq!(second.keys, ["list/c"]);
}
