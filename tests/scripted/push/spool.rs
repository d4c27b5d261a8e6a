//! Files in the spool.

use super::{Cache, head, nar_target};
use crate::support::footprint::{descriptors, leaves_nothing};

/// Uploads that are received at once.
const AT_ONCE: usize = 4;
/// Calls to the disk at once, each of which may open or remove the file of an upload that has broken off.
const DISK_CALLS: usize = 16;

#[test]
fn a_file_that_was_uploaded_is_there_for_its_narinfo_and_for_nobody_to_read() {
    let cache = Cache::start("");
    let (http, content) = (cache.harmonia.http(), vec![7; 5 << 20]);
    let target = nar_target(&content);
    assert_eq!(http.head(&target).status, 404);
    assert_eq!(cache.put(&target, &content).status, 200);
    assert_eq!(http.head(&target).status, 200);
    assert_eq!(http.get(&target).status, 404);
    assert_eq!(cache.spooled().len(), 1);
    // Without an announced length as well, and twice.
    let chunks = format!("{:x}\r\n", content.len()).into_bytes();
    let body = [&chunks[..], &content, b"\r\n0\r\n\r\n"].concat();
    assert_eq!(cache.put_with(&target, "Transfer-Encoding: chunked\r\n", &body).status, 200);
    assert_eq!(cache.spooled().len(), 1);
}

#[test]
fn the_client_is_asked_for_the_body_only_if_it_is_wanted() {
    let cache = Cache::start("push.max_nar_size = \"1 MiB\"");
    let content = b"a nar";
    let mut connection = cache.connect();
    let fields = format!("Expect: 100-continue\r\nContent-Length: {}\r\n", content.len());
    connection.send(head(&nar_target(content), &fields).as_bytes()).unwrap();
    assert_eq!(connection.head().unwrap().status, 100);
    connection.send(content).unwrap();
    assert_eq!(connection.receive(false).unwrap().status, 200);
    // The connection is in step.
    for (target, length, status) in
        [(nar_target(content), 2 << 20, 413), ("/nar/x.nar".to_owned(), 5, 404), ("/log/x".to_owned(), 5, 404)]
    {
        let mut connection = cache.connect();
        let fields = format!("Expect: 100-continue\r\nContent-Length: {length}\r\n");
        connection.send(head(&target, &fields).as_bytes()).unwrap();
        let refused = connection.receive(false).unwrap();
        assert_eq!((refused.status, refused.header("connection")), (status, Some("close")), "{target}");
        assert_eq!(connection.read(1).unwrap(), b"");
    }
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    // What the allocator keeps grows with the number of uploads at once, which is chance without a limit.
    let cache = Cache::start(&format!("push.max_uploads = {AT_ONCE}"));
    let target = nar_target(b"");
    leaves_nothing(cache.harmonia.pid(), || {
        for _ in 0..50 {
            let mut connection = cache.connect();
            connection.send(head(&target, "Content-Length: 5000000\r\n").as_bytes()).unwrap();
            connection.send(&vec![1; 1_500_000]).unwrap();
        }
        cache.await_empty_spool();
    });
    assert_eq!(cache.harmonia.http().head(&target).status, 404);
}

#[test]
fn ten_thousand_half_done_uploads_take_no_more_than_a_few() {
    let cache = Cache::start(&format!("push.max_uploads = {AT_ONCE}"));
    let request = [head(&nar_target(b""), "Content-Length: 5000000\r\n").as_bytes(), &[1; 100]].concat();
    leaves_nothing(cache.harmonia.pid(), || {
        for _ in 0..25 {
            let _half_done: Vec<_> = (0..100)
                .map(|_| {
                    let mut connection = cache.connect();
                    connection.send(&request).unwrap();
                    connection
                })
                .collect();
            assert!(cache.spooled().len() <= AT_ONCE + DISK_CALLS);
            let mut open = descriptors(cache.harmonia.pid());
            open.retain(|descriptor| descriptor.starts_with(cache.state.join("spool")));
            assert!(open.len() <= AT_ONCE + DISK_CALLS, "{open:?}");
        }
        cache.await_empty_spool();
    });
    // Others are served.
    assert_eq!(cache.put(&nar_target(b"a nar"), b"a nar").status, 200);
}

#[test]
fn a_killed_server_begins_with_an_empty_spool() {
    let mut cache = Cache::start("");
    assert_eq!(cache.put(&nar_target(b"a nar"), b"a nar").status, 200);
    let mut half = cache.connect();
    half.send(head(&nar_target(b""), "Content-Length: 5000000\r\n").as_bytes()).unwrap();
    half.send(&vec![1; 2_000_000]).unwrap();
    while cache.spooled().len() < 2 {
        std::thread::yield_now();
    }
    cache.restart();
    assert_eq!(cache.spooled(), [""; 0]);
    assert_eq!(cache.harmonia.http().head(&nar_target(b"a nar")).status, 404);
    assert_eq!(cache.put(&nar_target(b"a nar"), b"a nar").status, 200);
}
