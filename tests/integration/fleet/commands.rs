//! `harmonia bucket publish` and `status` beside a running server that restarts, or cannot put anything.

use std::process::{Command, Stdio};

use super::host::{Host, Item};
use super::shared_bucket::{Fleet, eventually};
use crate::support::engine::Kind;
use crate::support::exit::{OK, UNAVAILABLE};
use crate::support::s3_proxy::Fault;

/// A command that runs meanwhile.
struct Waiting(std::thread::JoinHandle<std::process::Output>);

impl Waiting {
    /// Runs `harmonia bucket publish`.
    fn publish(host: &Host, path: &str) -> Self {
        let mut program: Command = host.program();
        program.args(["bucket", "publish", path]).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(std::thread::spawn(move || program.output().unwrap()))
    }

    /// Waits until it ends, and returns its exit status, its output and its log.
    fn ended(self) -> (Option<i32>, String, String) {
        let output = self.0.join().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn commands_that_publish_wait_while_the_server_restarts_and_return_when_their_closures_are_there() {
    let Some(fleet) = Fleet::shared(Kind::Rclone) else { return };
    let mut host = fleet.host("restarted", "");
    let closures = ["restart-one", "restart-two"].map(|name| Item::closure(name, 6, 2000));
    for items in &closures {
        host.add(items);
    }
    host.proxy.hold_after_writes(3);
    let waiting = closures.each_ref().map(|items| Waiting::publish(&host, &items.last().unwrap().path));
    assert!(host.proxy.wait_until_held_or(|| false));
    host.server.terminate();
    host.server.ended();
    assert!(!closures.iter().all(|items| fleet.has(&items.last().unwrap().path)));
    host.proxy.heal();
    host.restart();
    for (waiting, items) in waiting.into_iter().zip(&closures) {
        let (code, output, log) = waiting.ended();
        assert_eq!(code, Some(OK), "{log}");
        assert!(output.starts_with("published 1 path with all that they refer to"), "{output}");
        assert!(log.contains("waiting 60 s for the server to come back: "), "{log}");
        assert!(items.iter().all(|item| fleet.has(&item.path)), "{log}");
    }
    host.kill();
    let (code, _, log) = Waiting::publish(&host, &closures[0][0].path).ended();
    assert!(code == Some(UNAVAILABLE) && log.contains("no harmonia server is listening"), "{log}");
}

#[test]
fn status_says_what_waits_in_the_running_server_and_for_how_long() {
    let Some(fleet) = Fleet::shared(Kind::Rclone) else { return };
    let host = fleet.host("queueing", "publish = \"all\"\n");
    let status = |arguments: &[&str]| {
        let output = host.command(&[&["bucket", "status"], arguments].concat());
        assert_eq!(output.status.code(), Some(OK), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(
        status(&[]).contains("the running server, queueing: 0 queued, 0 paths built otherwise than in the bucket\n")
    );
    host.proxy.fail("PUT", None, Fault::SlowDown, None);
    let items = Item::closure("queueing", 6, 2000);
    host.add(&items);
    let server = |status: &str| serde_json::from_str::<serde_json::Value>(status).unwrap()["server"].clone();
    eventually("the queue is full", || {
        let server = server(&status(&["--json"]));
        server["queued"] == 6 && server["lag"].as_u64().unwrap() >= 2
    });
    let text = status(&[]);
    assert!(text.contains("the running server, queueing: 6 queued, the first for "), "{text}");
    host.proxy.heal();
    eventually("the queue is empty", || server(&status(&["--json"]))["queued"] == 0);
    let text = status(&[]);
    let line = text.lines().find(|line| line.starts_with("queueing: seen ")).unwrap_or_default();
    assert!(line.contains(" queued, harmonia ") && line.contains("published "), "{text}");
}
