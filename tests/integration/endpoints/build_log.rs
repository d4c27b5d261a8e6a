//! `/log/…` with the `nix log` of real clients.

use std::fs;
use std::io::Write as _;

use bzip2::Compression;
use bzip2::write::BzEncoder;

use crate::nix::client::Client;
use crate::nix::daemon::Daemon;
use crate::nix::release::Release;
use crate::support::scratch;
use crate::support::server::Harmonia;

const TEXT: &str = "unpacking sources\nbuilding größe\ndone\n";

fn bzip2(text: &[u8]) -> Vec<u8> {
    let mut encoder = BzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_clients_nix_log_prints_it() {
    let daemon = Daemon::shared(Release::Nix2_34);
    let dir = scratch::fresh_dir();
    let path = daemon.content().path("with-deriver");
    let deriver = daemon.path_info(path)["deriver"].as_str().unwrap().to_owned();
    let (start, rest) = deriver.strip_prefix("/nix/store/").unwrap().split_at(2);
    fs::create_dir_all(dir.join("drvs").join(start)).unwrap();
    fs::write(dir.join("drvs").join(start).join(format!("{rest}.bz2")), bzip2(TEXT.as_bytes())).unwrap();
    let socket = daemon.socket();
    let harmonia = Harmonia::start(&format!("daemon_socket = {socket:?}\nbuild_log_dir = {dir:?}\n"));
    for release in Release::ALL {
        let client = Client::new(release, harmonia.url(), &[]);
        assert_eq!(client.log(path).text(), TEXT.trim_end(), "{release}");
    }
}
