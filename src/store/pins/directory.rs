//! The directory of pins. Every function blocks on the disk; none may run beside another one.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use harmonia_protocol::{StoreDir, StorePath};

use crate::store::pins::name::PinName;
use crate::store::pins::pin::{Generation, Pin};
use crate::store::state_files::{INCOMPLETE, create_directory, read, replace, sync_directory};

/// Upper bound of the file of a generation, in bytes: a thousand paths of at most 244.
const MAX_SIZE: u64 = 1 << 20;
/// Upper bound of entries that are read of a directory.
const MAX_ENTRIES: usize = 100_000;

/// A file of a pin, by its name.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    /// Link of a generation.
    Link(u32),
    /// File by which a generation is complete.
    Complete(u32),
    /// Such a file that was not completed.
    Incomplete,
    /// Anything else, which is left alone.
    Unknown,
}

impl Entry {
    fn of(name: &str) -> Self {
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| number.to_string() == text);
        if let Some(name) = name.strip_prefix('.') {
            let complete = name.strip_suffix(INCOMPLETE).unwrap_or(name);
            return match complete.strip_suffix(".json").and_then(number) {
                Some(number) if complete == name => Self::Complete(number),
                Some(_) => Self::Incomplete,
                None => Self::Unknown,
            };
        }
        let link = name.split_once('-').filter(|(_, path)| StorePath::from_base_name(path).is_ok());
        link.and_then(|(text, _)| number(text)).map_or(Self::Unknown, Self::Link)
    }
}

/// Returns the names of pins in a directory, ascending.
pub(crate) fn names(pins: &Path) -> io::Result<Vec<PinName>> {
    let mut names: Vec<PinName> = entries(pins)?.iter().filter_map(|name| name.parse().ok()).collect();
    names.retain(|name| fs::symlink_metadata(pins.join(name.as_str())).is_ok_and(|it| it.is_dir()));
    names.sort();
    Ok(names)
}

/// Reads the pin of this name, the newest generation first.
pub(crate) fn pin(pins: &Path, name: &PinName) -> io::Result<Pin> {
    let directory = pins.join(name.as_str());
    let mut generations = Vec::new();
    for number in numbers(&directory)? {
        let file = directory.join(complete(number));
        let parsed = read(&file, MAX_SIZE).and_then(|text| {
            let text = text.unwrap_or_default();
            Ok(serde_json::from_slice::<Generation>(&text)?)
        });
        match parsed {
            Ok(generation) => generations.push(Generation { number, ..generation }),
            // Its links still protect its paths.
            Err(cause) => tracing::warn!("cannot read {}, which is left alone: {cause}", file.display()),
        }
    }
    generations.sort_by_key(|generation| std::cmp::Reverse(generation.number));
    let directory = directory.display().to_string();
    Ok(Pin { name: name.to_string(), directory, generations })
}

/// Returns the number of the next generation.
pub(crate) fn next_number(directory: &Path) -> io::Result<u32> {
    let used = entries(directory)?.into_iter().filter_map(|name| match Entry::of(&name) {
        Entry::Link(number) | Entry::Complete(number) => Some(number),
        Entry::Incomplete | Entry::Unknown => None,
    });
    used.max().unwrap_or(0).checked_add(1).ok_or_else(|| io::Error::other("there are no more numbers of generations"))
}

/// Creates the links of a generation, which is not complete yet. Returns their paths.
pub(crate) fn link(directory: &Path, number: u32, paths: &[StorePath], store: &StoreDir) -> io::Result<Vec<PathBuf>> {
    let mut links = Vec::with_capacity(paths.len());
    for path in paths {
        let link = directory.join(format!("{number}-{}", path.base_name()));
        symlink(store.full_path(path), &link)?;
        links.push(link);
    }
    sync_directory(directory)?;
    Ok(links)
}

/// Completes a generation.
pub(crate) fn finish(directory: &Path, generation: &Generation) -> io::Result<()> {
    replace(directory, &complete(generation.number), &serde_json::to_vec(generation)?)
}

/// Removes a generation, and the pin with the last one.
pub(crate) fn remove(directory: &Path, number: u32) -> io::Result<()> {
    let removed = fs::remove_file(directory.join(complete(number)));
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    sync_directory(directory)?;
    sweep(directory)
}

/// Removes all generations of a pin, also those whose file is damaged. Returns whether there were any.
pub(crate) fn remove_all(directory: &Path) -> io::Result<bool> {
    let numbers = numbers(directory)?;
    for number in &numbers {
        remove(directory, *number)?;
    }
    Ok(!numbers.is_empty())
}

/// Removes what an interrupted change has left, and the directory if nothing is in it.
pub(crate) fn sweep(directory: &Path) -> io::Result<()> {
    let complete = numbers(directory)?;
    for name in entries(directory)? {
        let is_left = match Entry::of(&name) {
            Entry::Link(number) => !complete.contains(&number),
            Entry::Incomplete => true,
            Entry::Complete(_) | Entry::Unknown => false,
        };
        let file = directory.join(name);
        // A file that is no link is not ours, whatever its name.
        if is_left && fs::symlink_metadata(&file).is_ok_and(|it| it.is_symlink() || it.is_file() && is_hidden(&file)) {
            fs::remove_file(file)?;
        }
    }
    // Fails if there is anything in it.
    let _ = fs::remove_dir(directory);
    Ok(())
}

/// Creates the directory of a pin, and returns it without symbolic links in its path, as nix-daemon will name it.
pub(crate) fn create(pins: &Path, name: &PinName) -> io::Result<PathBuf> {
    let directory = pins.join(name.as_str());
    create_directory(&directory, 0o755)?;
    sync_directory(pins)?;
    directory.canonicalize()
}

fn is_hidden(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn complete(number: u32) -> String {
    format!(".{number}.json")
}

fn numbers(directory: &Path) -> io::Result<Vec<u32>> {
    let number = |name: String| if let Entry::Complete(number) = Entry::of(&name) { Some(number) } else { None };
    Ok(entries(directory)?.into_iter().filter_map(number).collect())
}

/// Returns the names in a directory that are UTF-8; none if it does not exist.
fn entries(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries.take(MAX_ENTRIES) {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(number: u32) -> StorePath {
        StorePath::from_base_name(&format!("{number:032}-a")).unwrap()
    }

    fn generation(number: u32) -> Generation {
        let paths = vec![path(number).base_name().to_owned()];
        Generation { number, paths, by: "alice".to_owned(), since: 1, until: None }
    }

    fn pinned(pins: &Path, name: &PinName, number: u32) -> PathBuf {
        let directory = create(pins, name).unwrap();
        assert_eq!(next_number(&directory).unwrap(), number);
        link(&directory, number, &[path(number)], &StoreDir::default()).unwrap();
        finish(&directory, &generation(number)).unwrap();
        directory
    }

    #[test]
    fn a_generation_is_links_and_a_file_that_completes_it() {
        let (dir, name) = (tempfile::tempdir().unwrap(), "web".parse().unwrap());
        assert_eq!(names(dir.path()).unwrap(), []);
        let directory = pinned(dir.path(), &name, 1);
        pinned(dir.path(), &name, 2);
        assert_eq!(names(dir.path()).unwrap(), std::slice::from_ref(&name));
        assert_eq!(pin(dir.path(), &name).unwrap().generations, [generation(2), generation(1)]);
        let target = directory.join(format!("2-{:032}-a", 2)).read_link().unwrap();
        assert_eq!(target, Path::new(&StoreDir::default().full_path(&path(2))));
        remove(&directory, 1).unwrap();
        assert_eq!(pin(dir.path(), &name).unwrap().generations, [generation(2)]);
        remove(&directory, 2).unwrap();
        assert!(!directory.exists());
    }

    #[test]
    fn what_a_crash_left_is_removed_and_what_is_not_ours_stays() {
        let (dir, name) = (tempfile::tempdir().unwrap(), "web".parse().unwrap());
        let directory = pinned(dir.path(), &name, 1);
        // Killed before generation 2 was complete, and in the middle of the removal of generation 3.
        link(&directory, 2, &[path(2)], &StoreDir::default()).unwrap();
        fs::write(directory.join(".2.json.tmp"), "{").unwrap();
        link(&directory, 3, &[path(3)], &StoreDir::default()).unwrap();
        let others = ["README", ".4.json~", "7-notes", "01-x", ".json", &format!("9-{:032}-a", 9)];
        for other in others {
            fs::write(directory.join(other), "").unwrap();
        }
        sweep(&directory).unwrap();
        let mut left = entries(&directory).unwrap();
        left.sort();
        let mut expected: Vec<_> = others.map(str::to_owned).to_vec();
        expected.extend([".1.json".to_owned(), format!("1-{:032}-a", 1)]);
        expected.sort();
        assert_eq!(left, expected);
        // A damaged file is left alone, with its links.
        fs::write(directory.join(".1.json"), "{").unwrap();
        sweep(&directory).unwrap();
        assert_eq!(pin(dir.path(), &name).unwrap().generations, []);
        assert!(directory.join(format!("1-{:032}-a", 1)).is_symlink());
        assert!(remove_all(&directory).unwrap() && !remove_all(&directory).unwrap());
        assert_eq!(entries(&directory).unwrap().len(), others.len());
    }
}
