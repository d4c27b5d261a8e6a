//! Content of every test store: one path for each mistake that a cache could make.
//!
//! Each release registers the content and computes the hashes itself, so that a comparison between releases proves
//! something. The store paths are the same in all releases: those without a content address have an invented hash part.
//! Paths are unsigned unless their name says otherwise.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::nix::prefix::Prefix;
use crate::nix::release::Release;
use crate::support::keys::{self, Key};
use crate::support::store_item::noise;

/// Number of references of `many-references`.
pub(crate) const MANY: usize = 300;
/// Depth of the deepest directory: more than in any package, well below the limit on a path's length.
const DEPTH: usize = 60;
/// Size of `large`, in bytes: more than any buffer between store and client.
pub(crate) const LARGE: usize = 64 << 20;

/// Store paths by name; none by default.
#[derive(Default)]
pub(crate) struct Content {
    paths: BTreeMap<&'static str, String>,
}

impl Content {
    /// Adds the content to an empty store.
    pub(crate) fn populate(prefix: &Prefix) -> Self {
        let mut plain = Plain { prefix, paths: BTreeMap::new(), registration: String::new(), next: 0 };
        plain.add_all();
        let Plain { mut paths, registration, .. } = plain;
        let _ = prefix.run_with_input(&["nix-store", "--register-validity"], registration.into_bytes()).stdout();
        sign(prefix, &keys::FOREIGN, &paths["foreign-signature"]);
        add_content_addressed(prefix, &mut paths);
        Self { paths }
    }

    /// Returns the full store path of this name.
    pub(crate) fn path(&self, name: &str) -> &str {
        self.paths.get(name).unwrap_or_else(|| panic!("there is no {name} in the content"))
    }

    /// Returns names and full store paths of everything but the references of `many-references`.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.paths.iter().map(|(name, path)| (*name, path.as_str()))
    }
}

/// Paths without a content address.
struct Plain<'p> {
    prefix: &'p Prefix,
    paths: BTreeMap<&'static str, String>,
    /// Registrations as `nix-store --register-validity` reads them. One line each: path, deriver, number of references, and
    /// every reference.
    registration: String,
    next: usize,
}

impl Plain<'_> {
    fn add_all(&mut self) {
        self.add("regular", |file| fill(file, "a regular file\n"));
        self.add("empty-file", |file| fill(file, ""));
        self.add("executable", executable);
        self.add("symlink", |link| symlink("not/in the store", link).unwrap());
        self.add("empty-directory", |dir| fs::create_dir(dir).unwrap());
        self.add("deep-tree", deep_tree);
        self.add("odd-entries", odd_entries);
        self.add("foreign-signature", |file| fill(file, "signed elsewhere\n"));
        self.add("large", |file| fill(file, noise(LARGE)));

        let odd = self.reserve("+?odd=._-");
        self.write(&odd, |file| fill(file, "of an odd name\n"));
        self.register("odd-name", odd, "", &[]);

        let output = self.reserve("with-deriver");
        let deriver = self.reserve("with-deriver.drv");
        self.write(&output, |file| fill(file, "built here\n"));
        self.register("with-deriver", output, &deriver, &[]);

        let own = self.reserve("self-reference");
        self.write(&own, |file| fill(file, &own));
        self.register("self-reference", own.clone(), "", &[own]);

        let leaves: Vec<_> = (0..MANY).map(|n| self.leaf(n)).collect();
        let many = self.reserve("many-references");
        self.write(&many, |file| fill(file, leaves.join("\n")));
        self.register("many-references", many, "", &leaves);
    }

    fn add(&mut self, name: &'static str, write: impl FnOnce(&Path)) {
        let path = self.reserve(name);
        self.write(&path, write);
        self.register(name, path, "", &[]);
    }

    fn leaf(&mut self, n: usize) -> String {
        let path = self.reserve(&format!("leaf-{n}"));
        self.write(&path, |file| fill(file, format!("leaf {n}\n")));
        self.describe(&path, "", &[]);
        path
    }

    /// Returns a new path. Hash parts count down, so that the order of the paths is not the order of their registration.
    fn reserve(&mut self, name: &str) -> String {
        self.next += 1;
        format!("/nix/store/{:032}-{name}", 10_000 - self.next)
    }

    fn write(&self, path: &str, write: impl FnOnce(&Path)) {
        write(&self.prefix.on_host(path));
    }

    fn register(&mut self, name: &'static str, path: String, deriver: &str, references: &[String]) {
        self.describe(&path, deriver, references);
        self.paths.insert(name, path);
    }

    fn describe(&mut self, path: &str, deriver: &str, references: &[String]) {
        let count = references.len().to_string();
        let references = references.iter().map(String::as_str);
        for line in [path, deriver, &count].into_iter().chain(references) {
            self.registration.push_str(line);
            self.registration.push('\n');
        }
    }
}

/// Adds a path for each form of content address, from the file `/nix/tmp/addressed`.
fn add_content_addressed(prefix: &Prefix, paths: &mut BTreeMap<&'static str, String>) {
    fs::write(prefix.on_host("/nix/tmp/addressed"), "found by what it holds\n").unwrap();
    let source = "/nix/tmp/addressed";
    let text = r#"builtins.toFile "text" "see ${builtins.toFile "other-text" "other"}""#;
    let evaluate = ["nix-instantiate", "--eval", "--read-write-mode", "--expr", text];
    let commands: [(_, &[&str]); 4] = [
        ("fixed-recursive", &["nix-store", "--add", source]),
        ("fixed-flat", &["nix-store", "--add-fixed", "sha256", source]),
        ("fixed-flat-sha1", &["nix-store", "--add-fixed", "sha1", source]),
        ("text-with-reference", &evaluate),
    ];
    for (name, command) in commands {
        paths.insert(name, prefix.run(command).text().trim_matches('"').to_owned());
    }
}

/// Signs a path in the store without its nix-daemon.
pub(crate) fn sign(prefix: &Prefix, key: &Key, path: &str) {
    fs::copy(&key.secret, prefix.on_host("/nix/etc/secret")).unwrap();
    let command: &[&str] = match prefix.release() {
        Release::Nix2_3 => &["nix", "sign-paths", "-k", "/nix/etc/secret", path],
        _ => &["nix", "store", "sign", "-k", "/nix/etc/secret", path],
    };
    let _ = prefix.run(command).stdout();
}

fn fill(file: &Path, bytes: impl AsRef<[u8]>) {
    fs::write(file, bytes).unwrap();
}

fn executable(file: &Path) {
    fs::write(file, "#!/bin/sh\n").unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
}

fn deep_tree(dir: &Path) {
    let bottom = (0..DEPTH).fold(dir.to_owned(), |dir, level| dir.join(format!("level-{level}")));
    fs::create_dir_all(&bottom).unwrap();
    fs::write(bottom.join("bottom"), "deep\n").unwrap();
}

fn odd_entries(dir: &Path) {
    fs::create_dir(dir).unwrap();
    let names: [&[u8]; 12] = [
        b" leading space",
        b"trailing space ",
        b".hidden",
        b"-dash",
        b"back\\slash",
        b"line\nfeed",
        b"\"quotes\"",
        "größe".as_bytes(),
        "日本語".as_bytes(),
        // One letter, precomposed and decomposed, and a name that is not UTF-8.
        "é".as_bytes(),
        "e\u{301}".as_bytes(),
        b"latin-1 \xe9",
    ];
    for name in names {
        fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
    }
    // In byte order: upper case before lower, and "a-" before "a.".
    for name in ["A", "a-b", "a.b", "a"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    executable(&dir.join("a/executable"));
    symlink("../größe", dir.join("a/link")).unwrap();
    fs::write(dir.join("a/empty"), "").unwrap();
}
