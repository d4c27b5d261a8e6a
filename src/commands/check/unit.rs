//! `harmonia check --unit`: checks an installed service as its user, with its credentials, environment and sandbox.
//!
//! systemd sets these up: the unit's program runs as a transient service with the unit's settings (systemd-run(1)). Sockets are
//! checked here, because they belong to another unit.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::report::Report;
use crate::config::StoreDirectories;
use crate::error::Error;
use crate::process::unit::{Unit, words};
use crate::signing::SigningKeys;

/// Settings of systemd.exec(5) that decide what a service can read, write and reach, as `systemctl show` prints them.
const SETTINGS: [&str; 28] = [
    "User",
    "Group",
    "SupplementaryGroups",
    "Environment",
    "PassEnvironment",
    "UnsetEnvironment",
    "UMask",
    "WorkingDirectory",
    "RootDirectory",
    "CacheDirectory",
    "CacheDirectoryMode",
    "StateDirectory",
    "StateDirectoryMode",
    "LogsDirectory",
    "LogsDirectoryMode",
    "ProtectHome",
    "ProtectSystem",
    "ReadWritePaths",
    "ReadOnlyPaths",
    "InaccessiblePaths",
    "BindPaths",
    "BindReadOnlyPaths",
    "TemporaryFileSystem",
    "PrivateUsers",
    "PrivateNetwork",
    "RestrictAddressFamilies",
    "IPAddressAllow",
    "IPAddressDeny",
];
/// Settings that `systemctl show` does not print.
const CREDENTIALS: [&str; 4] = ["LoadCredential", "LoadCredentialEncrypted", "SetCredential", "SetCredentialEncrypted"];
/// Prefix of the names of credentials that are signing keys.
const SIGNING_KEY: &str = "sign-key";
/// Name of the credential with the access key of the bucket.
const BUCKET_KEY: &str = "bucket-credentials";
/// First exit status by which systemd reports its own failures.
const SYSTEMD_STATUS: i32 = 200;

/// Checks the service of this name.
pub(crate) fn run(name: &str) -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let system = |cause| Error::System { doing: "ask systemctl about the unit", cause };
    let asked: Vec<_> = SETTINGS.iter().chain(&["ExecStart", "EnvironmentFiles", "TriggeredBy"]).copied().collect();
    let unit = Unit::installed(name, &asked).map_err(system)?.ok_or_else(|| Error::NoUnit(name.to_owned()))?;
    let mut report = Report::default();

    let sockets = words(unit.property("TriggeredBy").unwrap_or_default());
    for socket in sockets.iter().filter(|unit| Path::new(unit).extension().is_some_and(|kind| kind == "socket")) {
        check_socket(socket, &mut report).map_err(system)?;
    }
    let mut command = Command::new("systemd-run");
    command.args(["--wait", "--pipe", "--collect", "--quiet", "--service-type=exec"]);
    for setting in SETTINGS {
        command.args(unit.property(setting).map(|value| format!("--property={setting}={value}")));
    }
    for file in unit.property("EnvironmentFiles").unwrap_or_default().lines() {
        command.arg(format!("--property=EnvironmentFile={}", environment_file(file)));
    }
    let text = Unit::text(name).map_err(system)?;
    for (setting, value) in credentials(&text) {
        if is_usable(setting, &value, &mut report) {
            command.arg(format!("--property={setting}={value}"));
        }
    }
    let Some(program) = unit.property("ExecStart").and_then(program) else {
        return Err(Error::NoUnit(name.to_owned()));
    };
    // Colours and progress are for terminals, and the log is this one's.
    command.arg("--").args(program).arg("check");
    if !sockets.is_empty() {
        command.arg("--listening-is-checked");
    }
    let status = command.status().map_err(|cause| Error::System { doing: "run systemd-run", cause })?;
    match status.code() {
        Some(0) => {}
        Some(code) if code < SYSTEMD_STATUS => report.failed(u8::try_from(code).unwrap_or(1)),
        code => report.problem(Error::UnitCannotStart { unit: name.to_owned(), code }),
    }
    report.finish()
}

/// Checks that the socket unit listens.
fn check_socket(name: &str, report: &mut Report) -> std::io::Result<()> {
    let Some(socket) = Unit::installed(name, &["Listen", "ActiveState", "Result"])? else { return Ok(()) };
    let state = socket.property("ActiveState").unwrap_or_default();
    if state == "active" {
        let addresses = socket.property("Listen").unwrap_or_default();
        Report::line(format_args!("socket: ok, {name} listens on {addresses}"));
    } else {
        let result = socket.property("Result").filter(|result| *result != "success");
        let state = result.map_or_else(|| state.to_owned(), |result| format!("{state}, {result}"));
        report.problem(Error::SocketDown { unit: name.to_owned(), state });
    }
    Ok(())
}

/// Parses program and arguments of `ExecStart=`, which is printed as `{ path=… ; argv[]=… ; ignore_errors=… }`.
fn program(shown: &str) -> Option<Vec<String>> {
    let (_, arguments) = shown.split_once("argv[]=")?;
    let words = words(arguments.split(" ; ").next()?);
    (!words.is_empty()).then_some(words)
}

/// Parses an `EnvironmentFile=`, which is printed as `/file (ignore_errors=yes)`.
fn environment_file(shown: &str) -> String {
    match shown.rsplit_once(" (ignore_errors=") {
        Some((file, "yes)")) => format!("-{file}"),
        Some((file, _)) => file.to_owned(),
        None => shown.to_owned(),
    }
}

/// Parses the credentials of a unit from the text of its files in their order. An empty value removes those before it.
fn credentials(text: &str) -> Vec<(&str, String)> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for (setting, value) in text.lines().filter_map(|line| line.split_once('=')) {
        let setting = setting.trim();
        if !CREDENTIALS.contains(&setting) {
            continue;
        }
        match value.trim() {
            "" => found.retain(|(other, _)| *other != setting),
            // The only specifier that a path needs.
            value => found.push((setting, value.replace("%%", "%"))),
        }
    }
    found
}

/// Returns whether systemd could pass the credential on; logs what is wrong with the file otherwise.
fn is_usable(setting: &str, value: &str, report: &mut Report) -> bool {
    let Some((id, path)) = value.split_once(':').filter(|_| setting == "LoadCredential") else { return true };
    let path = PathBuf::from(path);
    if id == BUCKET_KEY && path.is_absolute() {
        let read = std::fs::File::open(&path).map_err(|cause| Error::Credential { id: BUCKET_KEY, path, cause });
        return report.ok(read).is_some();
    }
    if !path.is_absolute() || !id.starts_with(SIGNING_KEY) || path.is_dir() {
        return true;
    }
    // As root, like systemd.
    report.ok(SigningKeys::load(&[path], None, &StoreDirectories::nix())).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_prints_is_read() {
        let shown =
            "{ path=/usr/bin/harmonia ; argv[]=/usr/bin/harmonia --config /etc/h.toml ; ignore_errors=no ; pid=0 }";
        assert_eq!(program(shown).unwrap(), ["/usr/bin/harmonia", "--config", "/etc/h.toml"]);
        assert_eq!(program("{ path= ; }"), None);
        assert_eq!(environment_file("/etc/default/harmonia (ignore_errors=yes)"), "-/etc/default/harmonia");
        assert_eq!(environment_file("/a b (ignore_errors=no)"), "/a b");
    }

    #[test]
    fn credentials_are_those_of_all_files_unless_one_takes_them_back() {
        let text = "# /usr/lib/harmonia.service\n[Service]\nLoadCredential=sign-key-1:/a\nSetCredential=x:y\n\n# /etc/drop-in\n\
                    [Service]\nLoadCredential=\nLoadCredential=sign-key-2:/100%%\n#LoadCredential=sign-key-3:/c\n";
        let expected = [("SetCredential", "x:y".to_owned()), ("LoadCredential", "sign-key-2:/100%".to_owned())];
        assert_eq!(credentials(text), expected);
    }
}
