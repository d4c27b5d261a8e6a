//! Configuration of a client that substitutes from this cache: nix.conf and a NixOS module.

/// Returns lines for nix.conf.
pub(super) fn nix_conf(url: &str, keys: &[String]) -> String {
    let mut text = format!("extra-substituters = {url}");
    if !keys.is_empty() {
        text += "\nextra-trusted-public-keys = ";
        text += &keys.join(" ");
    }
    text
}

/// Returns a line for the netrc of a user.
pub(super) fn netrc(url: &str, user: &str) -> String {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split_once('/').map_or(authority, |(authority, _)| authority);
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    format!("machine {} login {user} password …", host.trim_matches(['[', ']']))
}

/// Returns a NixOS module.
pub(super) fn nixos_module(url: &str, keys: &[String]) -> String {
    let mut text = String::from("{\n  nix.settings = {\n");
    text += &nix_list("substituters", &[url.to_owned()]);
    if !keys.is_empty() {
        text += &nix_list("trusted-public-keys", keys);
    }
    text + "  };\n}"
}

/// Renders an option with one string per line.
fn nix_list(name: &str, strings: &[String]) -> String {
    let lines: Vec<_> = strings.iter().map(|string| format!("      {}\n", nix_string(string))).collect();
    format!("    {name} = [\n{}    ];\n", lines.concat())
}

/// Renders a string literal of the Nix language.
fn nix_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "\\${"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netrc_names_the_host_without_its_port() {
        for (url, host) in [
            ("https://cache.example.org", "cache.example.org"),
            ("http://cache:5000/below", "cache"),
            ("http://[2001:db8::1]:5000", "2001:db8::1"),
            ("http://[2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(netrc(url, "alice"), format!("machine {host} login alice password …"));
        }
    }

    #[test]
    fn no_key_name_breaks_out_of_its_nix_string() {
        let odd = ["<b>\"${x}\\-1:AAAA".to_owned()];
        assert!(nixos_module("http://cache", &odd).contains(r#""<b>\"\${x}\\-1:AAAA""#));
    }
}
