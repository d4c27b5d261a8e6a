//! The client before a server that answers with given bytes.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;

use super::{Connection, Http};

/// A server that answers the requests on its only connection with these bytes in turn.
fn scripted(answers: Vec<&'static str>) -> (Http, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = Http::new(listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut asked = String::new();
        for answer in answers {
            while !asked.ends_with("\r\n\r\n") {
                assert_ne!(reader.read_line(&mut asked).unwrap(), 0, "no more requests");
            }
            asked.push('|');
            stream.write_all(answer.as_bytes()).unwrap();
        }
        asked
    });
    (http, server)
}

#[test]
fn a_body_is_read_by_its_length_its_chunks_or_the_end_of_the_connection() {
    for (answer, body) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", "abc"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n",
            "abc0123456789",
        ),
        ("HTTP/1.1 404 Not Found\r\nX-Name:  Value \r\n\r\nabc", "abc"),
    ] {
        let (http, _) = scripted(vec![answer]);
        assert_eq!(http.get("/x").text(), body);
    }
}

#[test]
fn a_truncated_body_is_distinguished_from_a_complete_one() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ] {
        let (http, _) = scripted(vec![answer]);
        let response = http.request(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((response.status, response.complete), (200, false), "{answer}");
    }
}

#[test]
fn a_request_is_sent_as_it_is_and_a_head_has_no_body() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-Name:  Value \r\n\r\n";
    let (http, server) = scripted(vec![answer]);
    let response = http.head("/a/../b");
    assert_eq!(response.header("x-name"), Some("Value"));
    assert_eq!((response.header("content-length"), response.body.len()), (Some("3"), 0));
    let asked = server.join().unwrap();
    assert_eq!(asked, format!("HEAD /a/../b HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n|", http.address));
}

#[test]
fn a_connection_carries_several_requests() {
    let answer = "HTTP/1.1 204 No Content\r\n\r\n";
    let (http, server) = scripted(vec![answer, answer]);
    let mut connection = Connection::open(http.address).unwrap();
    for path in ["/1", "/2"] {
        connection.send(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(connection.receive(false).unwrap().status, 204);
    }
    assert_eq!(server.join().unwrap(), "GET /1 HTTP/1.1\r\n\r\n|GET /2 HTTP/1.1\r\n\r\n|");
}
