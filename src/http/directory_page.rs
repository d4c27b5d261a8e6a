//! The page that shows a directory of a store path.
//!
//! Plain HTML for browsers with and without graphics: no script, no external resource, links that are all relative.
//! Names are anybody's bytes: what is shown goes through [`escape`] and cannot become markup, what is linked is
//! percent-encoded and cannot become another scheme or path.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use harmonia_protocol::hash::NarHash;
use harmonia_protocol::nar::Name;
use harmonia_protocol::{StoreDir, StorePath};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use ring::digest::{Context, SHA256};

use super::html::escape;
use crate::human_size::human_size;
use crate::store::{Directory, EntryKind, Names};

/// What is encoded in a link: all but the characters that RFC 3986, section 2.3 calls unreserved.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const STYLE: &str = concat!(include_str!("page.css"), include_str!("directory_page.css"));

/// The form of the page, in its entity tag: another one whenever the same directory gets another page.
const FORM: &[u8] = b"page2";

/// Which directory is shown.
pub(super) struct Place<'a> {
    /// The store directory, as clients see it.
    pub(super) store: &'a StoreDir,
    /// The store path that was asked for.
    pub(super) path: &'a StorePath,
    /// The names below it.
    pub(super) names: &'a [Name],
}

impl Place<'_> {
    /// All that decides the bytes of the page, as the text of an entity tag: the place, and the directory, which is the one
    /// at `below` in the NAR of this hash.
    pub(super) fn tag(&self, nar_hash: &NarHash, below: &Path) -> String {
        let mut digest = Context::new(&SHA256);
        let title = self.title();
        // None of these holds a zero.
        for part in
            [FORM, STYLE.as_bytes(), nar_hash.to_nix32().as_bytes(), below.as_os_str().as_bytes(), title.as_bytes()]
        {
            digest.update(part);
            digest.update(&[0]);
        }
        data_encoding::HEXLOWER.encode(&digest.finish().as_ref()[..16])
    }

    fn title(&self) -> String {
        let mut title = self.store.full_path(self.path);
        for name in self.names {
            title.push('/');
            title.push_str(&String::from_utf8_lossy(name.as_bytes()));
        }
        title
    }
}

/// A page, rendered while it is read: nothing of it is in memory but the names, and the row that is read. A clone begins
/// where the original is.
#[derive(Debug, Clone)]
pub(super) struct Page {
    directory: Arc<Directory>,
    names: Arc<Names>,
    /// The name whose row is next; nothing after the end.
    next: Option<usize>,
    /// What has been rendered and not read.
    text: Bytes,
}

impl Page {
    /// The page of a directory with these names.
    pub(super) fn new(place: &Place<'_>, directory: Arc<Directory>, names: Names) -> Self {
        let title = escape(&place.title());
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             </head>\n<body>\n<main>\n<h1>"
        );
        crumbs(&mut page, place);
        page.push_str("</h1>\n<table>\n<tr><th>Name</th><th>Size</th></tr>\n");
        if !place.names.is_empty() {
            page.push_str("<tr><td><a href=\"../\">..</a></td><td></td></tr>\n");
        }
        Self { directory, names: Arc::new(names), next: Some(0), text: page.into() }
    }

    /// Renders what comes after the row before. Blocks on the disk.
    fn advance(&mut self) -> io::Result<()> {
        let Some(at) = self.next else { return Ok(()) };
        let Some(name) = self.names.nth(at) else {
            self.next = None;
            self.text = end(&self.names).into();
            return Ok(());
        };
        let mut text = String::new();
        // What has just gone has no row.
        if let Some(kind) = self.directory.entry(name)? {
            row(&mut text, name, &kind);
        }
        self.text = text.into();
        self.next = Some(at + 1);
        Ok(())
    }
}

impl Read for Page {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.text.is_empty() && self.next.is_some() {
            self.advance()?;
        }
        let read = self.text.len().min(buffer.len());
        self.text.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}

fn end(names: &Names) -> String {
    let mut page = String::from("</table>\n");
    if !names.is_complete() {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "<p>Only {} of its entries are shown.</p>", names.len());
    }
    page + "</main>\n</body>\n</html>\n"
}

/// The way to the directory; each part but the last is a link up.
fn crumbs(page: &mut String, place: &Place<'_>) {
    let _ = write!(page, "{}/", escape(place.store.as_str()));
    let names = place.names.iter().map(|name| String::from_utf8_lossy(name.as_bytes()));
    let parts = std::iter::once(place.path.base_name().into()).chain(names);
    for (part, up) in parts.zip((0..=place.names.len()).rev()) {
        let part = escape(&part);
        let _ = match up {
            0 => write!(page, "<bdi>{part}</bdi>"),
            up => write!(page, "<a href=\"{}\"><bdi>{part}</bdi></a>/", "../".repeat(up)),
        };
    }
}

fn row(page: &mut String, name: &OsStr, kind: &EntryKind) {
    let text = escape(&name.to_string_lossy());
    let href = href(name);
    let _ = match kind {
        EntryKind::Directory => writeln!(page, "<tr><td><a href=\"{href}/\"><bdi>{text}</bdi>/</a></td><td></td></tr>"),
        EntryKind::File(bytes) => {
            let size = human_size(*bytes);
            writeln!(page, "<tr><td><a href=\"{href}\"><bdi>{text}</bdi></a></td><td>{size}</td></tr>")
        }
        EntryKind::Symlink(target) => {
            let target = escape(&target.to_string_lossy());
            writeln!(
                page,
                "<tr><td><a href=\"{href}\"><bdi>{text}</bdi></a> &rarr; <bdi>{target}</bdi></td><td></td></tr>"
            )
        }
        EntryKind::Other => writeln!(page, "<tr><td><bdi>{text}</bdi></td><td></td></tr>"),
    };
}

/// A reference to an entry from the page of its directory. It begins with a dot, since a name may have a colon.
fn href(name: &OsStr) -> String {
    format!("./{}", encoded(name.as_bytes()))
}

/// A name as a segment of a URL.
pub(super) fn encoded(name: &[u8]) -> String {
    percent_encode(name, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(names: &[&[u8]]) -> String {
        let names: Vec<_> = names.iter().map(|name| Name::new(name).unwrap()).collect();
        let path = StorePath::from_base_name("lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello").unwrap();
        let mut page = String::new();
        crumbs(&mut page, &Place { store: &StoreDir::default(), path: &path, names: &names });
        page
    }

    fn row_of(name: &[u8], kind: &EntryKind) -> String {
        let mut text = String::new();
        row(&mut text, OsStr::from_bytes(name), kind);
        text
    }

    #[test]
    fn breadcrumbs_lead_up_and_stop_at_the_store_path() {
        assert_eq!(page(&[]), "/nix/store/<bdi>lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello</bdi>");
        let path = "<a href=\"../../\"><bdi>lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello</bdi></a>";
        let crumbs = format!("/nix/store/{path}/<a href=\"../\"><bdi>share</bdi></a>/<bdi>man</bdi>");
        assert_eq!(page(&[b"share", b"man"]), crumbs);
    }

    #[test]
    fn each_kind_of_entry_has_its_row() {
        for (name, kind, row) in [
            (&b"bin"[..], EntryKind::Directory, "<a href=\"./bin/\"><bdi>bin</bdi>/</a></td><td>"),
            (b"a b:c%", EntryKind::File(1536), "<a href=\"./a%20b%3Ac%25\"><bdi>a b:c%</bdi></a></td><td>1.5 KiB"),
            (
                b"latin-1 \xe9",
                EntryKind::Symlink("<x>".into()),
                "<a href=\"./latin-1%20%E9\"><bdi>latin-1 \u{fffd}</bdi></a> &rarr; <bdi>&lt;x&gt;</bdi></td><td>",
            ),
            (b"fifo", EntryKind::Other, "<bdi>fifo</bdi></td><td>"),
        ] {
            assert_eq!(row_of(name, &kind), format!("<tr><td>{row}</td></tr>\n"));
        }
    }

    proptest! {
        #[test]
        fn no_name_becomes_markup_or_another_url(name in prop::collection::vec(1_u8..=255, 1..40), link: bool) {
            let kind = if link { EntryKind::Symlink(OsStr::from_bytes(&name).to_owned()) } else { EntryKind::File(1) };
            let plain = if link { EntryKind::Symlink("x".into()) } else { EntryKind::File(1) };
            let (odd, known) = (row_of(&name, &kind), row_of(b"x", &plain));
            for c in ['<', '>', '"', '\''] {
                prop_assert_eq!(odd.matches(c).count(), known.matches(c).count());
            }
            let href = odd.split("href=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            let segment = href.strip_prefix("./").unwrap();
            prop_assert!(segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)));
            prop_assert_eq!(percent_encoding::percent_decode_str(segment).collect::<Vec<_>>(), name);
        }
    }
}
