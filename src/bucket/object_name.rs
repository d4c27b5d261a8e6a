//! Names of the objects in a bucket, below its prefix.
//!
//! The first part is Nix's own layout (`BinaryCacheStore` in Nix), so that `nix`, a web server or a CDN can read the bucket
//! without harmonia. Everything else is below `harmonia/v1/`. A name that parses is written as it was read.

use std::fmt;
use std::str::FromStr as _;
use std::time::{Duration, SystemTime};

use harmonia_protocol::{HashPart, StorePath};

use super::file_hash::NarFile;
use crate::config::HostName;
use crate::store::seconds_since_epoch;

/// Folder of everything that Nix does not know.
pub(crate) const OWN: &str = "harmonia/v1/";
/// Digits of an epoch: milliseconds since 1970 up to the year 2286.
const EPOCH_DIGITS: usize = 13;
/// Digits of the number of a segment in its epoch: one a second for three years.
const SEQUENCE_DIGITS: usize = 8;
const MAX_SEQUENCE: u32 = 99_999_999;
/// Digits of the number of a garbage collection.
const RUN_DIGITS: usize = 8;
/// Number of 1970-01-01 among the days that `time` counts.
const FIRST_DAY: i32 = 2_440_588;
const SECONDS_OF_DAY: u64 = 86_400;
/// Characters of a build ID, which are hexadecimal: 20 bytes by SHA-1, up to 32 of other linkers.
const BUILD_ID: std::ops::RangeInclusive<usize> = 2..=64;
/// Longest name of a pin, in bytes.
const MAX_PIN: usize = 64;

/// Name of an object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ObjectName {
    /// `nix-cache-info`: store directory and priority.
    CacheInfo,
    /// `HASH.narinfo`: metadata of a path.
    NarInfo(HashPart),
    /// `HASH.ls`: listing of a path's files.
    Listing(HashPart),
    /// `nar/FILEHASH.nar.zst`: contents of paths.
    Nar(NarFile),
    /// `log/DRV`: build log of a derivation.
    Log(StorePath),
    /// `debuginfo/BUILDID`: the path that has this debug info.
    DebugInfo(Box<str>),
    /// `harmonia/v1/hosts/HOST.json`: who is there.
    Host(HostName),
    /// `harmonia/v1/index/HOST/EPOCH-SEQ.zst`: what a host has published and removed.
    Segment(HostName, SegmentId),
    /// `harmonia/v1/latest`: the last segments of hosts.
    Latest,
    /// `harmonia/v1/pins/NAME.json`: roots that are kept.
    Pin(Box<str>),
    /// `harmonia/v1/roots/HOST.zst`: what the garbage collector of a host keeps.
    Roots(HostName),
    /// `harmonia/v1/used/DAY/HOST.zst`: paths that a host has served on a day.
    Used(Day, HostName),
    /// `harmonia/v1/probes/HOST`: put and deleted by a check.
    Probe(HostName),
    /// `harmonia/v1/gc/RUN/…`: an object of a garbage collection.
    Gc(RunId, GcObject),
}

/// Number of a segment among those of its host. The order is that of publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SegmentId {
    /// When the host began this series, in milliseconds since 1970. A restart begins another one, so that a host that has
    /// forgotten its last number overwrites nothing.
    pub(crate) epoch: u64,
    /// Number in the series, from zero.
    pub(crate) sequence: u32,
}

/// Number of a garbage collection, from 1 without gaps, so that a GET of the next one tells whether there is one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RunId(pub(crate) u64);

/// A day in UTC, written as `2026-11-27`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Day(time::Date);

/// Objects of a garbage collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum GcObject {
    /// `lease.json`: who runs it, written again while it runs.
    Lease,
    /// `plan.zst`: what the run will delete.
    Plan,
    /// `narinfos.zst`: the narinfos that it will delete, to undo that.
    NarInfos,
    /// `done`: the run has ended.
    Done,
}

impl ObjectName {
    /// Parses a name below the prefix; `None` for objects of others.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if let Some(own) = name.strip_prefix(OWN) {
            return Self::parse_own(own);
        }
        if name == "nix-cache-info" {
            return Some(Self::CacheInfo);
        }
        let hash_part = |text: &str| HashPart::from_str(text).ok();
        match name.split_once('/') {
            Some(("nar", file)) => NarFile::parse(file).map(Self::Nar),
            Some(("log", drv)) => StorePath::from_base_name(drv).ok().filter(StorePath::is_derivation).map(Self::Log),
            Some(("debuginfo", id)) => {
                let hex = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
                (BUILD_ID.contains(&id.len()) && id.bytes().all(hex)).then(|| Self::DebugInfo(id.into()))
            }
            Some(_) => None,
            None => match name.split_once('.')? {
                (hash, "narinfo") => hash_part(hash).map(Self::NarInfo),
                (hash, "ls") => hash_part(hash).map(Self::Listing),
                _ => None,
            },
        }
    }

    fn parse_own(name: &str) -> Option<Self> {
        if name == "latest" {
            return Some(Self::Latest);
        }
        let (folder, rest) = name.split_once('/')?;
        match folder {
            "probes" => rest.parse().ok().map(Self::Probe),
            "hosts" => rest.strip_suffix(".json")?.parse().ok().map(Self::Host),
            "index" => {
                let (host, segment) = rest.split_once('/')?;
                Some(Self::Segment(host.parse().ok()?, SegmentId::parse(segment.strip_suffix(".zst")?)?))
            }
            "roots" => rest.strip_suffix(".zst")?.parse().ok().map(Self::Roots),
            "used" => {
                let (day, host) = rest.split_once('/')?;
                Some(Self::Used(Day::parse(day)?, host.strip_suffix(".zst")?.parse().ok()?))
            }
            "pins" => {
                let pin = rest.strip_suffix(".json")?;
                is_pin_name(pin).then(|| Self::Pin(pin.into()))
            }
            "gc" => {
                let (run, object) = rest.split_once('/')?;
                let object = GcObject::ALL.into_iter().find(|known| known.file_name() == object)?;
                Some(Self::Gc(RunId(fixed_number(run, RUN_DIGITS)?), object))
            }
            _ => None,
        }
    }

    /// Returns the folder of a host's segments, with a slash at its end.
    pub(crate) fn segments_of(host: &HostName) -> String {
        format!("{OWN}index/{host}/")
    }
}

/// Returns whether a text can be the name of a pin.
pub(crate) fn is_pin_name(name: &str) -> bool {
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    starts && name.len() <= MAX_PIN && name.bytes().all(named)
}

impl SegmentId {
    /// Returns the epoch of a series that begins at this time.
    pub(crate) fn epoch_of(time: SystemTime) -> u64 {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Parses `EPOCH-SEQ`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (epoch, sequence) = text.split_once('-')?;
        let sequence = fixed_number(sequence, SEQUENCE_DIGITS)?.try_into().ok()?;
        Some(Self { epoch: fixed_number(epoch, EPOCH_DIGITS)?, sequence })
    }

    /// Returns the number that follows in the same epoch; `None` after the last.
    pub(crate) fn next(self) -> Option<Self> {
        let sequence = self.sequence + 1;
        (sequence <= MAX_SEQUENCE).then_some(Self { sequence, ..self })
    }
}

impl GcObject {
    const ALL: [Self; 4] = [Self::Lease, Self::Plan, Self::NarInfos, Self::Done];

    const fn file_name(self) -> &'static str {
        match self {
            Self::Lease => "lease.json",
            Self::Plan => "plan.zst",
            Self::NarInfos => "narinfos.zst",
            Self::Done => "done",
        }
    }
}

impl RunId {
    /// Returns the number of the run that follows.
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0RUN_DIGITS$}", self.0)
    }
}

impl Day {
    /// Returns the day of a time.
    pub(crate) fn of(time: SystemTime) -> Self {
        let seconds = seconds_since_epoch(time);
        let day = i32::try_from(seconds / SECONDS_OF_DAY).unwrap_or(i32::MAX).saturating_add(FIRST_DAY);
        Self(time::Date::from_julian_day(day).unwrap_or(time::Date::MAX))
    }

    /// Parses `2026-11-27`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut part = |digits| fixed_number(parts.next()?, digits);
        let (year, month, day) = (part(4)?, part(2)?, part(2)?);
        let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
        let date = time::Date::from_calendar_date(year.try_into().ok()?, month, day.try_into().ok()?).ok()?;
        (parts.next().is_none() && date.to_julian_day() >= FIRST_DAY).then_some(Self(date))
    }

    /// Returns the end of the day.
    pub(crate) fn end(self) -> SystemTime {
        let days = u64::try_from(self.0.to_julian_day() - FIRST_DAY).unwrap_or(0) + 1;
        SystemTime::UNIX_EPOCH + Duration::from_secs(days * SECONDS_OF_DAY)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.0.to_calendar_date();
        write!(f, "{year:04}-{:02}-{day:02}", u8::from(month))
    }
}

/// Parses a decimal number of exactly so many digits, so that the order of texts is that of numbers.
fn fixed_number(text: &str, digits: usize) -> Option<u64> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0EPOCH_DIGITS$}-{:0SEQUENCE_DIGITS$}", self.epoch, self.sequence)
    }
}

/// Writes the name below the prefix.
impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CacheInfo => f.write_str("nix-cache-info"),
            Self::NarInfo(hash) => write!(f, "{}.narinfo", hash.as_str()),
            Self::Listing(hash) => write!(f, "{}.ls", hash.as_str()),
            Self::Nar(file) => write!(f, "nar/{file}"),
            Self::Log(drv) => write!(f, "log/{drv}"),
            Self::DebugInfo(id) => write!(f, "debuginfo/{id}"),
            Self::Host(host) => write!(f, "{OWN}hosts/{host}.json"),
            Self::Segment(host, id) => write!(f, "{OWN}index/{host}/{id}.zst"),
            Self::Latest => write!(f, "{OWN}latest"),
            Self::Pin(name) => write!(f, "{OWN}pins/{name}.json"),
            Self::Roots(host) => write!(f, "{OWN}roots/{host}.zst"),
            Self::Used(day, host) => write!(f, "{OWN}used/{day}/{host}.zst"),
            Self::Probe(host) => write!(f, "{OWN}probes/{host}"),
            Self::Gc(run, object) => write!(f, "{OWN}gc/{run}/{}", object.file_name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
    const PART: &str = "lq7lf2dg0c05ibn8r201m1cgdcj5i60a";

    #[test]
    fn each_name_of_the_layout_parses_and_is_written_the_same() {
        for name in [
            "nix-cache-info".to_owned(),
            format!("{PART}.narinfo"),
            format!("{PART}.ls"),
            format!("nar/{HASH}.nar.zst"),
            format!("log/{PART}-a?b+c=1.drv"),
            "debuginfo/0123456789abcdef0123456789abcdef01234567".to_owned(),
            "harmonia/v1/hosts/builder-1.json".to_owned(),
            "harmonia/v1/probes/builder-1".to_owned(),
            "harmonia/v1/index/builder-1/1799999999999-00000012.zst".to_owned(),
            "harmonia/v1/pins/release-26.05.json".to_owned(),
            "harmonia/v1/roots/builder-1.zst".to_owned(),
            "harmonia/v1/used/2026-11-27/builder-1.zst".to_owned(),
            "harmonia/v1/gc/00000012/lease.json".to_owned(),
            "harmonia/v1/gc/00000012/plan.zst".to_owned(),
            "harmonia/v1/gc/00000012/narinfos.zst".to_owned(),
            "harmonia/v1/gc/00000012/done".to_owned(),
        ] {
            assert_eq!(ObjectName::parse(&name).map(|it| it.to_string()), Some(name.clone()), "{name}");
        }
    }

    #[test]
    fn what_is_of_others_is_no_name() {
        for name in [
            "",
            "index.html",
            &format!("{PART}.narinfo/"),
            &format!("x/{PART}.narinfo"),
            &format!("{}.narinfo", PART.to_uppercase()),
            &format!("log/{PART}-a"),
            "debuginfo/XY",
            "harmonia/v1/hosts/..json",
            "harmonia/v1/index/a/1-1.zst",
            "harmonia/v1/index/a/b/1799999999999-00000001.zst",
            "harmonia/v1/pins/.json",
            "harmonia/v1/gc/12/plan.zst",
            "harmonia/v1/used/2026-11-31/a.zst",
            "harmonia/v1/used/1969-12-31/a.zst",
            "harmonia/v1/used/2026-11-27-/a.zst",
            "harmonia/v2/hosts/a.json",
        ] {
            assert_eq!(ObjectName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_day_lasts_until_midnight_in_utc() {
        for (seconds, text) in [(0, "1970-01-01"), (1_795_737_599, "2026-11-26"), (1_795_737_600, "2026-11-27")] {
            let day = Day::of(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert_eq!((day.to_string(), Day::parse(text)), (text.to_owned(), Some(day)));
        }
        let day = Day::parse("2026-11-26").unwrap();
        assert_eq!(day.end(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_737_600));
    }

    proptest! {
        #[test]
        fn the_order_of_names_is_that_of_segments(a in (0..10_u64.pow(13), 0..10_u32.pow(8)), b in (0..10_u64.pow(13), 0..10_u32.pow(8))) {
            let [a, b] = [a, b].map(|(epoch, sequence)| SegmentId { epoch, sequence });
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(SegmentId::parse(&a.to_string()), Some(a));
        }

        #[test]
        fn no_text_panics(text in "(harmonia/v1/)?[a-z0-9./-]{0,80}") {
            if let Some(name) = ObjectName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
