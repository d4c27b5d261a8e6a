//! Elements of arrays of tables and named tables, as a file has them: each key optional.

use std::path::PathBuf;

use super::principal::PrincipalPattern;
use super::rights::Rights;

/// Values of the keys in one `[[access.jwt]]`.
#[derive(Debug, Default)]
pub(super) struct JwtTable {
    pub(super) issuer: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) jwks_path: Option<PathBuf>,
    pub(super) jwks_url: Option<String>,
    pub(super) name: Option<String>,
}

/// Values of the keys in one `[[access.grant]]`.
#[derive(Debug, Default)]
pub(super) struct GrantTable {
    pub(super) who: Vec<PrincipalPattern>,
    pub(super) may: Option<Rights>,
    pub(super) view: Option<String>,
}

/// Name of one `[views.NAME]`, and the values of its keys.
#[derive(Debug, Default)]
pub(super) struct ViewTable {
    pub(super) name: String,
    pub(super) roots: Option<Vec<String>>,
}
