//! Keys by URL, from servers that do as they like.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::issuer::{AUDIENCE, ISSUER, NOW, Signer, claims, key_set};
use crate::access::jwt::fetch::{FetchError, fetch_trusting};
use crate::access::jwt::token_error::TokenError;
use crate::access::jwt::url::JwksUrl;
use crate::access::jwt::verifier::JwtVerifier;
use crate::config::{JwksSource, JwtConfig};
use crate::metrics::TokenKeyMetrics;
use crate::sync::Mutex;

/// Reads the head of a request.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Serves one connection with these bytes, and leaves it open if the client does.
async fn fetch_from(response: impl Into<Vec<u8>>) -> Result<Vec<u8>, FetchError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = JwksUrl::parse(&format!("http://{}/jwks", listener.local_addr().unwrap())).unwrap();
    let response = response.into();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = head(&mut stream).await;
        assert!(head.starts_with("GET /jwks HTTP/1.1\r\n"), "{head}");
        // A client that has enough closes the connection.
        let _ = stream.write_all(&response).await;
        let _ = stream.read(&mut [0]).await;
    });
    let fetched = fetch_trusting(&url, None).await;
    server.await.unwrap();
    fetched
}

#[tokio::test]
async fn a_document_is_fetched_whole_by_length_and_in_chunks() {
    let fetched = fetch_from("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(fetched.unwrap(), b"abc");
    let fetched =
        fetch_from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n").await;
    assert_eq!(fetched.unwrap(), b"abc");
}

#[tokio::test]
async fn other_statuses_and_redirects_are_errors() {
    let fetched = fetch_from("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(fetched.unwrap_err().to_string(), "status 404 Not Found");
    let long = "a".repeat(10_000);
    for (target, shown) in
        [("https://evil.example.org/", "https://evil.example.org/"), ("/there", "/there"), (&*long, &long[..200])]
    {
        let fetched =
            fetch_from(format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n")).await;
        let error = fetched.unwrap_err().to_string();
        assert!(error.starts_with(&format!("a redirect to {shown}, which")), "{error}");
    }
}

#[tokio::test]
async fn a_gigabyte_is_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = JwksUrl::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n").await.unwrap();
        let chunk = vec![b' '; 1 << 20];
        let mut sent = 0_u64;
        while stream.write_all(&chunk).await.is_ok() {
            sent += 1 << 20;
        }
        sent
    });
    assert!(matches!(fetch_trusting(&url, None).await, Err(FetchError::TooLong)));
    // What fits into the buffers of the sockets beside what was read.
    assert!(server.await.unwrap() < 64 << 20);
}

#[tokio::test]
async fn a_response_that_is_cut_off_or_no_http_is_an_error() {
    for response in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
        "SSH-2.0-OpenSSH\r\n",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = JwksUrl::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            stream.write_all(response.as_bytes()).await.unwrap();
        };
        let (fetched, ()) = tokio::join!(fetch_trusting(&url, None), server);
        assert!(matches!(fetched, Err(FetchError::Http(_))), "{fetched:?}");
    }
    let head = format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(100_000));
    assert!(matches!(fetch_from(head).await, Err(FetchError::Http(_))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = JwksUrl::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    assert!(matches!(fetch_trusting(&url, None).await, Err(FetchError::Connect(_))));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // The kernel accepts, and nobody answers.
    for url in [format!("http://{address}/"), format!("https://{address}/")] {
        let url = JwksUrl::parse(&url).unwrap();
        let roots = url.is_tls().then(RootCertStore::empty);
        assert!(matches!(fetch_trusting(&url, roots).await, Err(FetchError::Timeout)));
    }
}

#[tokio::test]
async fn over_https_the_certificate_is_verified() {
    let [good, other] = [(); 2].map(|()| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap());
    let key = PrivateKeyDer::try_from(good.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![good.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    for (trusted, host, is_right) in
        [(&good, "localhost", true), (&other, "localhost", false), (&good, "127.0.0.1", false)]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = JwksUrl::parse(&format!("https://{host}:{port}/")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(trusted.cert.der().clone()).unwrap();
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1").await.unwrap();
            let _ = stream.shutdown().await;
        };
        let (fetched, ()) = tokio::join!(fetch_trusting(&url, Some(roots)), server);
        match fetched {
            Ok(document) => assert!(is_right && document == b"1"),
            Err(FetchError::Tls(_)) => assert!(!is_right),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Server of a key set that can change, which counts its requests.
struct Server {
    url: String,
    document: Arc<Mutex<Option<String>>>,
    requests: tokio::sync::mpsc::UnboundedReceiver<()>,
}

impl Server {
    /// Starts a server. Without a document it closes connections without a response.
    async fn start(document: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let document = Arc::new(Mutex::new(document));
        let served = Arc::clone(&document);
        let (counts, requests) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let document = served.lock().clone();
                answer(stream, document).await;
                if counts.send(()).is_err() {
                    return;
                }
            }
        });
        Self { url, document, requests }
    }

    fn config(&self) -> JwtConfig {
        JwtConfig {
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            keys: JwksSource::Url(self.url.clone()),
            name: "repository".to_owned(),
        }
    }
}

async fn answer(mut stream: TcpStream, document: Option<String>) {
    head(&mut stream).await;
    if let Some(document) = document {
        let length = document.len();
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{document}");
        stream.write_all(response.as_bytes()).await.unwrap();
    }
}

/// Verifies a token until its key is known.
async fn verified(verifier: &JwtVerifier, token: &str) {
    while let Err(error) = verifier.verify_at(token, NOW) {
        assert!(matches!(error, TokenError::KeysPending { .. }), "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn tokens_wait_for_the_first_keys_and_an_unknown_key_is_refused_once_they_are_there() {
    let (signer, other) = (Signer::p256(), Signer::p256());
    let server = Server::start(Some(key_set(&[signer.jwk(Some("1"))]))).await;
    let verifier = JwtVerifier::load(&[server.config()], None, None).unwrap();
    let token = signer.token(Some("1"), &claims());
    assert_eq!(verifier.verify_at(&token, NOW), Err(TokenError::KeysPending { retry_after: 2 }));
    // Of what waiting does not help, it is said at once.
    assert_eq!(verifier.verify_at(&token, NOW + 300), Err(TokenError::Expired));
    verifier.start(&TokenKeyMetrics::default());
    verified(&verifier, &token).await;
    assert_eq!(verifier.verify_at(&other.token(Some("2"), &claims()), NOW), Err(TokenError::UnknownKey));
    assert_eq!(verifier.verify_at(&other.token(Some("1"), &claims()), NOW), Err(TokenError::Signature));
}

#[tokio::test(start_paused = true)]
async fn a_rotated_key_is_fetched_when_a_token_names_it_and_the_old_one_ends() {
    let (old, new) = (Signer::p256(), Signer::rsa());
    let mut server = Server::start(Some(key_set(&[old.jwk(Some("1"))]))).await;
    let verifier = JwtVerifier::load(&[server.config()], None, None).unwrap();
    verifier.start(&TokenKeyMetrics::default());
    let (old_token, new_token) = (old.token(Some("1"), &claims()), new.token(Some("2"), &claims()));
    server.requests.recv().await.unwrap();
    verified(&verifier, &old_token).await;
    *server.document.lock() = Some(key_set(&[new.jwk(Some("2"))]));
    tokio::time::sleep(Duration::from_secs(61)).await;
    // It is still remembered, without any fetch.
    assert!(verifier.verify_at(&old_token, NOW).is_ok() && server.requests.try_recv().is_err());
    verified(&verifier, &new_token).await;
    assert_eq!(verifier.verify_at(&old_token, NOW), Err(TokenError::UnknownKey));
}

#[tokio::test(start_paused = true)]
async fn unknown_keys_cause_one_fetch_a_minute_at_most() {
    let (signer, other) = (Signer::p256(), Signer::p256());
    let mut server = Server::start(Some(key_set(&[signer.jwk(Some("1"))]))).await;
    let verifier = JwtVerifier::load(&[server.config()], None, None).unwrap();
    verifier.start(&TokenKeyMetrics::default());
    let start = tokio::time::Instant::now();
    for _ in 0..600 {
        for kid in ["2", "3"] {
            assert!(verifier.verify_at(&other.token(Some(kid), &claims()), NOW).is_err());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let minutes = start.elapsed().as_secs() / 60;
    let mut fetched = 0;
    while server.requests.try_recv().is_ok() {
        fetched += 1;
    }
    assert!((2..=minutes + 1).contains(&fetched), "{fetched} fetches in {minutes} minutes");
}

#[tokio::test(start_paused = true)]
async fn keys_stay_while_their_server_fails_and_after_a_restart() {
    let signer = Signer::ed25519();
    let state = tempfile::tempdir().unwrap();
    let token = signer.token(None, &claims());
    let mut server = Server::start(Some(key_set(&[signer.jwk(None)]))).await;
    let verifier = JwtVerifier::load(&[server.config()], Some(state.path()), None).unwrap();
    verifier.start(&TokenKeyMetrics::default());
    verified(&verifier, &token).await;
    server.requests.recv().await.unwrap();
    for bad in [None, Some("<html>".to_owned()), Some(key_set(&[json!({"kty": "oct"})]))] {
        *server.document.lock() = bad;
        server.requests.recv().await.unwrap();
        assert!(verifier.verify_at(&token, NOW).is_ok());
    }
    // Another process, whose server is still down.
    *server.document.lock() = None;
    let is_kept = || {
        let mut files = std::fs::read_dir(state.path().join("jwks")).into_iter().flatten();
        files.any(|file| file.unwrap().path().extension().is_some_and(|it| it == "json"))
    };
    while !is_kept() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let restarted = JwtVerifier::load(&[server.config()], Some(state.path()), None).unwrap();
    assert!(restarted.verify_at(&token, NOW).is_ok());
    let elsewhere = JwtConfig { keys: JwksSource::Url(format!("{}2", server.url)), ..server.config() };
    let elsewhere = JwtVerifier::load(&[elsewhere], Some(state.path()), None).unwrap();
    assert!(matches!(elsewhere.verify_at(&token, NOW), Err(TokenError::KeysPending { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_reload_takes_over_the_keys_and_their_task_ends_with_the_last_verifier() {
    let signer = Signer::ed25519();
    let token = signer.token(None, &claims());
    let mut server = Server::start(Some(key_set(&[signer.jwk(None)]))).await;
    let first = JwtVerifier::load(&[server.config(), server.config()], None, None).unwrap();
    first.start(&TokenKeyMetrics::default());
    verified(&first, &token).await;
    server.requests.recv().await.unwrap();
    let second = JwtVerifier::load(&[server.config()], None, Some(&first)).unwrap();
    drop(first);
    second.start(&TokenKeyMetrics::default());
    assert!(second.verify_at(&token, NOW).is_ok());
    // One task for both entries and both verifiers, which fetches once an hour.
    server.requests.recv().await.unwrap();
    assert!(server.requests.try_recv().is_err());
    drop(second);
    tokio::time::sleep(Duration::from_secs(3 * 60 * 60)).await;
    assert!(server.requests.try_recv().is_err());
}
