//! The grammar of a NAR: which token may follow which.
//!
//! Takes complete tokens, one at a time. [`Parser`](super::Parser) finds them in the stream, counts offsets, and skips the
//! contents of files.

use super::error::NarError;
use super::event::{Event, Object};
use super::limits::{MAX_DEPTH, MAX_NAME, MAX_TARGET};
use super::name::{check_name, check_target};

const MAGIC: &[u8] = b"nix-archive-1";

/// Kind of the next token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Magic,
    Open,
    Type,
    Kind,
    /// "contents" or "executable".
    Regular,
    ExecutableValue,
    Contents,
    TargetKey,
    Target,
    /// End of a file or symlink.
    Close,
    /// An entry of the innermost directory, or its end.
    Member,
    EntryOpen,
    NameKey,
    Name,
    NodeKey,
    EntryClose,
}

impl Expect {
    /// Returns the name of the kind, for errors.
    fn name(self) -> &'static str {
        match self {
            Expect::Magic => "\"nix-archive-1\"",
            Expect::Open | Expect::EntryOpen => "\"(\"",
            Expect::Type => "\"type\"",
            Expect::Kind => "\"regular\", \"symlink\" or \"directory\"",
            Expect::Regular => "\"executable\" or \"contents\"",
            Expect::ExecutableValue => "the empty value of \"executable\"",
            Expect::Contents => "\"contents\"",
            Expect::TargetKey => "\"target\"",
            Expect::Target => "a symlink's target",
            Expect::Close | Expect::EntryClose => "\")\"",
            Expect::Member => "\"entry\" or \")\"",
            Expect::NameKey => "\"name\"",
            Expect::Name => "an entry's name",
            Expect::NodeKey => "\"node\"",
        }
    }
}

/// Input that follows an accepted token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Another token.
    Token,
    /// The size of a file, for [`Grammar::contents`], and its contents.
    Contents,
    /// None: the NAR is complete.
    End,
}

#[derive(Debug)]
pub(super) struct Grammar {
    expect: Expect,
    executable: bool,
    /// Names from the root to the latest entry, concatenated. At each level the next name must sort after this one.
    path: Vec<u8>,
    /// Start in `path` of the name of the latest entry, for each open directory.
    open: Vec<usize>,
}

impl Grammar {
    pub(super) fn new() -> Self {
        Self { expect: Expect::Magic, executable: false, path: Vec::new(), open: Vec::new() }
    }

    /// Returns the longest length of the next token, in bytes.
    pub(super) fn longest(&self) -> usize {
        match self.expect {
            Expect::Name => MAX_NAME,
            Expect::Target => MAX_TARGET,
            // The longest keyword.
            _ => MAGIC.len(),
        }
    }

    /// Returns the name of the kind of the next token, for errors.
    pub(super) fn expected(&self) -> &'static str {
        self.expect.name()
    }

    /// Accepts the next token, which starts at `offset`.
    pub(super) fn accept(
        &mut self,
        token: &[u8],
        offset: u64,
        visit: &mut impl FnMut(Event<'_>),
    ) -> Result<Next, NarError> {
        self.expect = match (self.expect, token) {
            (Expect::Magic, MAGIC) | (Expect::NodeKey, b"node") => Expect::Open,
            (Expect::Open, b"(") => Expect::Type,
            (Expect::Type, b"type") => Expect::Kind,

            (Expect::Kind, b"regular") => {
                self.executable = false;
                Expect::Regular
            }
            (Expect::Regular, b"executable") => Expect::ExecutableValue,
            (Expect::ExecutableValue, b"") => {
                self.executable = true;
                Expect::Contents
            }
            (Expect::Regular | Expect::Contents, b"contents") => {
                self.expect = Expect::Close;
                return Ok(Next::Contents);
            }

            (Expect::Kind, b"symlink") => Expect::TargetKey,
            (Expect::TargetKey, b"target") => Expect::Target,
            (Expect::Target, target) => {
                check_target(target).map_err(|reason| NarError::Target { offset, reason })?;
                visit(self.object(Object::Symlink { target }));
                Expect::Close
            }

            (Expect::Kind, b"directory") => {
                if self.open.len() == MAX_DEPTH {
                    return Err(NarError::TooDeep { offset });
                }
                visit(self.object(Object::Directory));
                self.open.push(self.path.len());
                Expect::Member
            }
            (Expect::Member, b"entry") => Expect::EntryOpen,
            (Expect::EntryOpen, b"(") => Expect::NameKey,
            (Expect::NameKey, b"name") => Expect::Name,
            (Expect::Name, name) => {
                self.enter(name, offset)?;
                Expect::NodeKey
            }
            (Expect::EntryClose, b")") => Expect::Member,
            (Expect::Member, b")") => {
                if let Some(start) = self.open.pop() {
                    self.path.truncate(start);
                }
                visit(Event::EndDirectory);
                return Ok(self.close());
            }
            (Expect::Close, b")") => return Ok(self.close()),

            (expect, _) => {
                return Err(NarError::Keyword { offset, expected: expect.name() });
            }
        };
        Ok(Next::Token)
    }

    /// Accepts the size of a file whose contents start at `offset`.
    pub(super) fn contents(&self, size: u64, offset: u64, visit: &mut impl FnMut(Event<'_>)) {
        visit(self.object(Object::Regular { executable: self.executable, size, offset }));
    }

    /// Makes `name` the latest entry of the innermost directory.
    fn enter(&mut self, name: &[u8], offset: u64) -> Result<(), NarError> {
        check_name(name).map_err(|reason| NarError::Name { offset, reason })?;
        let start = self.open.last().copied().unwrap_or_default();
        if name <= &self.path[start..] {
            return Err(NarError::Order { offset });
        }
        self.path.truncate(start);
        self.path.extend_from_slice(name);
        Ok(())
    }

    /// Ends an object, and with it an entry, or the NAR at the root.
    fn close(&mut self) -> Next {
        self.expect = Expect::EntryClose;
        if self.open.is_empty() { Next::End } else { Next::Token }
    }

    fn object<'a>(&'a self, object: Object<'a>) -> Event<'a> {
        let name = self.open.last().map(|&start| &self.path[start..]);
        Event::Object { name, object }
    }
}
