//! `harmonia cache list`: the compressed NARs, as a table or as JSON.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harmonia_protocol::StoreDir;

use crate::cli::ListOrder;
use crate::human_size::human_size;
use crate::nar_cache::CachedNar;

/// Sorts NARs: largest, most recently used or best compressed first, or by name.
pub(super) fn sort(nars: &mut [CachedNar], order: ListOrder) {
    // Makes the order of equal ones the same in each call.
    nars.sort_by(|a, b| a.nar_hash.cmp(&b.nar_hash).then_with(|| a.encoding.cmp(&b.encoding)));
    match order {
        ListOrder::Size => nars.sort_by_key(|nar| Reverse(nar.file_size)),
        ListOrder::NarSize => nars.sort_by_key(|nar| Reverse(nar.nar_size)),
        ListOrder::Ratio => nars.sort_by(|a, b| ratio(b).total_cmp(&ratio(a))),
        ListOrder::Used => nars.sort_by_key(|nar| Reverse(nar.last_used)),
        ListOrder::Name => nars.sort_by(|a, b| name(a).cmp(&name(b))),
    }
}

/// Prints a table for people.
pub(super) fn print(nars: &[CachedNar], directory: &StoreDir, to: &mut impl Write) -> io::Result<()> {
    writeln!(to, "{:>10} {:>10} {:>6}  {:<12} PATH", "NAR", "ON DISK", "RATIO", "LAST USED")?;
    let now = SystemTime::now();
    for nar in nars {
        let (plain, compressed) = (human_size(nar.nar_size), human_size(nar.file_size));
        let path = nar.path.as_ref().map_or_else(|| nar.nar_hash.clone(), |path| format!("{directory}/{path}"));
        let ago = now.duration_since(UNIX_EPOCH + Duration::from_secs(nar.last_used)).unwrap_or_default();
        writeln!(to, "{plain:>10} {compressed:>10} {:>6.2}  {:<12} {path}", ratio(nar), human_age(ago))?;
    }
    Ok(())
}

/// Prints an array for programs.
pub(super) fn print_json(nars: &[CachedNar], directory: &StoreDir, to: &mut impl Write) -> io::Result<()> {
    let with_directory = |nar: &CachedNar| CachedNar {
        path: nar.path.as_ref().map(|path| format!("{directory}/{path}")),
        ..nar.clone()
    };
    let nars: Vec<_> = nars.iter().map(with_directory).collect();
    serde_json::to_writer_pretty(&mut *to, &nars)?;
    writeln!(to)
}

/// Divides the size of the NAR by that of its compressed form.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn ratio(nar: &CachedNar) -> f64 {
    nar.nar_size as f64 / nar.file_size.max(1) as f64
}

/// Returns the name of a path and its hash part.
fn name(nar: &CachedNar) -> Option<(&str, &str)> {
    nar.path.as_deref()?.split_once('-').map(|(hash, name)| (name, hash))
}

/// Renders an age in its largest unit.
fn human_age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (count, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "min"),
        3600..86_400 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "d"),
    };
    format!("{count} {unit} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nar(path: Option<&str>, nar_size: u64, file_size: u64, last_used: u64) -> CachedNar {
        let path = path.map(|name| format!("{:032}-{name}", 1));
        let (nar_hash, encoding) = (format!("sha256:{nar_size}"), "zstd1".to_owned());
        CachedNar { path, nar_hash, encoding, nar_size, file_size, last_used }
    }

    fn some() -> Vec<CachedNar> {
        vec![
            nar(Some("glibc"), 30 << 20, 10 << 20, 1),
            nar(Some("bash"), 5 << 20, 1 << 20, 3),
            nar(None, 12 << 20, 11 << 20, 2),
        ]
    }

    #[test]
    fn each_order_has_the_most_of_it_first() {
        for (order, expected) in [
            (ListOrder::Size, [2, 0, 1]),
            (ListOrder::NarSize, [0, 2, 1]),
            (ListOrder::Ratio, [1, 0, 2]),
            (ListOrder::Used, [1, 2, 0]),
            (ListOrder::Name, [2, 1, 0]),
        ] {
            let mut nars = some();
            sort(&mut nars, order);
            assert_eq!(nars, expected.map(|index| some()[index].clone()), "{order:?}");
        }
    }

    #[test]
    fn a_table_has_sizes_and_ages_as_people_say_them() {
        let mut text = Vec::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let nars = [nar(Some("glibc"), 30 << 20, 10 << 20, now - 7300), nar(None, 10, 20, now)];
        print(&nars, &StoreDir::default(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "       NAR    ON DISK  RATIO  LAST USED    PATH");
        assert_eq!(lines[1], format!("  30.0 MiB   10.0 MiB   3.00  2 h ago      /nix/store/{:032}-glibc", 1));
        assert_eq!(lines[2], "      10 B       20 B   0.50  just now     sha256:10");
        assert_eq!(human_age(Duration::from_secs(200_000)), "2 d ago");
    }
}
