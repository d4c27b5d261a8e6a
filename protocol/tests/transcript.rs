//! Reading recorded sessions: see `transcripts/README.md` for their format.

use std::path::Path;
use std::sync::LazyLock;

use harmonia_protocol::version::Feature;

/// A request and its reply, or a remark of the recording, which has no bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Section {
    /// Text after `# `.
    pub name: String,
    /// Bytes that the recording client sent.
    pub sent: Vec<u8>,
    /// Bytes that nix-daemon sent.
    pub received: Vec<u8>,
}

impl Section {
    /// Returns the operation or step: the first word of the name.
    pub(crate) fn operation(&self) -> &str {
        self.name.split([' ', ':']).next().unwrap_or_default()
    }
}

/// A recorded file.
#[derive(Debug)]
pub(crate) struct Transcript {
    /// Name without `.txt`.
    pub name: String,
    pub sections: Vec<Section>,
    /// Lines after `== decoded ==`.
    pub decoded: String,
}

impl Transcript {
    fn parse(name: &str, text: &str) -> Self {
        let (conversation, decoded) = text.split_once("== decoded ==\n").unwrap_or((text, ""));
        let mut sections: Vec<Section> = Vec::new();
        for line in conversation.lines() {
            match line.split_at_checked(2) {
                Some(("# ", title)) => sections.push(Section { name: title.trim_end().into(), ..Section::default() }),
                Some(("> ", dump)) => sections.last_mut().unwrap().sent.extend(bytes(dump)),
                Some(("< ", dump)) => sections.last_mut().unwrap().received.extend(bytes(dump)),
                _ => {}
            }
        }
        Self { name: name.into(), sections, decoded: decoded.into() }
    }

    /// Returns the first section of that name.
    pub(crate) fn section(&self, name: &str) -> &Section {
        self.sections.iter().find(|section| section.name == name).unwrap_or_else(|| panic!("{}: no {name}", self.name))
    }

    /// Returns the minor version that the recording client claimed.
    pub(crate) fn claimed(&self) -> u8 {
        let handshake = self.sections.iter().find(|section| section.operation() == "handshake").unwrap();
        handshake.sent[8]
    }

    /// Returns the features that the recording client offered.
    pub(crate) fn offered(&self) -> &'static [Feature] {
        let offers = self.name.starts_with("harmonia-") || self.name.ends_with(Feature::SUPPORTED[0].name());
        if offers { Feature::SUPPORTED } else { &[] }
    }
}

/// Decodes the bytes of `0000  0123… 4567…   |text|`.
fn bytes(dump: &str) -> Vec<u8> {
    let (_offset, rest) = dump.split_once("  ").unwrap();
    let (hex, _text) = rest.split_once('|').unwrap();
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap()).collect()
}

/// Reads the files whose names begin with `prefix`, sorted by name.
pub(crate) fn all(prefix: &str) -> Vec<Transcript> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut transcripts: Vec<Transcript> = files
        .filter_map(|file| {
            let name = file.file_name()?.to_str()?.strip_suffix(".txt")?.to_owned();
            name.starts_with(prefix).then(|| Transcript::parse(&name, &std::fs::read_to_string(&file).unwrap()))
        })
        .collect();
    transcripts.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!transcripts.is_empty(), "no transcript begins with {prefix}");
    transcripts
}

/// Returns the recordings of every read operation, without one whose client offered features that this one lacks.
pub(crate) fn sessions() -> &'static [Transcript] {
    static SESSIONS: LazyLock<Vec<Transcript>> = LazyLock::new(|| {
        let mut sessions = all("nix-");
        let is_of_ours = |transcript: &Transcript| !transcript.name.ends_with("-all-features");
        sessions.retain(|transcript| transcript.name.contains("-client1.") && is_of_ours(transcript));
        assert_eq!(sessions.len(), 20, "a recording was lost or is not read");
        sessions
    });
    &SESSIONS
}

#[test]
fn a_section_is_its_name_and_the_bytes_of_both_sides() {
    let text = "Nix\n\n# connect\n\n# Op /a \n> 0000  0102                |.|\n< 0000  03   ||\n< 0000  04   |<|\n== decoded ==\nx\n";
    let transcript = Transcript::parse("t", text);
    let expected = Section { name: "Op /a".into(), sent: vec![1, 2], received: vec![3, 4] };
    assert_eq!(transcript.sections[1], expected);
    assert_eq!((transcript.sections.len(), transcript.decoded.as_str()), (2, "x\n"));
    assert_eq!(expected.operation(), "Op");
}
