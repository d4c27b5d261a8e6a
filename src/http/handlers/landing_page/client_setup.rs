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
    fn no_key_name_breaks_out_of_its_nix_string() {
        let odd = ["<b>\"${x}\\-1:AAAA".to_owned()];
        assert!(nixos_module("http://cache", &odd).contains(r#""<b>\"\${x}\\-1:AAAA""#));
    }
}
