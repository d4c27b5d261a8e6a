//! S3 API of OpenStack Swift while all nodes run.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use crate::support::engine::{Engine, Kind};
use crate::support::http::Http;
use crate::support::s3::{self, error_code};

const HOUR: Duration = Duration::from_secs(3600);
/// Least size of a part that is not the last, in bytes.
const PART: usize = 5 << 20;

#[test]
fn swift_puts_an_object_with_if_none_match_only_where_there_is_none() {
    let Some(swift) = Engine::shared(Kind::Swift) else { return };
    let s3 = swift.s3();
    assert_eq!(s3.put_new("create/one", b"first").status, 200);
    let second = s3.put_new("create/one", b"second");
    assert_eq!((second.status, &*error_code(&second)), (412, "PreconditionFailed"));
    assert_eq!(s3.get("create/one").body, b"first");
    assert_eq!(s3.put("create/one", b"third").status, 200);
    assert_eq!(s3.get("create/one").body, b"third");
}

#[test]
fn more_than_one_writer_that_races_with_if_none_match_may_win_in_swift_but_the_object_is_one_of_theirs() {
    let Some(swift) = Engine::shared(Kind::Swift) else { return };
    let (s3, start) = (swift.s3(), &Barrier::new(8));
    let statuses: Vec<_> = thread::scope(|scope| {
        let put = |writer: u8| {
            let s3 = &s3;
            scope.spawn(move || {
                start.wait();
                (s3.put_new("create/raced", &[writer]).status, writer)
            })
        };
        (0..8).map(put).collect::<Vec<_>>().into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|(status, _)| [200, 409, 412].contains(status)), "{statuses:?}");
    let body = s3.get("create/raced").body;
    assert!(statuses.iter().any(|(status, writer)| *status == 200 && body == [*writer]), "{statuses:?}: {body:?}");
}

#[test]
fn swift_completes_a_multipart_upload_with_if_none_match_only_where_there_is_no_object() {
    let Some(swift) = Engine::shared(Kind::Swift) else { return };
    let s3 = swift.s3();
    let upload = |first: u8| {
        let upload = s3.begin("multipart");
        let parts = vec![
            s3.part("multipart", &upload, 1, &vec![first; PART]),
            s3.part("multipart", &upload, 2, b"the last part may be small"),
        ];
        s3.complete("multipart", &upload, &parts, &[("if-none-match", "*")])
    };
    let created = upload(1);
    assert_eq!((created.status, &*error_code(&created)), (200, ""));
    let refused = upload(2);
    assert_eq!((refused.status, &*error_code(&refused)), (412, "PreconditionFailed"));
    let object = s3.get("multipart");
    assert_eq!((object.body.len(), object.body[0]), (PART + 26, 1));
}

#[test]
fn swift_gives_ranges_of_an_object_to_whoever_has_a_presigned_url() {
    let Some(swift) = Engine::shared(Kind::Swift) else { return };
    let (s3, http) = (swift.s3(), Http::new(swift.address()));
    assert_eq!(s3.put("presigned/+?ä b", b"0123456789").status, 200);
    let url = s3.presign("GET", "presigned/+?ä b", HOUR);
    assert_eq!(http.get(&url).body, b"0123456789");
    let part = http.get_with(&url, &[("range", "bytes=3-5")]);
    assert_eq!((part.status, &*part.body, part.header("content-range")), (206, &b"345"[..], Some("bytes 3-5/10")));
    let end = http.get_with(&url, &[("range", "bytes=8-")]);
    assert_eq!((end.status, &*end.body), (206, &b"89"[..]));
    assert_eq!(http.get_with(&url, &[("range", "bytes=10-")]).status, 416);
    // For nothing else.
    assert_eq!(http.head(&url).status, 403);
    assert_eq!(http.get(&url.replace("presigned", "presigneD")).status, 403);
}

#[test]
fn swift_refuses_presigned_urls_that_have_expired_or_that_another_key_signed() {
    let Some(swift) = Engine::shared(Kind::Swift) else { return };
    let (s3, http) = (swift.s3(), Http::new(swift.address()));
    assert_eq!(s3.put("expired", b"").status, 200);
    let expired = s3.clone().behind_by(HOUR).presign("GET", "expired", Duration::from_secs(60));
    let wrong = s3.with_secret_key("wrong").presign("GET", "expired", HOUR);
    for (url, code) in [(expired, "AccessDenied"), (wrong, "SignatureDoesNotMatch")] {
        let refused = http.get(&url);
        assert_eq!((refused.status, &*error_code(&refused)), (403, code));
    }
}

#[test]
fn swift_refuses_requests_whose_clock_is_more_than_fifteen_minutes_off() {
    let Some(swift) = Engine::shared(Kind::Swift) else { return };
    let minutes = |minutes: u64| swift.s3().behind_by(Duration::from_secs(60 * minutes)).put("late", b"");
    assert_eq!(minutes(14).status, 200);
    let refused = minutes(16);
    assert_eq!((refused.status, &*error_code(&refused)), (403, "RequestTimeTooSkewed"));
}

#[test]
fn swift_lists_pages_that_begin_after_a_key() {
    let Some(swift) = Engine::shared(Kind::Swift) else { return };
    let s3 = swift.s3();
    for key in ["e", "a", "d", "b", "c"] {
        assert_eq!(s3.put(&format!("list/{key}"), b"").status, 200);
    }
    let first = s3.list("list/", 2, &[("start-after", "list/a")]);
    assert_eq!(first.keys, ["list/b", "list/c"]);
    let second = s3.list("list/", 2, &[("continuation-token", &first.next.unwrap())]);
    assert_eq!((second.keys, second.next), (vec!["list/d".to_owned(), "list/e".to_owned()], None));
    // The key need not be there.
    assert_eq!(s3.list("list/", 9, &[("start-after", "list/bb")]).keys, ["list/c", "list/d", "list/e"]);
}

#[test]
fn swift_has_no_if_match_on_put_and_says_so() {
    let Some(swift) = Engine::shared(Kind::Swift) else { return };
    let refused = swift.s3().ask("PUT", "matched", &[], &[("if-match", "\"0\"")], b"");
    assert_eq!((refused.status, &*error_code(&refused)), (501, "NotImplemented"));
}

#[test]
fn swift_refuses_other_keys_and_reads_without_one_only_at_the_public_url() {
    let Some(swift) = Engine::shared(Kind::Swift) else { return };
    let (s3, http) = (swift.s3(), Http::new(swift.address()));
    assert_eq!(s3.put("public", b"for everybody").status, 200);
    let refused = s3.clone().with_secret_key("wrong").get("public");
    assert_eq!((refused.status, &*error_code(&refused)), (403, "SignatureDoesNotMatch"));
    assert_ne!(http.get("/cache/public").status, 200);
    let path = swift.public_url().strip_prefix(swift.endpoint()).unwrap();
    assert_eq!(http.get(&format!("{path}/public")).body, b"for everybody");
    assert_eq!(s3::elements(s3.ask("GET", "", &[], &[], b"").text(), "Name"), ["cache"]);
}
