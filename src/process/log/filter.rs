//! Parses `RUST_LOG`.

use tracing_subscriber::filter::{Directive, LevelFilter};

/// The default filter. The HTTP/2 library warns about each bad frame of a client, so its warnings are off.
const DEFAULT: [&str; 2] = ["info", "h2=error"];
/// Level of all targets that a filter does not name.
const LEAST: &str = "error";
/// The audit log without a file, which is not for `RUST_LOG` to leave out by the way.
const AUDIT: &str = "audit=info";
/// A parsed filter.
pub(super) struct Filter {
    pub(super) directives: Vec<Directive>,
    /// Parts of the text that are neither a level nor a filter.
    pub(super) unknown: Vec<String>,
}

impl Filter {
    /// Parses the value of `RUST_LOG`.
    pub(super) fn parse(text: &str) -> Self {
        let parts = || text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let directive = |part: &str| part.parse::<Directive>().ok().filter(|_| is_level_or_filter(part));
        let unknown: Vec<_> = parts().filter(|part| directive(part).is_none()).map(str::to_owned).collect();
        let least: &[&str] = if parts().next().is_none() || !unknown.is_empty() { &DEFAULT } else { &[LEAST] };
        // Later directives override earlier ones for the same target.
        let directives = least.iter().copied().chain([AUDIT]).chain(parts()).filter_map(directive).collect();
        Self { directives, unknown }
    }
}

/// Returns whether a part is a level or a filter. Any other bare word would be taken for a module name, and turn all else off.
fn is_level_or_filter(part: &str) -> bool {
    let is_module = |part: &str| part.split("::").next() == Some(env!("CARGO_PKG_NAME"));
    part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok() || is_module(part)
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::EnvFilter;

    use super::*;

    #[test]
    fn errors_are_logged_unless_that_is_turned_off() {
        for (text, expected, unknown) in [
            ("", "info,h2=error", &[][..]),
            ("debug", "debug", &[]),
            ("off", "off", &[]),
            ("info, harmonia=debug", "info,harmonia=debug", &[]),
            ("harmonia::http", "error,harmonia::http", &[]),
            ("h2=trace", "error,h2=trace", &[]),
            ("warn,audit=off", "warn,audit=off", &[]),
            ("verbose", "info,h2=error", &["verbose"]),
            ("warn,harmonia=loud,h2=off", "warn,h2=off", &["harmonia=loud"]),
        ] {
            let filter = Filter::parse(text);
            assert_eq!(filter.unknown, unknown, "{text}");
            let built = filter.directives.into_iter().fold(EnvFilter::default(), EnvFilter::add_directive);
            let sorted = |text: &str| {
                let mut parts: Vec<_> = text.split(',').map(str::to_owned).collect();
                parts.sort();
                parts
            };
            let expected = EnvFilter::builder().parse(format!("audit=info,{expected}")).unwrap();
            assert_eq!(sorted(&built.to_string()), sorted(&expected.to_string()), "{text}");
        }
    }
}
