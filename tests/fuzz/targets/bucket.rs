//! Objects that somebody else has put into the bucket: what is read is written the same, keeps the limits, and no other
//! narinfo than the one that a key signed is taken for signed.

use std::sync::LazyLock;

use harmonia::bucket::canonical;
use harmonia_protocol::signature::PublicKey;
use harmonia_protocol::{HashPart, StoreDir};

use super::Parameters;

/// A key, and a narinfo that it signed. The private key is gone.
const KEY: &str = "fleet-1:58bYuQQvy/+AP7yR2hUnXKRf3TV2Kh+vxkgwrfIAs3Q=";
const NARINFO: &str = "\
StorePath: /nix/store/00000000000000000000000000000000-a
URL: nar/0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73.nar.zst
Compression: zstd
FileHash: sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73
FileSize: 100
NarHash: sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73
NarSize: 120
References: 00000000000000000000000000000000-a 11111111111111111111111111111111-b
Sig: fleet-1:R4uczghbwNxFdCsSgZ17zEwQ0FgFPmMQCIVZcLsDICmh6vrmc0awLd8FB4zau8C4iOxFsL7TYpNMCoyrpPCQAA==
";
/// Fields that a signature is about.
const SIGNED: [&str; 4] = ["StorePath", "NarHash", "NarSize", "References"];
/// Limits of docs/reference/bucket-layout.md, in bytes.
const MAX_NARINFO: usize = 1 << 20;
const MAX_HOST_FILE: usize = 16 << 10;

static KEYS: LazyLock<[PublicKey; 1]> = LazyLock::new(|| [PublicKey::parse(KEY).expect("a public key")]);

pub(super) fn property(input: &[u8]) {
    let mut parameters = Parameters(input);
    match parameters.byte() % 4 {
        0 => of_a_name(parameters.rest()),
        1 => of_a_host_file(parameters.rest()),
        2 => of_a_narinfo(parameters.rest()),
        _ => of_a_changed_narinfo(parameters),
    }
}

fn of_a_name(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(name) = canonical::name(text) else { return };
    assert_eq!(name, text);
    // One that no server, file system or proxy takes for another.
    assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\%\"#".contains(&byte)), "{name:?}");
    assert!(name.split('/').all(|part| !matches!(part, "" | "." | "..")) && name.len() <= 512, "{name:?}");
}

fn of_a_host_file(bytes: &[u8]) {
    let Some(written) = canonical::host_file(bytes, "a") else { return };
    assert!(bytes.len() <= MAX_HOST_FILE);
    let text = std::str::from_utf8(&written).expect("JSON");
    assert!(text.starts_with("{\"host\":\"a\","), "{text}");
    // In JSON the others are escaped.
    assert!(!text.contains(char::is_control) && !text.contains("\\u00"), "{text:?}");
    assert_eq!(canonical::host_file(&written, "a").as_deref(), Some(&*written), "{text}");
    assert!(canonical::host_file(bytes, "b").is_none());
}

fn of_a_narinfo(bytes: &[u8]) {
    let store = StoreDir::default();
    let Some(read) = canonical::narinfo(bytes, HashPart::ZERO, &*KEYS, &store) else { return };
    assert!(bytes.len() <= MAX_NARINFO);
    assert!(read.text.starts_with("StorePath: /nix/store/00000000000000000000000000000000-"), "{}", read.text);
    let again = canonical::narinfo(read.text.as_bytes(), HashPart::ZERO, &*KEYS, &store).expect("it was written");
    assert_eq!((&again.text, again.is_signed), (&read.text, read.is_signed));
    // The file is that of its hash: URL and FileHash are the same.
    let [url, hash] = ["URL", "FileHash"].map(|name| field(&read.text, name).expect("it has a file"));
    let named = url.strip_prefix("nar/").and_then(|url| url.get(..52)).expect("the name of a file");
    assert_eq!(hash.strip_prefix("sha256:"), Some(named), "{}", read.text);
    if read.is_signed {
        let original = canonical::narinfo(NARINFO.as_bytes(), HashPart::ZERO, &*KEYS, &store).expect("a narinfo");
        for name in SIGNED {
            assert_eq!(field(&read.text, name), field(&original.text, name));
        }
    }
}

/// Replaces a stretch of the signed narinfo by other bytes.
fn of_a_changed_narinfo(mut parameters: Parameters<'_>) {
    let start = (usize::from(parameters.byte()) * 3) % NARINFO.len();
    let end = NARINFO.len().min(start + usize::from(parameters.byte()));
    let changed = [&NARINFO.as_bytes()[..start], parameters.rest(), &NARINFO.as_bytes()[end..]].concat();
    of_a_narinfo(&changed);
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}
