//! The page of a directory in a store path.
//!
//! Plain HTML for any browser: no script, no external resource, relative links. Names are arbitrary bytes from builds: in
//! text they go through [`escape`] and cannot become markup, in links they are percent-encoded and cannot become another
//! scheme or path.

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
use ring::digest::{Context, SHA256};

use crate::http::html::escape::escape;
use crate::http::links::encode_segment;
use crate::human_size::human_size;
use crate::store::{Directory, EntryKind, Names};

const STYLE: &str = concat!(include_str!("../../html/base.css"), include_str!("directory_page.css"));

/// Version of the page in its entity tag, to be changed whenever the page of the same directory changes.
const FORMAT: &[u8] = b"page2";

/// The directory that a page shows.
pub(super) struct Shown<'a> {
    /// Store directory, as clients see it.
    pub(super) store: &'a StoreDir,
    /// Requested store path.
    pub(super) path: &'a StorePath,
    /// Names from it down to the directory.
    pub(super) names: &'a [Name],
}

impl Shown<'_> {
    /// Returns the text of the page's entity tag: a digest of everything that determines its bytes. The directory is the one
    /// at `below` in the NAR with this hash.
    pub(super) fn tag(&self, nar_hash: &NarHash, below: &Path) -> String {
        let mut digest = Context::new(&SHA256);
        let title = self.title();
        // None of these contains a zero.
        for part in
            [FORMAT, STYLE.as_bytes(), nar_hash.to_nix32().as_bytes(), below.as_os_str().as_bytes(), title.as_bytes()]
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

/// A page that is rendered while it is read: only the names and one row are in memory. A clone continues at the position of
/// the original.
#[derive(Debug, Clone)]
pub(super) struct DirectoryPage {
    directory: Arc<Directory>,
    names: Arc<Names>,
    /// Index of the name whose row is next; `None` after the end.
    next: Option<usize>,
    /// Rendered text that has not been read.
    text: Bytes,
}

impl DirectoryPage {
    /// Creates the page of a directory with these names.
    pub(super) fn new(shown: &Shown<'_>, directory: Arc<Directory>, names: Names) -> Self {
        let title = escape(&shown.title());
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
             </head>\n<body>\n<main>\n<h1>"
        );
        breadcrumbs(&mut page, shown);
        page.push_str("</h1>\n<table>\n<tr><th>Name</th><th>Size</th></tr>\n");
        if !shown.names.is_empty() {
            page.push_str("<tr><td><a href=\"../\">..</a></td><td></td></tr>\n");
        }
        Self { directory, names: Arc::new(names), next: Some(0), text: page.into() }
    }

    /// Renders the next row, or the end. Blocks on the disk.
    fn advance(&mut self) -> io::Result<()> {
        let Some(index) = self.next else { return Ok(()) };
        let Some(name) = self.names.nth(index) else {
            self.next = None;
            self.text = end(&self.names).into();
            return Ok(());
        };
        let mut text = String::new();
        // A file that was deleted since has no row.
        if let Some(kind) = self.directory.entry(name)? {
            row(&mut text, name, &kind);
        }
        self.text = text.into();
        self.next = Some(index + 1);
        Ok(())
    }
}

impl Read for DirectoryPage {
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

/// Renders the path of the directory; each segment but the last is a link.
fn breadcrumbs(page: &mut String, shown: &Shown<'_>) {
    let _ = write!(page, "{}/", escape(shown.store.as_str()));
    let names = shown.names.iter().map(|name| String::from_utf8_lossy(name.as_bytes()));
    let segments = std::iter::once(shown.path.base_name().into()).chain(names);
    for (segment, up) in segments.zip((0..=shown.names.len()).rev()) {
        let segment = escape(&segment);
        let _ = match up {
            0 => write!(page, "<bdi>{segment}</bdi>"),
            up => write!(page, "<a href=\"{}\"><bdi>{segment}</bdi></a>/", "../".repeat(up)),
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

/// Returns the link to an entry. It starts with a dot, since a name may contain a colon.
fn href(name: &OsStr) -> String {
    format!("./{}", encode_segment(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(names: &[&[u8]]) -> String {
        let names: Vec<_> = names.iter().map(|name| Name::new(name).unwrap()).collect();
        let path = StorePath::from_base_name("lq7lf2dg0c05ibn8r201m1cgdcj5i60a-hello").unwrap();
        let mut page = String::new();
        breadcrumbs(&mut page, &Shown { store: &StoreDir::default(), path: &path, names: &names });
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
