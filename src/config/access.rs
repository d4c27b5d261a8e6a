//! Access settings: `[access]`, `[[access.jwt]]` and `[[access.grant]]`.
//!
//! Leaves who a client is, and files of users and keys, to [`crate::access`].

use std::path::PathBuf;

use super::error::{Collected, Problem};
use super::file::ConfigFile;
use super::principal::{PrincipalClass, PrincipalPattern};
use super::rights::Rights;
use super::tables::{GrantTable, JwtTable};
use super::views::ViewConfig;

const TABLE: &str = "access";
const JWT: &str = "access.jwt";
const GRANT: &str = "access.grant";
/// Claim that names the principal by default (RFC 7519, section 4.1.2).
const DEFAULT_NAME_CLAIM: &str = "sub";

/// Who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AccessConfig {
    /// Rights of clients without credentials, to the whole store.
    pub anonymous: Rights,
    /// File with names and hashes of passwords.
    pub users_file: Option<PathBuf>,
    /// Certificates of the authorities that issue client certificates, in PEM.
    pub client_ca_path: Option<PathBuf>,
    /// Issuers of tokens.
    pub jwt: Vec<JwtConfig>,
    /// Rights of principals.
    pub grants: Vec<Grant>,
}

/// Issuer of JSON Web Tokens that are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtConfig {
    /// Required value of the claim `iss`.
    pub issuer: String,
    /// Required value, or one of the values, of the claim `aud`.
    pub audience: String,
    /// Source of the issuer's public keys.
    pub keys: JwksSource,
    /// Claim whose value is the name of the principal.
    pub name: String,
}

/// Source of a JSON Web Key Set (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksSource {
    /// File, read at start and on reload.
    Path(PathBuf),
    /// URL, fetched in the background.
    Url(String),
}

/// Rights of the principals that match a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Patterns, one of which has to match; at least one.
    pub who: Vec<PrincipalPattern>,
    /// Rights that the grant gives.
    pub may: Rights,
    /// View that `read` is limited to; `None` for the whole store.
    pub view: Option<String>,
}

impl AccessConfig {
    /// Resolves `[access]`, if the file has it. A grant names one of `views`, or none.
    pub(super) fn resolve(
        file: &mut ConfigFile,
        views: &[ViewConfig],
        has_tls: bool,
        (errors, warnings): (&mut Collected, &mut Vec<String>),
    ) -> Option<Self> {
        if !file.has_table(TABLE) {
            return None;
        }
        let client_ca_path = file.access_client_ca_path.take();
        if client_ca_path.is_some() && !has_tls {
            const KEY: &str = "access.client_ca_path";
            errors.push(file.error_at(KEY, Problem::RequiresTls { key: KEY }));
        }
        let mut access = Self {
            anonymous: file.access_anonymous.unwrap_or_default(),
            users_file: file.access_users_file.take(),
            client_ca_path,
            ..Self::default()
        };
        for (index, table) in std::mem::take(&mut file.jwt).into_iter().enumerate() {
            access.jwt.extend(jwt(file, index, table, errors));
        }
        for (index, table) in std::mem::take(&mut file.grants).into_iter().enumerate() {
            let grant = grant(file, index, table, views, errors);
            for pattern in grant.iter().flat_map(|grant| &grant.who) {
                if let Some(key) = access.key_without_which_nobody_is(pattern.class()) {
                    let text = format!("names \"{pattern}\", which nobody can be without {key}");
                    warnings.push(file.warning_in("access.grant.who", index, text));
                }
            }
            access.grants.extend(grant);
        }
        if !access.rights_of_anybody().contains(Rights::READ) {
            let text = "gives nobody the right to read\n  help: add anonymous = [\"read\"], or an [[access.grant]] with may = [\"read\"]";
            warnings.push(file.warning(TABLE, text));
        }
        Some(access)
    }

    /// Returns the rights that anybody has.
    #[must_use]
    pub(crate) fn rights_of_anybody(&self) -> Rights {
        self.grants.iter().fold(self.anonymous, |rights, grant| rights.union(grant.may))
    }

    /// Returns the key that principals of a class need, unless it is set.
    fn key_without_which_nobody_is(&self, class: PrincipalClass) -> Option<&'static str> {
        let (is_set, key) = match class {
            PrincipalClass::Anonymous => return None,
            PrincipalClass::User => (self.users_file.is_some(), "access.users_file"),
            PrincipalClass::Certificate => (self.client_ca_path.is_some(), "access.client_ca_path"),
            PrincipalClass::Jwt => (!self.jwt.is_empty(), "[[access.jwt]]"),
        };
        (!is_set).then_some(key)
    }
}

fn jwt(file: &ConfigFile, index: usize, table: JwtTable, errors: &mut Collected) -> Option<JwtConfig> {
    let missing = |key| file.error_in(JWT, index, Problem::MissingKey { table: format!("[[{JWT}]]"), key });
    let keys = match (table.jwks_path, table.jwks_url) {
        (Some(path), None) => Ok(JwksSource::Path(path)),
        (None, Some(url)) => Ok(JwksSource::Url(url)),
        (None, None) => Err(missing("jwks_path")),
        (Some(_), Some(_)) => Err(file.error_in("access.jwt.jwks_url", index, Problem::TwoJwks)),
    };
    let keys = errors.keep(keys);
    let issuer = errors.keep(table.issuer.ok_or_else(|| missing("issuer")));
    let audience = errors.keep(table.audience.ok_or_else(|| missing("audience")));
    let name = table.name.unwrap_or_else(|| DEFAULT_NAME_CLAIM.to_owned());
    Some(JwtConfig { issuer: issuer?, audience: audience?, keys: keys?, name })
}

fn grant(
    file: &ConfigFile,
    index: usize,
    table: GrantTable,
    views: &[ViewConfig],
    errors: &mut Collected,
) -> Option<Grant> {
    let missing = |key| file.error_in(GRANT, index, Problem::MissingKey { table: format!("[[{GRANT}]]"), key });
    let may = errors.keep(table.may.ok_or_else(|| missing("may")));
    if table.who.is_empty() {
        errors.push(missing("who"));
    }
    let view = table.view.filter(|name| {
        let is_known = views.iter().any(|view| view.name == *name);
        if !is_known {
            errors.push(file.error_in("access.grant.view", index, Problem::UnknownView(name.clone())));
        }
        is_known
    });
    Some(Grant { who: table.who, may: may?, view })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{loaded, message};

    const FULL: &str = r#"
[access]
anonymous = []
users_file = "/users"

[[access.jwt]]
issuer = "https://issuer"
audience = "https://cache"
jwks_path = "/jwks"
name = "repository"

[[access.jwt]]
issuer = "https://other"
audience = "a"
jwks_url = "https://other/jwks"

[[access.grant]]
who = ["user:alice", "jwt:acme/*"]
may = ["read", "push"]
view = "team-a"

[[access.grant]]
who = ["anonymous"]
may = ["metrics"]

[views.team-a]
roots = ["/nix/var/nix/gcroots/team-a/*"]

[views.b]
roots = []
"#;

    #[test]
    fn tables_are_read_in_their_order() {
        let (config, warnings) = loaded(FULL);
        assert_eq!(warnings, Vec::<String>::new());
        let access = config.access.unwrap();
        assert_eq!((access.anonymous, access.users_file), (Rights::NONE, Some("/users".into())));
        let jwt = |issuer: &str, audience: &str, keys, name: &str| JwtConfig {
            issuer: issuer.into(),
            audience: audience.into(),
            keys,
            name: name.into(),
        };
        assert_eq!(
            access.jwt,
            [
                jwt("https://issuer", "https://cache", JwksSource::Path("/jwks".into()), "repository"),
                jwt("https://other", "a", JwksSource::Url("https://other/jwks".into()), "sub"),
            ]
        );
        let who = |patterns: &[&str]| patterns.iter().map(|it| it.parse().unwrap()).collect();
        let [first, second] = &access.grants[..] else { panic!("{:?}", access.grants) };
        let may = Rights::READ.union(Rights::PUSH);
        assert_eq!(*first, Grant { who: who(&["user:alice", "jwt:acme/*"]), may, view: Some("team-a".into()) });
        assert_eq!(*second, Grant { who: who(&["anonymous"]), may: Rights::METRICS, view: None });
        let names: Vec<_> = config.views.iter().map(|view| (view.name.as_str(), view.roots.len())).collect();
        assert_eq!(names, [("b", 0), ("team-a", 1)]);
    }

    #[test]
    fn a_table_without_keys_makes_the_cache_private() {
        assert_eq!(loaded("").0.access, None);
        let (config, warnings) = loaded("[access]");
        assert_eq!(config.access, Some(AccessConfig::default()));
        assert!(
            warnings[0].starts_with("config.toml:1: access gives nobody the right to read\n  help: "),
            "{warnings:?}"
        );
    }

    #[test]
    fn each_mistake_in_a_table_is_reported_with_its_line() {
        let help = "\n  help: ";
        for (text, expected) in [
            (
                "[access]\nuser_file = \"/u\"",
                "config.toml:2: unknown key \"access.user_file\"\n  help: did you mean \"access.users_file\"?"
                    .to_owned(),
            ),
            (
                "[access]\nanonymous = [\"write\"]",
                format!(
                    "config.toml:2: access.anonymous: \"write\" is not a right{help}write \"read\", \"push\" or \"metrics\""
                ),
            ),
            (
                "[access]\nanonymous = \"read\"",
                "config.toml:2: access.anonymous: expected an array of rights, found \"read\"".to_owned(),
            ),
            (
                "[access.grant]\nwho = []",
                "config.toml:1: access.grant: expected an array of tables, found a table".to_owned(),
            ),
            (
                "[access]\ngrant = [\n3,\n]",
                "config.toml:3: access.grant: expected an array of tables, found 3".to_owned(),
            ),
            ("access = 3", "config.toml:1: access: expected a table, found 3".to_owned()),
            ("views = 3", "config.toml:1: views: expected a table, found 3".to_owned()),
            ("views.a = 3", "config.toml:1: views.NAME: expected a table, found 3".to_owned()),
            (
                "[views.a]\nrots = []\nroots = []",
                "config.toml:2: unknown key \"views.a.rots\"\n  help: did you mean \"views.NAME.roots\"?".to_owned(),
            ),
            (
                "[views.a]\nroots = [\"../a\"]",
                format!(
                    "config.toml:2: views.NAME.roots: \"../a\" is not an absolute path{help}write a store path, a symlink to one, a profile, or a pattern such as \"/nix/var/nix/gcroots/team-a/*\""
                ),
            ),
            ("\n[views.a]", format!("config.toml:2: [views.a] has no key \"roots\"{help}set it")),
            (
                "[views.\"a b\"]\nroots = []",
                format!(
                    "config.toml:1: \"a b\" cannot be the name of a view{help}use letters, digits, dots, hyphens and underscores, 64 at most"
                ),
            ),
            (
                "[[access.grant]]\nwho = [\"bob\"]\nmay = []",
                format!(
                    "config.toml:2: access.grant.who: \"bob\" names no principal{help}write \"user:NAME\", \"cert:NAME\", \"jwt:NAME\", where * matches any characters, or \"anonymous\""
                ),
            ),
            (
                "[[access.grant]]\nwho = [\"anonymous\"]\nmay = [\"read\"]\n[[access.grant]]\nwho = [\"anonymous\"]",
                format!("config.toml:4: [[access.grant]] has no key \"may\"{help}set it"),
            ),
            ("[[access.grant]]\nmay = []", format!("config.toml:1: [[access.grant]] has no key \"who\"{help}set it")),
            (
                "[[access.grant]]\nwho = [\"anonymous\"]\nmay = [\"read\"]\nview = \"x\"",
                format!("config.toml:4: access.grant.view: there is no view \"x\"{help}add [views.x] with its roots"),
            ),
            (
                "[access]\nclient_ca_path = \"/c\"",
                format!(
                    "config.toml:2: access.client_ca_path has no effect without TLS{help}set tls_cert_path and tls_key_path, or remove it"
                ),
            ),
            (
                "[[access.jwt]]\naudience = \"a\"\njwks_path = \"/k\"",
                format!("config.toml:1: [[access.jwt]] has no key \"issuer\"{help}set it"),
            ),
            (
                "[[access.jwt]]\nissuer = \"i\"\naudience = \"a\"\njwks_path = \"/k\"\njwks_url = \"https://h/\"",
                format!(
                    "config.toml:5: access.jwt.jwks_path and access.jwt.jwks_url are both set{help}keep one of them"
                ),
            ),
        ] {
            assert_eq!(message(text), expected, "{text}");
        }
    }

    #[test]
    fn a_pattern_that_nobody_can_match_is_warned_about() {
        let (_, warnings) = loaded("[[access.grant]]\nwho = [\"user:a\", \"anonymous\"]\nmay = [\"read\"]");
        assert_eq!(
            warnings,
            ["config.toml:2: access.grant.who names \"user:a\", which nobody can be without access.users_file"]
        );
    }
}
