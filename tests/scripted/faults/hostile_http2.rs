//! Attacks by HTTP/2 frames: floods that cost a server more than the sender, and requests that HTTP/1 would interpret
//! differently. The server closes such a connection, serves the next one, and leaks no resource.

use std::io::Write as _;

use crate::support::footprint::leaves_nothing;
use crate::support::http2_frames::{
    ACK, Answers, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, RawHttp2, SETTINGS,
    WINDOW_UPDATE, deaf, field, frame, get, request, string,
};
use crate::support::scripted_daemon::{Script, ScriptedDaemon};
use crate::support::server::Harmonia;

const NARINFO: &str = "/0123456789abcdfghijklmnpqrsvwxyz.narinfo";
const ENHANCE_YOUR_CALM: u32 = 11;
/// Default of SETTINGS_MAX_FRAME_SIZE.
const MAX_PAYLOAD: usize = 16 * 1024;

/// Starts a server with a daemon that has no path.
fn server() -> (ScriptedDaemon, Harmonia) {
    let daemon = ScriptedDaemon::start(Script::knowing_no_path());
    let harmonia = Harmonia::start(&daemon.config());
    (daemon, harmonia)
}

fn whole(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, block)
}

/// Checks that a new connection gets a response and ends without an error.
fn is_fine(harmonia: &Harmonia, after: &str) {
    let mut connection = RawHttp2::open(harmonia.address());
    connection.send(&whole(1, &get("/health")));
    let answers = connection.finish();
    assert_eq!(answers.statuses(), [(1, 200)], "after {after}");
    assert!(answers.goaway().is_none_or(|code| code == 0), "after {after}: {answers:?}");
}

fn streams() -> impl Iterator<Item = u32> {
    (1..).step_by(2)
}

#[test]
fn streams_that_are_reset_at_once_end_their_connection_and_ask_the_daemon_little() {
    let (daemon, harmonia) = server();
    let wanted = 10_000;
    let flood = || {
        let mut connection = RawHttp2::open(harmonia.address());
        for stream in streams().take(wanted) {
            let reset = frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
            if !connection.send(&[whole(stream, &get(NARINFO)), reset].concat()) {
                break;
            }
        }
        assert_eq!(connection.finish().goaway(), Some(ENHANCE_YOUR_CALM));
    };
    leaves_nothing(harmonia.pid(), flood);
    is_fine(&harmonia, "resets");
    let asked = daemon.seen().queries.len();
    assert!(asked < wanted, "{asked} queries");
}

#[test]
fn errors_that_make_the_server_reset_streams_end_their_connection() {
    let (daemon, harmonia) = server();
    let flood = || {
        let mut connection = RawHttp2::open(harmonia.address());
        // Malformed, which is an error of the stream.
        let block = request("GET", NARINFO, &[("connection", "close")]);
        let _ = streams().take(10_000).all(|stream| connection.send(&whole(stream, &block)));
        assert_eq!(connection.finish().goaway(), Some(ENHANCE_YOUR_CALM));
    };
    leaves_nothing(harmonia.pid(), flood);
    is_fine(&harmonia, "errors");
    assert_eq!(daemon.seen().queries, []);
}

#[test]
fn heads_that_go_on_and_on_end_their_connection() {
    let (daemon, harmonia) = server();
    let long = field("x", &"y".repeat(MAX_PAYLOAD - 8));
    for (case, piece, end) in [
        ("empty", vec![], 0),
        ("a byte", vec![0], 0),
        ("full", long.clone(), 0),
        ("full, of a stream that is read to its end", long, END_STREAM),
    ] {
        let flood = || {
            let mut connection = RawHttp2::open(harmonia.address());
            connection.send(&frame(HEADERS, end, 1, &get(NARINFO)));
            // Sixteen at once: what is small is sent often.
            let sent = connection.flood(&frame(CONTINUATION, 0, 1, &piece).repeat(16), 10_000);
            let answers = connection.finish();
            assert!(sent < 10_000 || answers.goaway().is_some_and(|code| code != 0), "{case}: {sent} {answers:?}");
            assert_eq!(answers.statuses(), [], "{case}");
        };
        leaves_nothing(harmonia.pid(), flood);
        is_fine(&harmonia, case);
    }
    assert_eq!(daemon.seen().queries, []);
}

#[test]
fn a_small_head_that_would_unpack_to_a_large_one_is_refused() {
    let (daemon, harmonia) = server();
    let flood = || {
        let mut connection = RawHttp2::open(harmonia.address());
        // Enters the table (RFC 7541, section 6.2.1), and is then named by one byte each time.
        let entry = [&[0x40], &*string("x"), &*string(&"y".repeat(4000))].concat();
        let block = [get(NARINFO), entry, vec![0xbe; 8000]].concat();
        for stream in streams().take(50) {
            connection.send(&whole(stream, &block));
        }
        let answers = connection.finish();
        assert!(answers.statuses().iter().all(|(_, status)| *status == 431), "{answers:?}");
    };
    leaves_nothing(harmonia.pid(), flood);
    is_fine(&harmonia, "a large head");
    assert_eq!(daemon.seen().queries, []);
}

#[test]
fn floods_of_frames_that_say_nothing_are_borne_or_end_their_connection() {
    let (_daemon, harmonia) = server();
    let setting = [0, 4, 0, 0, 0xff, 0xff];
    for (case, before, bytes) in [
        ("settings", vec![], frame(SETTINGS, 0, 0, &[])),
        ("settings that change windows", vec![], frame(SETTINGS, 0, 0, &setting.repeat(100))),
        ("acknowledged settings", vec![], frame(SETTINGS, ACK, 0, &[])),
        ("pings", vec![], frame(PING, 0, 0, &[7; 8])),
        ("answers to pings", vec![], frame(PING, ACK, 0, &[7; 8])),
        ("priorities", vec![], frame(PRIORITY, 0, 77, &[0, 0, 0, 1, 9])),
        ("unknown frames", vec![], frame(0xbb, 0xff, 77, &[1; 100])),
        ("unknown large frames", vec![], frame(0xbb, 0, 0, &[1; MAX_PAYLOAD])),
        ("empty data", frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[])), frame(DATA, 0, 1, &[])),
        ("padded data", frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[])), frame(DATA, 8, 1, &[9; 10])),
        (
            "windows",
            frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[])),
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
        ),
        (
            "trailers",
            frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[])),
            frame(HEADERS, END_HEADERS, 1, &field("x", "y")),
        ),
    ] {
        let flood = || {
            let mut connection = RawHttp2::open(harmonia.address());
            connection.send(&before);
            let bundle = bytes.repeat(1 + 64 / bytes.len());
            connection.flood(&bundle, 5_000);
            // Where the flood is borne, what comes after it is answered.
            connection.send(&whole(3, &get("/health")));
            let answers = connection.finish();
            let is_borne = answers.statuses().contains(&(3, 200));
            assert!(is_borne || answers.goaway().is_some_and(|code| code != 0), "{case}: {answers:?}");
        };
        leaves_nothing(harmonia.pid(), flood);
        is_fine(&harmonia, case);
    }
    // One line for each frame would fill the disk.
    let log = harmonia.log();
    assert!(log.lines().count() < 10, "{log}");
}

/// Each frame requires a reply; the server must stop reading rather than buffer replies that the client does not read.
#[test]
fn unread_responses_are_not_buffered() {
    let (_daemon, harmonia) = server();
    for bytes in [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])] {
        let flood = || {
            let mut connections: Vec<_> = (0..4).map(|_| deaf(harmonia.address())).collect();
            for connection in &mut connections {
                connection.set_nonblocking(true).unwrap();
                let bundle = bytes.repeat(1000);
                // 64 MiB, many times what the kernel keeps in both directions.
                let _ = (0..(64 << 20) / bundle.len()).try_for_each(|_| connection.write_all(&bundle));
            }
        };
        leaves_nothing(harmonia.pid(), flood);
        is_fine(&harmonia, "a client that does not read");
    }
}

#[test]
fn frames_out_of_place_end_their_connection() {
    let (daemon, harmonia) = server();
    let block = get(NARINFO);
    for (case, bytes) in [
        ("a head on stream 0", whole(0, &block)),
        ("a head on a stream of the server", whole(2, &block)),
        ("a head on a stream that was passed over", [whole(5, &get("/health")), whole(3, &block)].concat()),
        ("data on stream 0", frame(DATA, 0, 0, b"x")),
        ("data on a stream that is not open", frame(DATA, 0, 7, b"x")),
        ("a reset of a stream that is not open", frame(RST_STREAM, 0, 7, &[0; 4])),
        ("a window of a stream that is not open", frame(WINDOW_UPDATE, 0, 7, &[0, 0, 0, 1])),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &block)),
        ("another frame within a head", [frame(HEADERS, 0, 1, &block), frame(PING, 0, 0, &[0; 8])].concat()),
        ("a head within a head", [frame(HEADERS, 0, 1, &block), whole(3, &block)].concat()),
        ("a frame that is too large", frame(DATA, 0, 1, &vec![0; MAX_PAYLOAD + 1])),
        ("settings of half a length", frame(SETTINGS, 0, 0, &[0, 4, 0])),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        ("a window beyond its bound", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2)),
        ("an initial window beyond its bound", frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff])),
        ("a ping of seven bytes", frame(PING, 0, 0, &[0; 7])),
        ("padding beyond its frame", frame(HEADERS, END_STREAM | END_HEADERS | 8, 1, &[&[200], &*block].concat())),
        ("a head that does not unpack", whole(1, &[&*block, &[0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]].concat())),
        ("a name that is not in the table", whole(1, &[&*block, &[0xfe]].concat())),
        ("a promise of a client", frame(5, END_HEADERS, 1, &[&[0, 0, 0, 2], &*block].concat())),
    ] {
        let mut connection = RawHttp2::open(harmonia.address());
        connection.send(&bytes);
        let answers = connection.finish();
        assert!(answers.goaway().is_some_and(|code| code != 0), "{case}: {answers:?}");
        is_fine(&harmonia, case);
    }
    assert_eq!(daemon.seen().queries, []);
}

#[test]
fn requests_that_http1_would_read_otherwise_are_refused() {
    let (daemon, harmonia) = server();
    let fields = |fields: &[(&str, &str)]| request("GET", NARINFO, fields);
    let pseudo = |fields: &[(&str, &str)]| fields.iter().flat_map(|(name, value)| field(name, value)).collect();
    let hidden = format!("{NARINFO} HTTP/1.1\r\nHost: c\r\n\r\nGET {NARINFO}");
    for (case, block) in [
        ("a line end in a value", fields(&[("x", "y\r\nz: a")])),
        ("a line feed in a value", fields(&[("x", "y\nz: a")])),
        ("a NUL in a value", fields(&[("x", "y\0")])),
        ("a line end in a name", fields(&[("x\r\ny", "z")])),
        ("a colon in a name", fields(&[("x:y", "z")])),
        ("a space in a name", fields(&[("x y", "z")])),
        ("an empty name", fields(&[("", "z")])),
        ("capitals in a name", fields(&[("X", "y")])),
        ("a connection field", fields(&[("connection", "close")])),
        ("a coding of HTTP/1", fields(&[("transfer-encoding", "chunked")])),
        ("an upgrade", fields(&[("upgrade", "h2c")])),
        ("a TE other than trailers", fields(&[("te", "chunked")])),
        ("a length that is none", fields(&[("content-length", "x")])),
        ("a length and no data", fields(&[("content-length", "5")])),
        ("a pseudo field after others", fields(&[("x", "y"), (":path", NARINFO)])),
        ("an unknown pseudo field", fields(&[(":x", "y")])),
        ("a status", fields(&[(":status", "200")])),
        ("two paths", fields(&[(":path", "/health")])),
        ("requests in a path", request("GET", &hidden, &[])),
        ("a space in a path", request("GET", &format!("{NARINFO} x"), &[])),
        ("a NUL in a path", request("GET", &format!("{NARINFO}\0"), &[])),
        ("an empty path", request("GET", "", &[])),
        ("a path without a slash", request("GET", NARINFO.trim_start_matches('/'), &[])),
        ("requests in a method", request(&format!("GET {hidden}"), "/", &[])),
        ("an empty method", request("", NARINFO, &[])),
        ("no method", pseudo(&[(":scheme", "http"), (":authority", "c"), (":path", NARINFO)])),
        ("no path", pseudo(&[(":method", "GET"), (":scheme", "http"), (":authority", "c")])),
        (
            "an authority with a line end",
            pseudo(&[(":method", "GET"), (":scheme", "http"), (":authority", "c\r\nx: y"), (":path", NARINFO)]),
        ),
        ("a path of 64 KiB", request("GET", &"/x".repeat(8000), &[])),
    ] {
        let mut connection = RawHttp2::open(harmonia.address());
        connection.send(&[whole(1, &block), whole(3, &get("/health"))].concat());
        let answers = connection.finish();
        let of = |stream| answers.statuses().iter().find(|(of, _)| *of == stream).map(|(_, status)| *status);
        let is_refused = of(1).map_or(answers.reset(1).is_some(), |status| (400..500).contains(&status));
        let is_ended = answers.statuses().is_empty() && answers.goaway().is_some_and(|code| code != 0);
        assert!(is_ended || is_refused && of(3) == Some(200), "{case}: {answers:?}");
    }
    assert_eq!(daemon.seen().queries, []);
    is_fine(&harmonia, "all that");
}

/// The frames of this module are well-formed and get regular responses.
#[test]
fn frames_of_a_good_client_are_answered() {
    let (daemon, harmonia) = server();
    let mut connection = RawHttp2::open(harmonia.address());
    let head = frame(HEADERS, END_STREAM, 1, &get(NARINFO));
    connection.send(&[head, frame(CONTINUATION, END_HEADERS, 1, &field("x", "y"))].concat());
    connection.send(&whole(3, &request("PUT", "/", &[])));
    let answers: Answers = connection.finish();
    let mut statuses = answers.statuses();
    statuses.sort_unstable();
    assert_eq!(statuses, [(1, 404), (3, 405)]);
    assert_eq!(daemon.seen().queries.len(), 1);
}
