//! No file imports what imports it, over however many files: each can be read after those that it names.
//!
//! Reads the paths in the sources of both packages, tests left out. A path leads to the file of its longest prefix that is a module;
//! what a `mod.rs` re-exports therefore counts as that file's, so that children name their siblings and not their parent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use super::architecture::{code, root, sources};

type Module = Vec<String>;

#[test]
fn files_of_the_program_do_not_import_each_other_in_a_circle() {
    assert_no_circles("src");
}

#[test]
fn files_of_the_protocol_do_not_import_each_other_in_a_circle() {
    assert_no_circles("protocol/src");
}

#[test]
fn a_circle_is_found_and_a_mere_declaration_is_none() {
    let modules = ["", "a", "a::b", "a::c"].map(module_from);
    let imports = |texts: [&str; 4]| {
        let files = modules.iter().map(|module| (module.clone(), PathBuf::from(module.join("::")))).collect();
        let mut imports = Imports { files, edges: BTreeMap::new() };
        for (module, text) in modules.iter().zip(texts) {
            imports.add(module, text);
        }
        imports
            .circles()
            .into_iter()
            .map(|circle| circle.iter().map(|it| it.join("::")).collect::<Vec<_>>())
            .collect::<Vec<_>>()
    };
    assert!(imports(["mod a;", "mod b; pub use b::B; use c::C;", "use super::c::C;", ""]).is_empty());
    assert!(
        imports(["mod a;", "mod b; pub use b::B;", "pub(in crate::a) struct B; pub(super) fn f() {}", ""]).is_empty()
    );
    assert!(imports(["", "mod b;", "use super::A;", ""]).is_empty());
    assert_eq!(imports(["", "pub use b::B; struct A;", "use super::A;", ""]), [["a", "a::b"]]);
    assert_eq!(
        imports(["", "use b::B;", "use crate::a::c::{self, C};", "fn f() -> crate::a::A { d::e() }"]),
        [["a", "a::b", "a::c"]]
    );
    assert_eq!(imports(["", "", "use super::{c::{C, D}, other};", "use super::b;"]), [["a::b", "a::c"]]);
}

fn assert_no_circles(package: &str) {
    let imports = Imports::read(&root().join(package));
    let circles: Vec<_> = imports.circles().iter().map(|circle| imports.describe(circle)).collect();
    assert!(circles.is_empty(), "{} circles in {package}:\n{}", circles.len(), circles.join("\n"));
}

/// The files of a package, by module, and which of them each names.
struct Imports {
    files: BTreeMap<Module, PathBuf>,
    edges: BTreeMap<Module, BTreeSet<Module>>,
}

impl Imports {
    fn read(directory: &Path) -> Self {
        let is_test = |path: &Path| path.ends_with("tests.rs") || path.components().any(|it| it.as_os_str() == "tests");
        let below = |path: &Path| path.strip_prefix(directory).unwrap().to_path_buf();
        let files: BTreeMap<_, _> = sources(directory.strip_prefix(root()).unwrap().to_str().unwrap())
            .into_iter()
            .filter(|path| !is_test(&below(path)) && !path.ends_with("main.rs"))
            .map(|path| (module_of(&below(&path)), path))
            .collect();
        let mut imports = Self { edges: BTreeMap::new(), files };
        for (module, path) in imports.files.clone() {
            let code = code(&path);
            imports.add(&module, without_tests(&code));
        }
        imports
    }

    fn add(&mut self, module: &Module, code: &str) {
        let named = paths(code).into_iter().filter_map(|path| self.file_of(module, &path));
        let others = named.filter(|it| it != module).collect();
        self.edges.insert(module.clone(), others);
    }

    /// Returns the module whose file a path leads to, if it is one of this package.
    fn file_of(&self, from: &Module, path: &[String]) -> Option<Module> {
        let mut at = from.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => (at, rest) = (Vec::new(), &path[1..]),
            "self" => rest = &path[1..],
            "super" => {}
            // A word alone is a declaration, or something else of that name.
            child if path.len() > 1 && self.files.contains_key(&[at.clone(), vec![child.to_owned()]].concat()) => {}
            _ => return None,
        }
        for segment in rest {
            if segment == "super" {
                at.pop();
                continue;
            }
            let child = [at.clone(), vec![segment.clone()]].concat();
            if !self.files.contains_key(&child) {
                break;
            }
            at = child;
        }
        Some(at)
    }

    /// Returns a shortest circle through each group of files that reach each other.
    fn circles(&self) -> Vec<Vec<Module>> {
        let mut seen = BTreeSet::new();
        let mut circles = Vec::new();
        for module in self.files.keys() {
            let circle = self.circle_through(module).filter(|circle| circle.iter().all(|it| !seen.contains(it)));
            if let Some(circle) = circle {
                seen.extend(circle.iter().cloned());
                circles.push(circle);
            }
        }
        circles
    }

    fn circle_through(&self, start: &Module) -> Option<Vec<Module>> {
        let mut before: BTreeMap<&Module, &Module> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        while let Some(module) = queue.pop_front() {
            for next in self.edges.get(module).into_iter().flatten() {
                if next == start {
                    let back = std::iter::successors(Some(module), |it| before.get(it).copied());
                    let mut circle: Vec<_> = back.cloned().collect();
                    circle.reverse();
                    return Some(circle);
                }
                if next != start && !before.contains_key(next) {
                    before.insert(next, module);
                    queue.push_back(next);
                }
            }
        }
        None
    }

    fn describe(&self, circle: &[Module]) -> String {
        let name = |module: &Module| self.files[module].strip_prefix(root()).unwrap().display().to_string();
        circle.iter().chain(circle.first()).map(name).collect::<Vec<_>>().join(" -> ")
    }
}

/// Cuts the unit tests at the end of a file.
fn without_tests(code: &str) -> &str {
    let is_tests = |at: usize| code[at..].lines().nth(1).is_some_and(|line| line.ends_with("mod tests {"));
    code.match_indices("#[cfg(test)]").find(|(at, _)| is_tests(*at)).map_or(code, |(at, _)| &code[..at])
}

fn module_from(path: &str) -> Module {
    path.split("::").filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

fn module_of(file: &Path) -> Module {
    let mut module: Module = file.with_extension("").iter().map(|it| it.to_str().unwrap().to_owned()).collect();
    if ["mod", "lib"].contains(&module.last().unwrap().as_str()) {
        module.pop();
    }
    module
}

/// Returns all paths in a text, those in braces each by itself.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    // `pub(super)` and `pub(in crate::a)` name who may import, and import nothing.
    let imports: String = code
        .split("pub(")
        .enumerate()
        .map(|(n, it)| if n == 0 { it } else { it.split_once(')').map_or(it, |it| it.1) })
        .collect();
    let mut rest = imports.as_str();
    while let Some(begin) = rest.find(|c: char| c.is_alphabetic() || c == '_') {
        rest = path(&rest[begin..], &[], &mut found);
    }
    found
}

/// Reads a path at the beginning of the text, behind a prefix; returns the text behind it.
fn path<'a>(mut text: &'a str, prefix: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    let mut segments = prefix.to_vec();
    loop {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        segments.push(text[..end].to_owned());
        text = &text[end..];
        let Some(behind) = text.strip_prefix("::") else { break };
        text = behind.trim_start();
        if let Some(inside) = text.strip_prefix('{') {
            return group(inside, &segments, found);
        }
        if !text.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            break;
        }
    }
    found.push(segments);
    text
}

fn group<'a>(mut text: &'a str, prefix: &[String], found: &mut Vec<Vec<String>>) -> &'a str {
    loop {
        text = text.trim_start_matches(|c: char| c.is_whitespace() || c == ',' || c == '*');
        if text.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            text = path(text, prefix, found);
            if let Some(name) = text.trim_start().strip_prefix("as ") {
                text = name.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
            }
        } else {
            return text.strip_prefix('}').unwrap_or(text);
        }
    }
}
