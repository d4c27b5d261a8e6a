//! Swift while storage nodes or the proxy are killed, hang, and come back.

use crate::support::engine::{Engine, Kind, Node};
use crate::support::s3::{S3, elements, error_code};

/// Puts objects until one is stored; returns what the others were answered.
fn put_until_stored(s3: &S3, key: &str) -> Vec<(u16, String)> {
    let answers = (0..200).map(|_| s3.put(key, b"stored")).map(|it| (it.status, error_code(&it)));
    let refused: Vec<_> = answers.take_while(|(status, _)| *status != 200).collect();
    assert!(refused.len() < 200, "nothing is stored any more: {:?}", refused.last());
    refused
}

/// Returns the keys with a prefix as soon as a list is answered: a node that was dead is not asked at once.
fn listed(s3: &S3, prefix: &str) -> Vec<String> {
    let mut answers = (0..200).map(|_| s3.ask("GET", "", &[("list-type", "2"), ("prefix", prefix)], &[], b""));
    let answer = answers.find(|it| it.status == 200).expect("nothing is listed any more");
    elements(answer.text(), "Key")
}

#[test]
fn swift_goes_on_without_one_of_its_nodes_and_without_two_it_only_reads() {
    let Some(swift) = Engine::start(Kind::Swift) else { return };
    let s3 = swift.s3();
    let keys: Vec<_> = (0..8).map(|n| format!("before/{n}")).collect();
    for key in &keys {
        assert_eq!(s3.put(key, b"kept").status, 200);
    }

    swift.kill(Node::Storage(2));
    for n in 0..8 {
        assert_eq!(s3.put(&format!("one/{n}"), b"two replicas").status, 200);
        assert_eq!(s3.put_new(&format!("one/{n}"), b"").status, 412);
        assert_eq!(s3.get(&format!("one/{n}")).body, b"two replicas");
    }
    // The servers that could tell the dead one of an object tell no other of it before that.
    assert!(listed(&s3, "one/").iter().all(|key| key.starts_with("one/")));
    swift.repair();
    assert_eq!(listed(&s3, "one/").len(), 8);
    let upload = s3.begin("one/multipart");
    let part = s3.part("one/multipart", &upload, 1, b"one part");
    let completed = s3.complete("one/multipart", &upload, &[part], &[]);
    assert_eq!((completed.status, &*error_code(&completed)), (200, ""));
    assert_eq!(s3.delete("one/0").status, 204);
    assert_eq!(s3.get("one/0").status, 404);

    swift.kill(Node::Storage(1));
    for key in &keys {
        assert_eq!(s3.get(key).body, b"kept");
        let refused = s3.put(&format!("two/{key}"), b"");
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(["SlowDown", "ServiceUnavailable"].contains(&&*error_code(&refused)), "{}", refused.text());
    }

    swift.restart(Node::Storage(1));
    swift.restart(Node::Storage(2));
    let refused = put_until_stored(&s3, "after");
    assert!(refused.iter().all(|(status, _)| *status == 503), "{refused:?}");
    assert_eq!(s3.get("after").body, b"stored");
}

#[test]
fn a_list_of_swift_lacks_what_a_node_missed_until_that_is_repaired() {
    let Some(swift) = Engine::start(Kind::Swift) else { return };
    let s3 = swift.s3();
    assert_eq!(s3.put("missed/0", b"").status, 200);
    swift.kill(Node::Storage(3));
    for n in 1..4 {
        assert_eq!(s3.put(&format!("missed/{n}"), b"").status, 200);
    }
    swift.restart(Node::Storage(3));
    // Only the node that missed them: it alone is asked for lists.
    swift.kill(Node::Storage(1));
    swift.kill(Node::Storage(2));
    assert_eq!(listed(&s3, "missed/"), ["missed/0"]);
    swift.restart(Node::Storage(1));
    swift.restart(Node::Storage(2));
    swift.repair();
    swift.kill(Node::Storage(1));
    swift.kill(Node::Storage(2));
    assert_eq!(listed(&s3, "missed/"), ["missed/0", "missed/1", "missed/2", "missed/3"]);
    for n in 1..4 {
        assert_eq!(s3.get(&format!("missed/{n}")).status, 200);
    }
}

#[test]
fn without_any_node_swift_says_that_there_is_no_bucket() {
    let Some(swift) = Engine::start(Kind::Swift) else { return };
    let s3 = swift.s3();
    assert_eq!(s3.put("kept", b"kept").status, 200);
    let nodes = [1, 2, 3].map(Node::Storage);
    for node in nodes {
        swift.kill(node);
    }
    assert_eq!(s3.get("kept").status, 503);
    for refused in [s3.put("new", b""), s3.ask("GET", "", &[("list-type", "2")], &[], b"")] {
        assert_eq!((refused.status, &*error_code(&refused)), (404, "NoSuchBucket"));
    }
    for node in nodes {
        swift.restart(node);
    }
    put_until_stored(&s3, "after");
    assert_eq!(s3.get("kept").body, b"kept");
}

#[test]
fn what_swift_has_survives_that_all_its_servers_are_killed() {
    let Some(swift) = Engine::start(Kind::Swift) else { return };
    let s3 = swift.s3();
    let nodes = [Node::Front, Node::Storage(1), Node::Storage(2), Node::Storage(3)];
    assert_eq!(s3.put("kept", b"kept").status, 200);
    for node in nodes {
        swift.kill(node);
    }
    assert!(s3.try_ask("GET", "kept", &[], &[], b"").is_err());
    for node in nodes {
        swift.restart(node);
    }
    assert_eq!(s3.get("kept").body, b"kept");
}
