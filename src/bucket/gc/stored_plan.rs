//! A plan as an object: one zstd frame of lines, so that `zstdcat` shows what a run deletes.
//!
//! | line | meaning |
//! |---|---|
//! | `harmonia-gc-plan 1` | the first one |
//! | `token TEXT` | who has put it: of several at once, one stays |
//! | `narinfo HASH` | a path whose narinfo is deleted, referrers before references |
//! | `nar FILE` | a file below `nar/` that is deleted |
//! | `unnamed SECONDS FILE` | a file that no narinfo names since then |
//!
//! A reader refuses whatever is not of this form: the bucket is not trusted with memory.

use std::fmt::Write as _;
use std::str::FromStr as _;

use harmonia_protocol::HashPart;

use super::plan::GcPlan;
use crate::bucket::file_hash::NarFile;

const FIRST: &str = "harmonia-gc-plan 1";
/// Upper bounds of what a run deletes; the next one deletes the rest.
pub(crate) const MAX_NARINFOS: usize = 100_000;
const MAX_NARS: usize = 200_000;
/// Upper bound of files that are remembered as unnamed. Others are found again, and stay for longer.
const MAX_UNNAMED: usize = 400_000;
/// Upper bound of a line's length, in bytes.
const LINE: usize = 90;
/// Upper bound of a plan's size before it is compressed, in bytes.
const MAX_PLAIN: usize = (MAX_NARINFOS + MAX_NARS + MAX_UNNAMED + 2) * LINE;
/// Upper bound of a plan's size in the bucket, in bytes. Hashes compress to half of their text.
pub(crate) const MAX_PLAN: usize = MAX_PLAIN / 2;
const LEVEL: i32 = 3;
/// Longest token, in bytes.
const MAX_TOKEN: usize = 64;

/// A plan and who has put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredPlan {
    /// A random text.
    pub(crate) token: String,
    pub(crate) plan: GcPlan,
}

/// Reason why bytes are no plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoredPlanError {
    /// No zstd frame of text, a wrong checksum, or too long.
    #[error("not a zstd frame of text of {MAX_PLAIN} bytes at most")]
    Frame,
    /// Not the first line that this release knows.
    #[error("not a plan of this release's format")]
    Format,
    /// A line that means nothing.
    #[error("malformed line {0}")]
    Line(usize),
    /// Too many lines of a kind.
    #[error("too many lines")]
    TooMany,
}

impl StoredPlan {
    /// Cuts a plan to what one run deletes. Narinfos without their references are not left behind, since referrers come first.
    pub(crate) fn cut(plan: &mut GcPlan) {
        plan.narinfos.truncate(MAX_NARINFOS);
        plan.nars.truncate(MAX_NARS);
        while plan.unnamed.len() > MAX_UNNAMED {
            plan.unnamed.pop_last();
        }
    }

    /// Renders the object. Fails only if memory is exhausted.
    pub(crate) fn encode(&self) -> std::io::Result<Vec<u8>> {
        let mut text = format!("{FIRST}\ntoken {}\n", self.token);
        // Writing into a text cannot fail.
        for path in &self.plan.narinfos {
            let _ = writeln!(text, "narinfo {}", path.as_str());
        }
        for file in &self.plan.nars {
            let _ = writeln!(text, "nar {file}");
        }
        for (file, since) in &self.plan.unnamed {
            let _ = writeln!(text, "unnamed {since} {file}");
        }
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        compressor.compress(text.as_bytes())
    }

    /// Parses an object. Memory is bounded, whatever the bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, StoredPlanError> {
        if bytes.len() > MAX_PLAN {
            return Err(StoredPlanError::Frame);
        }
        let bytes = zstd::bulk::decompress(bytes, MAX_PLAIN).map_err(|_| StoredPlanError::Frame)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| StoredPlanError::Frame)?;
        let mut lines = text.lines().zip(1..);
        if lines.next().is_none_or(|(first, _)| first != FIRST) {
            return Err(StoredPlanError::Format);
        }
        let token = lines.next().and_then(|(line, _)| line.strip_prefix("token "));
        let token = token.filter(|token| token.len() <= MAX_TOKEN).ok_or(StoredPlanError::Line(2))?.to_owned();
        let mut plan = GcPlan::default();
        for (line, number) in lines {
            read_line(&mut plan, line).ok_or(StoredPlanError::Line(number))?;
        }
        let is_bounded =
            plan.narinfos.len() <= MAX_NARINFOS && plan.nars.len() <= MAX_NARS && plan.unnamed.len() <= MAX_UNNAMED;
        if is_bounded { Ok(Self { token, plan }) } else { Err(StoredPlanError::TooMany) }
    }
}

fn read_line(plan: &mut GcPlan, line: &str) -> Option<()> {
    match line.split_once(' ')? {
        ("narinfo", path) => plan.narinfos.push(HashPart::from_str(path).ok()?),
        ("nar", file) => plan.nars.push(NarFile::parse(file)?),
        ("unnamed", rest) => {
            let (since, file) = rest.split_once(' ')?;
            plan.unnamed.insert(NarFile::parse(file)?, since.parse().ok()?);
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bucket::publish::plan::tests::{file, part};

    fn stored() -> StoredPlan {
        let plan = GcPlan {
            narinfos: vec![part(3), part(1), part(2)],
            nars: vec![file(1), file(2)],
            unnamed: [(file(4), 1_800_000_000)].into(),
        };
        StoredPlan { token: "a-1".into(), plan }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(StoredPlan::decode(&stored().encode().unwrap()), Ok(stored()));
    }

    #[test]
    fn bytes_that_are_no_plan_are_refused() {
        let encode = |text: &str| zstd::bulk::compress(text.as_bytes(), 1).unwrap();
        let head = format!("{FIRST}\ntoken a\n");
        for (bytes, error) in [
            (b"no frame".to_vec(), StoredPlanError::Frame),
            (encode("harmonia-gc-plan 2\ntoken a\n"), StoredPlanError::Format),
            (encode(FIRST), StoredPlanError::Line(2)),
            (encode(&format!("{head}narinfo x\n")), StoredPlanError::Line(3)),
            (encode(&format!("{head}nar {}.nar.zst/\n", "0".repeat(52))), StoredPlanError::Line(3)),
            (encode(&format!("{head}unnamed -1 {}\n", file(1))), StoredPlanError::Line(3)),
            (encode(&format!("{head}delete *\n")), StoredPlanError::Line(3)),
            (vec![0; MAX_PLAN + 1], StoredPlanError::Frame),
        ] {
            assert_eq!(StoredPlan::decode(&bytes), Err(error));
        }
        let mut broken = stored().encode().unwrap();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        assert_eq!(StoredPlan::decode(&broken), Err(StoredPlanError::Frame));
    }

    #[test]
    fn a_plan_that_is_cut_can_be_read() {
        let mut large = stored();
        large.plan.narinfos = (0..=MAX_NARINFOS as u64).map(part).collect();
        assert_eq!(StoredPlan::decode(&large.encode().unwrap()), Err(StoredPlanError::TooMany));
        StoredPlan::cut(&mut large.plan);
        assert_eq!(StoredPlan::decode(&large.encode().unwrap()), Ok(large));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "(narinfo|nar|unnamed|token)? ?[0-9a-z. ]{0,60}") {
            let _ = StoredPlan::decode(&bytes);
            let text = format!("{FIRST}\ntoken a\n{text}\n");
            let _ = StoredPlan::decode(&zstd::bulk::compress(text.as_bytes(), 1).unwrap());
        }
    }
}
