//! Links of the documentation: each leads to an existing file, and each `#anchor` to a heading of that page.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Folders with pages, below the root of the repository.
const FOLDERS: [&str; 6] = ["", "docs", "docs/explanation", "docs/guide", "docs/reference", "vm-tests"];

/// Returns the pages by their paths from the root.
fn pages() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = FOLDERS.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let files = files.map(|entry| entry.unwrap().path());
    files
        .filter(|file| file.extension().is_some_and(|extension| extension == "md"))
        .map(|file| (file.strip_prefix(root).unwrap().to_owned(), fs::read_to_string(&file).unwrap()))
        .collect()
}

/// Returns the lines of a page that are not code: neither indented nor fenced.
fn prose(page: &str) -> Vec<&str> {
    let (mut indented, mut fenced, mut blank) = (false, false, true);
    let mut lines = Vec::new();
    for line in page.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
            continue;
        }
        indented = line.starts_with("    ") && (blank || indented) || indented && line.is_empty();
        blank = line.is_empty();
        if !indented && !fenced {
            lines.push(line);
        }
    }
    lines
}

/// Returns the anchors of a page's headings, made as GitHub and mdBook make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = prose(page).into_iter().filter(|line| line.starts_with('#'));
    let headings = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"));
    headings.map(|text| text.chars().filter(|it| it.is_alphanumeric() || "-_".contains(*it)).collect()).collect()
}

/// Returns the targets of a page's links and pictures, without its code.
fn links(page: &str) -> Vec<String> {
    let text = prose(page).join("\n");
    let without_code: String = text.split('`').step_by(2).collect::<Vec<_>>().join("`code`");
    let rest = without_code.split("](").skip(1);
    rest.map(|rest| rest.split_once(')').unwrap().0.to_owned()).collect()
}

/// Resolves `..` without asking the file system, as a browser does.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => assert!(normal.pop(), "{} leads out of the repository", path.display()),
            component => normal.push(component),
        }
    }
    normal
}

#[test]
fn each_link_of_the_documents_leads_to_a_file_and_a_heading_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages();
    let mut broken = Vec::new();
    let mut followed = 0;
    for (name, page) in &pages {
        for link in links(page).iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(file, it)| (file, Some(it)));
            let target = if file.is_empty() { name.clone() } else { normal(&name.with_file_name("").join(file)) };
            let exists = root.join(&target).exists();
            let is_heading = |anchor| pages.get(&target).is_some_and(|page| anchors(page).contains(anchor));
            if !exists || anchor.is_some_and(|anchor| !is_heading(anchor)) {
                broken.push(format!("{}: {link}", name.display()));
            }
            followed += 1;
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
    assert!(followed > 80, "{followed}");
}

#[test]
fn each_page_of_docs_is_in_the_summary_of_the_site() {
    let pages = pages();
    let summary = links(&pages[Path::new("docs/SUMMARY.md")]);
    let listed: BTreeSet<_> = summary.iter().map(|link| normal(&Path::new("docs").join(link))).collect();
    let of_docs = pages.keys().filter(|page| page.starts_with("docs") && !page.ends_with("SUMMARY.md"));
    let missing: Vec<_> = of_docs.filter(|page| !listed.contains(*page)).collect();
    assert!(missing.is_empty(), "not in docs/SUMMARY.md: {missing:?}");
}

#[test]
fn each_source_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_path = |c: char| c.is_ascii_alphanumeric() || "/_.-".contains(c);
    let mut named = 0;
    for (name, page) in pages() {
        let text = prose(&page).join("\n");
        for span in text.split('`').skip(1).step_by(2).filter(|span| span.contains('/') && span.chars().all(is_path)) {
            let is_source = Path::new(span).extension().is_some_and(|it| it == "rs")
                || ["src/", "docs/", "tests/", "vm-tests/", "packaging/"].iter().any(|it| span.starts_with(it));
            if is_source {
                let exists = root.join(span).exists() || root.join("src").join(span).exists();
                assert!(exists, "{} names {span}, which does not exist", name.display());
                named += 1;
            }
        }
    }
    assert!(named > 30, "{named}");
}
