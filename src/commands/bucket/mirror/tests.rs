use std::collections::HashMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use harmonia_protocol::StoreDir;

use super::*;
use crate::cli::MirrorSource;
use crate::commands::bucket::test_bucket::{TestBucket, path};

/// Mirrors the last of so many paths of a bucket.
async fn copy(from: &MirrorSource, keys: &TestBucket, to: &TestBucket, last: u8) -> Copied {
    let source = Arc::new(Source::open(from, None).await.unwrap());
    let target =
        Target { store: to.open().await, directory: StoreDir::default(), priority: 30, host: HostName::mirror() };
    let keys = vec![keys.key.public_key().clone()];
    mirror(source, &target, vec![path(last)], keys).await.unwrap()
}

fn directory(bucket: &TestBucket) -> MirrorSource {
    format!("file://{}", bucket.path("").display()).trim_end_matches('/').parse().unwrap()
}

fn has(bucket: &TestBucket, source: &TestBucket) -> Vec<bool> {
    source.names.iter().map(|name| bucket.path(name).exists()).collect()
}

#[tokio::test]
async fn a_closure_is_copied_once_and_byte_for_byte() {
    let (source, target) = (TestBucket::new(5), TestBucket::new(0));
    let listing = "{\"version\":1}";
    let listings = [0, 1].map(|number| source.names[number].replace(".narinfo", ".ls"));
    std::fs::write(source.path(&listings[0]), listing).unwrap();
    std::fs::write(source.path(&listings[1]), zstd::encode_all(listing.as_bytes(), 3).unwrap()).unwrap();
    let copied = copy(&directory(&source), &source, &target, 3).await;
    let size = |name: &String| source.path(name).metadata().unwrap().len();
    let bytes = source.files[..4].iter().map(size).sum();
    assert_eq!(copied, Copied { paths: 4, bytes, faults: Vec::new() });
    for name in source.names[..4].iter().chain(&source.files[..4]) {
        assert!(std::fs::read(target.path(name)).unwrap() == std::fs::read(source.path(name)).unwrap(), "{name}");
    }
    assert_eq!(has(&target, &source), [true, true, true, true, false]);
    assert!(listings.iter().all(|name| std::fs::read_to_string(target.path(name)).unwrap() == listing));
    assert_eq!(copy(&directory(&source), &source, &target, 3).await, Copied::default());
    assert_eq!(copy(&directory(&source), &source, &target, 4).await.paths, 1);
}

#[tokio::test]
async fn nothing_above_a_gap_is_copied() {
    type Break = fn(&TestBucket);
    let cases: [(Break, &str, usize); 5] = [
        (|it| std::fs::remove_file(it.path(&it.names[1])).unwrap(), "does not have it", 1),
        (|it| it.edit(1, "NarSize: ", "NarSize: 1"), "no trusted key has signed it", 1),
        (|it| it.edit(1, "StorePath: ", "StorePath: x"), "its narinfo cannot be used", 1),
        (|it| it.damage(1), "its NAR or a reference could not be copied", 1),
        (|it| std::fs::remove_file(it.path(&it.files[1])).unwrap(), "its NAR or a reference could not be copied", 1),
    ];
    for (number, (break_it, words, there)) in cases.into_iter().enumerate() {
        let (source, target) = (TestBucket::new(4), TestBucket::new(0));
        break_it(&source);
        let copied = copy(&directory(&source), &source, &target, 3).await;
        assert!(copied.faults.iter().any(|it| it.starts_with(path(1).base_name()) && it.contains(words)), "{copied:?}");
        let expected: Vec<_> = (0..4).map(|path| path < there).collect();
        let found = has(&target, &source);
        // Paths below a fault of the listing are not known to be needed.
        assert!(found.iter().zip(&expected).all(|(found, expected)| !found || *expected), "{number}: {found:?}");
    }
}

/// Serves files, and redirects whatever has a query.
async fn serve(files: HashMap<String, Vec<u8>>) -> MirrorSource {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split(' ').nth(1).unwrap();
            let (status, location, body) = match (target.split_once('?'), files.get(target)) {
                (Some((path, _)), _) => ("307 Temporary Redirect", format!("Location: {path}\r\n"), &Vec::new()),
                (None, Some(body)) => ("200 OK", String::new(), body),
                (None, None) => ("404 Not Found", String::new(), &Vec::new()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\n{location}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        }
    });
    format!("http://{address}/").parse().unwrap()
}

#[tokio::test]
async fn a_cache_that_names_files_otherwise_is_copied_to_the_names_of_a_bucket() {
    let (source, target) = (TestBucket::new(2), TestBucket::new(0));
    let mut files = HashMap::from([("/nix-cache-info".to_owned(), b"StoreDir: /nix/store\n".to_vec())]);
    for (number, (name, file)) in source.names.iter().zip(&source.files).enumerate() {
        let bytes = std::fs::read(source.path(file)).unwrap();
        files.insert(format!("/nar/of-{number}.nar.zst"), bytes);
        let text = std::fs::read_to_string(source.path(name)).unwrap();
        let text = text.replace(file, &format!("nar/of-{number}.nar.zst?hash=1"));
        let says_hash = number > 0;
        let lines = text.split_inclusive('\n').filter(|line| says_hash || !line.starts_with("File"));
        files.insert(format!("/{name}"), lines.collect::<String>().into_bytes());
    }
    let url = serve(files).await;
    let copied = copy(&url, &source, &target, 1).await;
    assert_eq!((copied.paths, copied.faults), (2, Vec::new()));
    for name in source.names.iter().chain(&source.files) {
        assert!(std::fs::read(target.path(name)).unwrap() == std::fs::read(source.path(name)).unwrap(), "{name}");
    }
}

#[tokio::test]
async fn a_cache_of_another_store_is_refused() {
    let (source, target) = (TestBucket::new(1), TestBucket::new(0));
    std::fs::write(source.path("nix-cache-info"), "StoreDir: /other\n").unwrap();
    let opened = Source::open(&directory(&source), None).await.unwrap();
    let error = opened.check(&StoreDir::default()).await.unwrap_err();
    assert!(matches!(error, BucketFailure::OtherStore { .. }), "{error}");
    std::fs::write(target.path("nix-cache-info"), "StoreDir: /other\n").unwrap();
    let store = target.open().await;
    assert_eq!(store.claim(&StoreDir::default(), 30).await.unwrap().unwrap_err().to_string(), "/other");
}
