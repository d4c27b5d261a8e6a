//! Settings of uploads: `[push]`.

use std::time::Duration;

use harmonia_protocol::signature::PublicKey;

use super::access::AccessConfig;
use super::byte_size::ByteSize;
use super::error::{Collected, Problem};
use super::file::ConfigFile;
use super::rights::Rights;

const TABLE: &str = "push";
/// Each has a file and a decoder, whose window may be 64 MiB; a client of Nix sends 25 at once.
const DEFAULT_MAX_UPLOADS: usize = 32;
const DEFAULT_MAX_NAR_SIZE: ByteSize = ByteSize::mebibytes(10 << 10);
const DEFAULT_MAX_SPOOL_SIZE: ByteSize = ByteSize::mebibytes(20 << 10);
const DEFAULT_MAX_SPOOL_SIZE_PER_PRINCIPAL: ByteSize = ByteSize::mebibytes(10 << 10);
/// 30 days.
const DEFAULT_KEEP: Duration = Duration::from_secs(30 * 86_400);

/// Limits of uploads, and what is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushConfig {
    /// Uploads that are received at the same time.
    pub max_uploads: usize,
    /// Upper bound of the size of an uncompressed NAR.
    pub max_nar_size: ByteSize,
    /// Upper bound of the space of uploads on disk.
    pub max_spool_size: ByteSize,
    /// Upper bound of the space of one principal's uploads on disk.
    pub max_spool_size_per_principal: ByteSize,
    /// Time for which a pushed path is kept from the garbage collector after it was last requested.
    pub keep: Duration,
    /// Keys one of which has to have signed a pushed path, unless it is content-addressed; empty to leave that to nix-daemon.
    pub trusted_public_keys: Vec<PublicKey>,
}

impl PushConfig {
    /// Resolves `[push]`, if the file has it.
    pub(super) fn resolve(
        file: &mut ConfigFile,
        access: Option<&AccessConfig>,
        has_state_dir: bool,
        (errors, warnings): (&mut Collected, &mut Vec<String>),
    ) -> Option<Self> {
        if !file.has_table(TABLE) {
            return None;
        }
        if !has_state_dir {
            errors.push(file.error_at(TABLE, Problem::RequiresStateDir { key: TABLE }));
        }
        if !access.is_some_and(|access| access.rights_of_anybody().contains(Rights::PUSH)) {
            let text =
                "accepts nothing: nobody has the right to push\n  help: add an [[access.grant]] with may = [\"push\"]";
            warnings.push(file.warning(TABLE, text));
        }
        Some(Self {
            max_uploads: file.push_max_uploads.unwrap_or(DEFAULT_MAX_UPLOADS),
            max_nar_size: file.push_max_nar_size.unwrap_or(DEFAULT_MAX_NAR_SIZE),
            max_spool_size: file.push_max_spool_size.unwrap_or(DEFAULT_MAX_SPOOL_SIZE),
            max_spool_size_per_principal: file
                .push_max_spool_size_per_principal
                .unwrap_or(DEFAULT_MAX_SPOOL_SIZE_PER_PRINCIPAL),
            keep: file.push_keep.unwrap_or(DEFAULT_KEEP),
            trusted_public_keys: std::mem::take(&mut file.push_trusted_public_keys),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::tests::{loaded, message};

    #[test]
    fn uploads_need_a_directory_and_somebody_who_may_push() {
        let expected = "config.toml:1: push needs a directory for its state\n  help: set state_dir, or StateDirectory= in the unit";
        assert_eq!(message("[push]"), expected);
        let (config, warnings) = loaded("state_dir = \"/s\"\n[push]\nkeep = \"12h\"");
        assert_eq!(config.state_dir, Some("/s".into()));
        assert_eq!(config.push.unwrap().keep, Duration::from_secs(43_200));
        assert!(
            warnings[0].starts_with("config.toml:2: push accepts nothing: nobody has the right to push"),
            "{warnings:?}"
        );
        let (_, warnings) = loaded("state_dir = \"/s\"\naccess.anonymous = [\"read\", \"push\"]\n[push]");
        assert_eq!(warnings, Vec::<String>::new());
    }

    #[test]
    fn a_file_is_well_formed_without_the_state_directory_that_its_unit_sets() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "access.anonymous = [\"read\", \"push\"]\n[push]\n").unwrap();
        assert_eq!(Config::check_syntax(file.path()).unwrap(), Vec::<String>::new());
    }
}
