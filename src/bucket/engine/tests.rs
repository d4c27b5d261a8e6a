//! Requests to a server with the S3 API whose answers a test writes, and to a directory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use harmonia_protocol::HashPart;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::failure::FailureKind;
use super::patience::Patience;
use super::store::{BucketStore, Put, Replace};
use crate::bucket::object_name::ObjectName;
use crate::config::tests::loaded;
use crate::metrics::Metrics;

const SLOW_DOWN: &str =
    "HTTP/1.1 503 Slow Down\r\nContent-Length: 53\r\n\r\n<Error><Code>SlowDown</Code><Message>m</Message></Error>";

/// A server that gives these answers, one after the other, and notes the requests.
struct Server {
    store: BucketStore,
    requests: Arc<crate::sync::Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let text = format!(
            "[bucket]\nurl = \"s3://cache/nix\"\nendpoint = \"http://{address}\"\nallow_http = true\nhost = \"a\"\n"
        );
        let metrics = Arc::<Metrics>::default();
        let store = BucketStore::open(&loaded(&text).0.bucket.unwrap(), metrics).await.unwrap();
        let (requests, connections) = (Arc::default(), Arc::<AtomicUsize>::default());
        let (noted, counted) = (Arc::clone(&requests), Arc::clone(&connections));
        let answers: Vec<String> = answers.iter().map(|&answer| answer.to_owned()).collect();
        tokio::spawn(async move {
            let mut answers = answers.into_iter();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                answer(stream, &mut answers, &noted).await;
            }
        });
        Self { store, requests, connections }
    }

    fn requests(&self, kind: &'static str, result: &'static str) -> u64 {
        self.store.metrics().bucket.requests(kind, result)
    }
}

/// Answers the requests of a connection, one after the other, until an answer without a length ends it.
async fn answer(
    stream: TcpStream,
    answers: &mut impl Iterator<Item = String>,
    noted: &crate::sync::Mutex<Vec<String>>,
) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let before = head.len();
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
            let line = head[before..].trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        noted.lock().push(head);
        let Some(answer) = answers.next() else { return };
        stream.write_all(answer.as_bytes()).await.unwrap();
        if answer.contains("close") {
            return;
        }
    }
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"e\"\r\nLast-Modified: Fri, 27 Nov 2026 09:00:00 GMT\r\n\r\n{body}",
        body.len()
    )
}

const ABSENT: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

fn name() -> ObjectName {
    ObjectName::NarInfo(HashPart::ZERO)
}

#[tokio::test]
async fn a_server_that_asks_for_fewer_requests_gets_a_pause_and_then_the_object() {
    let server = Server::start(&[SLOW_DOWN, &ok("")]).await;
    let put = server.store.put(&name(), Bytes::from_static(b"text"), Replace::IfAbsent).await.unwrap();
    assert_eq!(put, Put::Written);
    assert_eq!((server.requests("put", "slow_down"), server.requests("put", "ok")), (1, 1));
    let requests = server.requests.lock();
    assert!(requests.iter().all(|head| head.starts_with(&format!("PUT /cache/nix/{} HTTP/1.1\r\n", name()))));
    assert!(requests.iter().all(|head| head.to_ascii_lowercase().contains("\r\nif-none-match: *\r\n")), "{requests:?}");
    assert!(requests[0].to_ascii_lowercase().contains("\r\nhost: 127.0.0.1:"));
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = Server::start(&[ABSENT, &ok("text"), ABSENT, &ok("")]).await;
    assert_eq!(server.store.get(&name(), 100, Patience::Client).await.unwrap(), None);
    let text = server.store.get(&name(), 100, Patience::Client).await.unwrap();
    assert_eq!(text.as_deref(), Some(&b"text"[..]));
    assert!(server.store.head(&name(), Patience::Client).await.unwrap().is_none());
    server.store.delete(&name()).await.unwrap();
    assert_eq!((server.connections.load(Ordering::Relaxed), server.requests.lock().len()), (1, 4));
}

#[tokio::test]
async fn a_connection_that_the_server_has_closed_is_replaced() {
    let closing = ok("text").replace("ETag", "Connection: close\r\nETag");
    let server = Server::start(&[&closing, &ok("more")]).await;
    for text in ["text", "more"] {
        let found = server.store.get(&name(), 100, Patience::Client).await.unwrap().unwrap();
        assert_eq!(found, text);
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_error_says_what_to_do_and_is_not_tried_again() {
    let body = "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>";
    let denied = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let server = Server::start(&[&denied]).await;
    let error = server.store.put(&name(), Bytes::from_static(b"text"), Replace::Always).await.unwrap_err();
    let expected = format!(
        "cannot put {}: 403 RequestTimeTooSkewed: The difference is too large.\n  help: set the clock of this machine",
        name()
    );
    assert_eq!((error.kind, error.to_string()), (FailureKind::Denied, expected));
    assert_eq!(server.requests("put", "denied"), 1);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_object() {
    let short =
        ok("text").replace("Content-Length: 4", "Content-Length: 400").replace("ETag", "Connection: close\r\nETag");
    let server = Server::start(&[&short, &short, &short]).await;
    let error = server.store.get(&name(), 1000, Patience::Client).await.unwrap_err();
    assert_eq!(error.kind, FailureKind::Unavailable, "{error}");
    let mut body = server.store.read(&name(), None, Patience::Client).await.unwrap().unwrap();
    assert_eq!(body.size(), 400);
    let end = loop {
        match body.next().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(end.is_err());
}

#[tokio::test]
async fn a_server_that_knows_no_ranges_sends_all() {
    let server = Server::start(&[&ok("text"), &ok("text")]).await;
    let mut body = server.store.read(&name(), Some(1..3), Patience::Client).await.unwrap().unwrap();
    assert_eq!(body.range(), &(0..4));
    assert_eq!(body.next().await.unwrap().unwrap(), "text");
}

#[tokio::test]
async fn an_object_that_is_too_large_is_not_read() {
    let server = Server::start(&[&ok("0123456789")]).await;
    let error = server.store.get(&name(), 9, Patience::Client).await.unwrap_err();
    assert!(error.to_string().ends_with("more than 9 bytes"), "{error}");
}

#[tokio::test]
async fn a_server_that_lists_the_same_names_again_is_not_asked_for_ever() {
    let object = |number: usize| {
        format!(
            "<Contents><Key>nix/{number:032}.narinfo</Key><Size>1</Size><LastModified>2026-11-27T09:00:00.000Z</LastModified></Contents>"
        )
    };
    let all: String = (0..10_000).map(object).collect();
    let page = ok(&format!("<ListBucketResult><IsTruncated>false</IsTruncated>{all}</ListBucketResult>"));
    let server = Server::start(&[&*page; 4]).await;
    let mut visited = 0;
    let error = server.store.walk("", |_, _| visited += 1).await.unwrap_err();
    assert!(error.to_string().contains("again") && visited == 10_000, "{visited}: {error}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_within_two_attempts() {
    let server = Server::start(&[]).await;
    let error = server.store.head(&name(), Patience::Client).await.unwrap_err();
    assert_eq!((error.kind, server.requests("head", "unavailable")), (FailureKind::Unavailable, 2));
}

#[tokio::test]
async fn a_directory_is_a_bucket() {
    let directory = tempfile::tempdir().unwrap();
    let text = format!("[bucket]\nurl = \"file://{}/cache\"\nhost = \"a\"\n", directory.path().display());
    let store = BucketStore::open(&loaded(&text).0.bucket.unwrap(), Arc::default()).await.unwrap();
    let names = ["nix-cache-info", "harmonia/v1/hosts/b.json", "harmonia/v1/hosts/a.json"];
    let names = names.map(|name| ObjectName::parse(name).unwrap());
    for name in &names {
        let put = |replace| store.put(name, Bytes::from_static(b"text"), replace);
        assert_eq!(put(Replace::IfAbsent).await.unwrap(), Put::Written);
        assert_eq!(put(Replace::IfAbsent).await.unwrap(), Put::Existed);
        assert_eq!(put(Replace::Always).await.unwrap(), Put::Written);
    }
    std::fs::write(directory.path().join("cache/index.html"), "of somebody else").unwrap();
    let listed = |list: Vec<(ObjectName, _)>| list.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let all = listed(store.list("", None, 10).await.unwrap());
    assert_eq!(all, [names[2].clone(), names[1].clone(), names[0].clone()]);
    let hosts = store.list("harmonia/v1/hosts/", Some(&names[2]), 10).await.unwrap();
    assert_eq!(listed(hosts), [names[1].clone()]);
    let mut part = store.read(&names[0], Some(1..3), Patience::Client).await.unwrap().unwrap();
    assert_eq!((part.next().await.unwrap().unwrap(), part.size()), (Bytes::from_static(b"ex"), 4));
    store.delete(&names[0]).await.unwrap();
    store.delete(&names[0]).await.unwrap();
    assert!(store.head(&names[0], Patience::Client).await.unwrap().is_none());
    assert_eq!(store.sign_get(&names[1], std::time::Duration::from_secs(60)).await.unwrap(), None);
}

#[tokio::test]
async fn uploads_that_began_long_ago_are_aborted() {
    let list = "<R><IsTruncated>false</IsTruncated>\
        <Upload><Key>nix/nar/HASH.nar.zst</Key><UploadId>old</UploadId><Initiated>2026-11-01T10:00:00Z</Initiated></Upload>\
        <Upload><Key>nix/nar/HASH.nar.zst</Key><UploadId>new</UploadId><Initiated>2026-11-26T10:00:00Z</Initiated></Upload>\
        <Upload><Key>nix/other</Key><UploadId>other</UploadId><Initiated>2026-11-01T10:00:00Z</Initiated></Upload></R>";
    let list = list.replace("HASH", &"0".repeat(52));
    let deleted = "HTTP/1.1 204 No Content\r\n\r\n";
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = address.local_addr().unwrap();
    let requests = Arc::<crate::sync::Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&requests);
    let mut answers = vec![ok(&list), deleted.to_owned()].into_iter();
    tokio::spawn(async move {
        while let Ok((stream, _)) = address.accept().await {
            answer(stream, &mut answers, &noted).await;
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let credentials = directory.path().join("key");
    std::fs::write(&credentials, "[default]\naws_access_key_id = a\naws_secret_access_key = b\n").unwrap();
    let text = format!(
        "[bucket]\nurl = \"s3://cache/nix\"\nendpoint = \"http://{endpoint}\"\nallow_http = true\nhost = \"a\"\ncredentials_file = \"{}\"\n",
        credentials.display()
    );
    let store = BucketStore::open(&loaded(&text).0.bucket.unwrap(), Arc::default()).await.unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_795_737_600);
    let age = std::time::Duration::from_secs(7 * 86_400);
    assert_eq!(store.abort_old_uploads(now, age).await.unwrap(), 1);
    let requests = requests.lock();
    let begins = |number: usize, text: &str| requests[number].starts_with(text);
    assert!(begins(0, "GET /cache?uploads=&prefix=nix%2Fnar%2F HTTP/1.1\r\n"), "{requests:?}");
    assert!(requests[0].to_ascii_lowercase().contains("\r\nauthorization: aws4-hmac-sha256 credential=a/"));
    assert!(
        begins(1, &format!("DELETE /cache/nix/nar/{}.nar.zst?uploadId=old HTTP/1.1\r\n", "0".repeat(52))),
        "{requests:?}"
    );
}
