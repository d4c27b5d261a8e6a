//! What a client can decode, where it does not say so itself.

use hyper::header::{HeaderMap, USER_AGENT};

/// The first release of Nix that decodes NARs compressed with zstd.
const ZSTD_SINCE: (u32, u32) = (2, 4);

/// Whether the client takes NARs compressed with zstd: all do but Nix before 2.4, which names itself, as in
/// `curl/7.72.0 Nix/2.3.7`.
pub(super) fn takes_zstd_nars(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let release = agent.split(' ').find_map(|product| product.strip_prefix("Nix/")).and_then(release);
    release.is_none_or(|release| release >= ZSTD_SINCE)
}

/// The first two numbers of a release.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nix_before_2_4_takes_no_zstd() {
        for (agent, takes) in [
            ("curl/7.72.0 Nix/2.3.7", false),
            ("curl/7.72.0 Nix/2.3pre6895_84de821", false),
            ("Nix/1.11.16", false),
            ("Nix/2.3.7 builder", false),
            ("curl/7.85.0 Nix/2.4", true),
            ("curl/8.12.0 Nix/2.26.3", true),
            ("curl/8.12.0 Nix/3.0", true),
            ("curl/8.12.0 Lix/2.3", true),
            ("Nix/unstable", true),
            ("Mozilla/5.0", true),
            ("", true),
        ] {
            let headers = HeaderMap::from_iter([(USER_AGENT, agent.parse().unwrap())]);
            assert_eq!(takes_zstd_nars(&headers), takes, "{agent}");
        }
        assert!(takes_zstd_nars(&HeaderMap::new()));
    }
}
