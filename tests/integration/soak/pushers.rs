//! Clients that push: right and wrong uploads, with and without the right to, some broken off. None of what is wrong is ever
//! valid, and what a response calls added is.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use harmonia_protocol::nix32;
use ring::digest::{SHA256, digest};

use super::World;
use super::clients::{PAUSE, count};
use crate::support::dice::Dice;
use crate::support::http::{Http, Response};
use crate::support::keys;
use crate::support::scratch;
use crate::support::store_item::{StoreItem, hash_part, noise};

/// The password of the user who may push, and its hash.
const PASSWORD: &str = "abcdefghijklmnopqrstuvwxyz";
const HASH: &str = "$2a$08$aTsUwsyowQuzRrDqFflhgekJ8d9/7Z3GV3UcgvzQW3J5zMyrTvlz.";
/// The user and the password, in Base64.
const CREDENTIALS: &str = "cHVzaGVyOmFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6";
/// Number of paths that one client pushes again and again.
const PATHS: usize = 4;
/// Largest file that is pushed, in bytes.
const MOST: usize = 3 << 20;

/// Returns the lines of the configuration that let one user push and everybody read.
pub(super) fn config(state: &Path) -> String {
    assert_eq!(data_encoding::BASE64.encode(format!("pusher:{PASSWORD}").as_bytes()), CREDENTIALS);
    let users: PathBuf = scratch::fresh_dir().join("users");
    fs::write(&users, format!("pusher:{HASH}\n")).unwrap();
    fs::set_permissions(&users, Permissions::from_mode(0o600)).unwrap();
    format!(
        "[push]\nmax_uploads = 3\nmax_spool_size = \"32 MiB\"\n[access]\nanonymous = [\"read\", \"metrics\"]\nusers_file = \"{}\"\n\
         [[access.grant]]\nwho = [\"user:pusher\"]\nmay = [\"push\"]\n[audit]\nfile = \"{}\"\n",
        users.display(),
        state.join("audit.log").display()
    )
}

/// Outcomes of pushes.
#[derive(Debug, Default)]
pub(super) struct Pushes {
    pub(super) added: AtomicU64,
    refused: AtomicU64,
    unavailable: AtomicU64,
    broken_off: AtomicU64,
}

/// A client with paths of its own.
pub(super) struct Pusher<'w> {
    world: &'w World,
    dice: Dice,
    items: Vec<StoreItem>,
}

impl<'w> Pusher<'w> {
    /// Creates a client whose paths have this number in their hash parts.
    pub(super) fn new(world: &'w World, mut dice: Dice, number: usize) -> Self {
        let item = |index: usize| {
            let mut item = StoreItem::file(&noise(1 + dice.below(MOST)));
            // Not all zeros, which is the path that nobody ever has.
            item.path = format!("/nix/store/{:02}{index:030}-pushed", number + 1);
            item
        };
        let items = (0..PATHS).map(item).collect();
        Self { world, dice, items }
    }

    /// Pushes a random path, rightly or wrongly.
    pub(super) fn push(&mut self) {
        let item = self.dice.pick(&self.items).clone();
        match self.dice.below(8) {
            0 => self.without_the_right(&item),
            1 => self.breaks_off(&item),
            2 => self.is_refused(&item, &item.nar[..item.nar.len() - 8]),
            3 => {
                let mut other = item.nar.clone();
                let at = self.dice.below(other.len());
                other[at] ^= 1;
                self.is_refused(&item, &other);
            }
            _ => self.rightly(&item),
        }
    }

    fn rightly(&self, item: &StoreItem) {
        let answered = self.upload(item, &item.nar);
        let Some(response) = answered else { return count(&self.world.pushes.broken_off) };
        match response.status {
            200 => {
                count(&self.world.pushes.added);
                self.world.pushed.lock().unwrap().insert(item.path.clone(), item.nar.clone());
            }
            // The NAR was removed by a restart, or another has it in its turn.
            408 | 409 | 502 | 503 => count(&self.world.pushes.unavailable),
            other => panic!("{} was refused: {other} {}", item.path, response.text()),
        }
    }

    /// Pushes another NAR with a narinfo that is signed for the right one.
    fn is_refused(&self, item: &StoreItem, nar: &[u8]) {
        let Some(response) = self.upload(item, nar) else { return count(&self.world.pushes.broken_off) };
        if response.status == 200 {
            // The path is valid, so it needs no NAR: an earlier push has added it, whatever that was answered. At the end it has
            // to have the right NAR.
            self.world.pushed.lock().unwrap().insert(item.path.clone(), item.nar.clone());
        } else {
            assert!(response.status >= 400, "a wrong NAR of {} was answered {}", item.path, response.status);
        }
        count(&self.world.pushes.refused);
    }

    fn without_the_right(&self, item: &StoreItem) {
        let target = nar_target(&item.nar);
        for (credentials, statuses) in [("", &[401, 403, 503][..]), ("Authorization: Basic eDp5\r\n", &[401, 503])] {
            let Some(response) = self.put(&target, credentials, &item.nar) else { continue };
            assert!(statuses.contains(&response.status), "{}: {}", response.status, response.text());
            count(&self.world.pushes.refused);
        }
    }

    /// Disconnects in the middle of a NAR.
    fn breaks_off(&mut self, item: &StoreItem) {
        let some = self.dice.below(item.nar.len());
        let Ok(mut connection) = Http::new(self.world.address).connect() else { return };
        let head = head(&nar_target(&item.nar), &authorization(), item.nar.len());
        let _ = connection.send(head.as_bytes()).and_then(|()| connection.send(&item.nar[..some]));
        count(&self.world.pushes.broken_off);
    }

    /// Uploads a NAR and the narinfo of an item that has it in place of its own.
    fn upload(&self, item: &StoreItem, nar: &[u8]) -> Option<Response> {
        let target = nar_target(nar);
        let response = self.put(&target, &authorization(), nar)?;
        if response.status != 200 {
            return Some(response);
        }
        let signature = keys::FOREIGN.sign(item.fingerprint().as_bytes());
        let narinfo = format!(
            "StorePath: {}\nURL: {}\nCompression: none\nNarHash: sha256:{}\nNarSize: {}\nReferences: \nSig: {signature}\n",
            item.path,
            &target[1..],
            item.nar_hash_in_nix32(),
            item.nar_size
        );
        self.put(&item.narinfo_url(), &authorization(), narinfo.as_bytes())
    }

    /// Sends a PUT; `None` if the connection breaks.
    fn put(&self, target: &str, fields: &str, body: &[u8]) -> Option<Response> {
        let Ok(mut connection) = Http::new(self.world.address).connect() else {
            std::thread::sleep(PAUSE);
            return None;
        };
        connection.send(head(target, fields, body.len()).as_bytes()).ok()?;
        // The server may respond before it has read all of it.
        let _ = connection.send(body);
        connection.receive(false).ok().filter(|response| response.complete)
    }
}

fn authorization() -> String {
    format!("Authorization: Basic {CREDENTIALS}\r\n")
}

fn head(target: &str, fields: &str, length: usize) -> String {
    format!("PUT {target} HTTP/1.1\r\nHost: c\r\n{fields}Content-Length: {length}\r\n\r\n")
}

fn nar_target(nar: &[u8]) -> String {
    format!("/nar/{}.nar", nix32::encode(digest(&SHA256, nar).as_ref()))
}

/// Checks that each path that was added and is still valid has its bytes, and that the spool has no part of a file.
pub(super) fn all_is_right(plant: &super::faults::Plant, world: &World) {
    let daemon = &plant.daemon;
    assert!(world.pushes.added.load(Ordering::Relaxed) > 0, "nothing was pushed: {:?}", world.pushes);
    for (path, nar) in &*world.pushed.lock().unwrap() {
        let url = format!("/{}.narinfo", hash_part(path));
        // The garbage collector may not delete it: it is kept.
        assert_eq!(plant.server.http().get(&url).status, 200, "{path} was pushed and is gone");
        assert!(daemon.run(&["nix-store", "--dump", path]).stdout() == *nar, "{path} has other bytes than were pushed");
        let _ = daemon.run(&["nix-store", "--verify-path", path]).stdout();
    }
    let parts = super::faults::files(&plant.state.join("spool"));
    assert!(parts.iter().all(|file| file.extension().is_none_or(|it| it != "part")), "{parts:?}");
}
