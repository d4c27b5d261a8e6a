//! Roots of views: `roots` in `[views.NAME]`.

/// Error of a text that cannot be the root of a view.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is not an absolute path\n  help: write a store path, a symlink to one, a profile, or a pattern such as \
     \"/nix/var/nix/gcroots/team-a/*\""
)]
pub(super) struct ViewRootError(String);

/// Parses an element of `roots`: an absolute path without `..`, in which `*` may stand for names.
pub(super) fn view_root(text: &str) -> Result<String, ViewRootError> {
    let is_plain = text.starts_with('/') && !text.contains('\0') && text.split('/').all(|name| name != "..");
    if is_plain { Ok(text.to_owned()) } else { Err(ViewRootError(text.to_owned())) }
}
