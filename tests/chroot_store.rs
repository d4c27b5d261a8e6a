//! A store that lies elsewhere than it says: filled by `nix … --store /guest`, served by `real_nix_store` and a daemon
//! command.

use std::fs;

use crate::support::client::Client;
use crate::support::content::hash_part;
use crate::support::keys;
use crate::support::prefix::Prefix;
use crate::support::release::Release;
use crate::support::server::Harmonia;

#[test]
fn a_chroot_store_is_served_under_the_names_that_it_says() {
    for release in [Release::Nix2_8, Release::Nix2_26, Release::Nix2_34] {
        let prefix = Prefix::new(release, &[]);
        fs::write(prefix.on_host("/nix/tmp/guest-file"), "of a guest").unwrap();
        let path = prefix.run(&["nix-store", "--store", "/nix/guest", "--add", "/nix/tmp/guest-file"]).text();
        assert!(path.starts_with("/nix/store/"), "{path}");
        let real = prefix.on_host("/nix/guest/nix/store");
        assert!(real.join(path.strip_prefix("/nix/store/").unwrap()).is_file());
        let logs = prefix.on_host("/nix/guest/nix/var/log/nix");
        let drv = format!("{}-guest.drv", "7".repeat(32));
        fs::create_dir_all(logs.join("drvs/77")).unwrap();
        fs::write(logs.join("drvs/77").join(&drv[2..]), "of a guest's build").unwrap();

        let command = prefix.script(&["nix-daemon", "--stdio", "--store", "/nix/guest"]);
        let harmonia = Harmonia::start(&format!(
            "daemon_command = [\"{}\"]\nreal_nix_store = \"{}\"\nlog_dir = \"{}\"\nsign_key_paths = [\"{}\"]\n",
            command.display(),
            real.display(),
            logs.display(),
            keys::OURS.secret.display()
        ));
        let client = Client::new(Release::Nix2_34, harmonia.url(), &[&keys::OURS]);
        let _ = client.copy(&[&path]).stdout();
        assert_eq!(client.verified_closure(&[&path]), [path.as_str()], "{release}");
        let http = harmonia.http();
        assert_eq!(http.get(&format!("/serve/{}", hash_part(&path))).text(), "of a guest", "{release}");
        assert_eq!(http.get(&format!("/log/{drv}")).text(), "of a guest's build", "{release}");
    }
}
