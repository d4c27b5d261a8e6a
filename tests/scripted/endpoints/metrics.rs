//! `/metrics`, and the dashboard that uses it.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::metrics::{await_value, metrics, value};
use crate::support::scripted_daemon::{Query, Reply, Script, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::StoreItem;
use crate::support::wire::Wire;

/// Size that exceeds all buffers between the server and a client that does not read.
const MUCH: usize = 64 << 20;

/// Returns all series, without values.
fn series(metrics: &str) -> BTreeSet<&str> {
    metrics.lines().filter(|line| !line.starts_with('#')).map(|line| line.rsplit_once(' ').unwrap().0).collect()
}

fn item_and_server() -> (StoreItem, ScriptedDaemon, Harmonia) {
    let item = StoreItem::file(b"counted");
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    // The query at the start would count as a connection in use.
    harmonia.wait_for_log("nix-daemon at");
    (item, daemon, harmonia)
}

#[test]
fn metrics_are_those_of_this_moment_in_the_format_that_is_asked_for() {
    let (_, _daemon, harmonia) = item_and_server();
    let _ = metrics(harmonia.http());
    let classic = harmonia.http().get("/metrics");
    let accept = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let open_metrics = harmonia.http().get_with("/metrics", &[("Accept", accept)]);
    for (response, kind, counter) in [
        (&classic, "text/plain; version=0.0.4; charset=utf-8", "# TYPE harmonia_http_requests_total counter"),
        (
            &open_metrics,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# TYPE harmonia_http_requests counter",
        ),
    ] {
        assert_eq!((response.status, response.header("content-type")), (200, Some(kind)));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert!(response.text().lines().any(|line| line == counter), "{}", response.text());
        // The one that asks is there itself, before its answer.
        assert_eq!(value(response.text(), "harmonia_http_requests_in_flight"), Some(1.0));
    }
    assert!(open_metrics.text().ends_with("\n# EOF\n") && !classic.text().contains("# EOF"));
}

#[test]
fn the_process_is_what_the_kernel_says_of_it() {
    let (_, _daemon, harmonia) = item_and_server();
    let text = metrics(harmonia.http());
    let of = |name: &str| value(&text, name).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    assert!(of("process_cpu_seconds_total") > 0.0 && of("process_threads") > 1.0);
    assert!(of("process_resident_memory_bytes") > 1e6 && of("process_virtual_memory_bytes") > 1e6);
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() - of("process_start_time_seconds");
    assert!((0.0..3600.0).contains(&age), "{age}");
    let (open, most) = (of("process_open_fds"), of("process_max_fds"));
    assert!((3.0..most).contains(&open), "{open} of {most}");
}

#[test]
fn requests_bytes_and_operations_are_counted() {
    let (item, _daemon, harmonia) = item_and_server();
    let http = harmonia.http();
    let narinfo = http.get(&item.narinfo_url()).body.len();
    assert_eq!(http.get(&item.nar_url()).body, item.nar);
    assert_eq!(http.head(&item.nar_url()).status, 200);
    assert_eq!(http.get_with(&item.nar_url(), &[("Range", "bytes=0-9")]).body.len(), 10);
    let _ = http.request(b"DELETE /nix-cache-info HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n").unwrap();
    let text = metrics(http);
    #[allow(clippy::cast_precision_loss)]
    let (narinfo, nar) = (narinfo as f64, item.nar.len() as f64);
    for (series, expected) in [
        (r#"harmonia_http_requests_total{method="GET",path="/{hash}.narinfo",status="200"}"#, 1.0),
        (r#"harmonia_http_requests_total{method="GET",path="/nar/{nar}",status="200"}"#, 1.0),
        (r#"harmonia_http_requests_total{method="HEAD",path="/nar/{nar}",status="200"}"#, 1.0),
        (r#"harmonia_http_requests_total{method="GET",path="/nar/{nar}",status="206"}"#, 1.0),
        (r#"harmonia_http_requests_total{method="other",path="/nix-cache-info",status="405"}"#, 1.0),
        (r#"harmonia_http_request_duration_seconds_count{method="GET",path="/nar/{nar}",status="200"}"#, 1.0),
        (r#"harmonia_http_response_bytes_total{path="/{hash}.narinfo"}"#, narinfo),
        (r#"harmonia_http_response_bytes_total{path="/nar/{nar}"}"#, nar + 10.0),
        (r#"harmonia_daemon_operations_total{op="QueryPathInfo",result="ok"}"#, 1.0),
        (r#"harmonia_narinfo_cache_requests_total{result="miss"}"#, 1.0),
        (r#"harmonia_narinfo_cache_requests_total{result="hit"}"#, 3.0),
        (r#"harmonia_narinfo_cache_requests_total{result="stale"}"#, 0.0),
        ("harmonia_narinfo_cache_prefetched_total", 0.0),
        ("harmonia_narinfo_cache_signed_total", 1.0),
        ("harmonia_narinfo_cache_entries", 1.0),
        (r#"harmonia_daemon_operations_total{op="NarFromPath",result="ok"}"#, 2.0),
        (r#"harmonia_daemon_pool_max_size{pool="metadata"}"#, 8.0),
        (r#"harmonia_daemon_pool_max_size{pool="nar"}"#, 16.0),
        (r#"harmonia_daemon_pool_in_use{pool="metadata"}"#, 0.0),
        (r#"harmonia_daemon_pool_waiting{pool="nar"}"#, 0.0),
        (r#"harmonia_http_bodies_aborted_total{by="server"}"#, 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
    }
    assert!(value(&text, r#"harmonia_daemon_connection_attempts_total{result="ok"}"#) >= Some(2.0));
    assert!(value(&text, r#"harmonia_daemon_pool_size{pool="nar"}"#) >= Some(1.0));
    assert!(value(&text, "harmonia_narinfo_cache_bytes") > Some(100.0));
}

#[test]
fn failed_nars_and_client_disconnects_are_counted_separately() {
    let item = StoreItem::file_of(MUCH);
    let good = item.clone();
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&daemon.config());
    let http = harmonia.http();

    let mut stream = TcpStream::connect(harmonia.address()).unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: c\r\n\r\n", item.nar_url());
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 1024]).unwrap();
    let running = metrics(http);
    assert_eq!(value(&running, "harmonia_http_requests_in_flight"), Some(2.0), "{running}");
    assert_eq!(value(&running, r#"harmonia_daemon_pool_in_use{pool="nar"}"#), Some(1.0), "{running}");
    drop(stream);
    await_value(http, r#"harmonia_http_bodies_aborted_total{by="client"}"#, 1.0);
    await_value(http, "harmonia_http_requests_in_flight", 1.0);

    daemon.play(Script::replying(move |query| match query {
        Query::Nar(_) => Reply::then_disconnect(&good.reply(query).bytes[..MUCH / 2]),
        _ => good.reply(query),
    }));
    let _ = http.get_failing(&item.nar_url(), &[]);
    await_value(http, r#"harmonia_http_bodies_aborted_total{by="server"}"#, 1.0);
    await_value(http, r#"harmonia_http_bodies_aborted_total{by="client"}"#, 1.0);
}

#[test]
fn a_complete_body_is_not_aborted_however_it_is_sent() {
    let item = StoreItem::file_of(1 << 20);
    let daemon = ScriptedDaemon::start(item.script());
    let harmonia = Harmonia::start(&format!("{}{}", daemon.config(), nar_cache_on_demand()));
    let http = harmonia.http();
    let encoded = http.get_with(&item.nar_url(), &[("Accept-Encoding", "zstd")]);
    assert_eq!(encoded.header("content-encoding"), Some("zstd"));
    let plain = http.get(&item.nar_url());
    let head = http.head(&item.nar_url());
    assert!(plain.status == 200 && head.status == 200 && http.get("/nothing").status == 404);
    await_value(http, "harmonia_http_requests_in_flight", 1.0);
    let text = metrics(http);
    #[allow(clippy::cast_precision_loss)]
    let sent = (encoded.body.len() + plain.body.len()) as f64;
    assert_eq!(value(&text, r#"harmonia_http_response_bytes_total{path="/nar/{nar}"}"#), Some(sent));
    for by in ["client", "server"] {
        assert_eq!(value(&text, &format!("harmonia_http_bodies_aborted_total{{by=\"{by}\"}}")), Some(0.0), "{text}");
    }
}

#[test]
fn a_daemon_that_errs_or_is_not_there_is_counted() {
    let item = StoreItem::file(b"");
    let daemon = ScriptedDaemon::start(Script::replying(|_| Wire::new().error("no").into()));
    let harmonia = Harmonia::start(&daemon.config());
    let http = harmonia.http();
    assert_eq!(http.get(&item.narinfo_url()).status, 502);
    let text = metrics(http);
    let failed = r#"harmonia_daemon_operations_total{op="QueryPathFromHashPart",result="error"}"#;
    assert_eq!(value(&text, failed), Some(1.0), "{text}");

    let refusing = ScriptedDaemon::start(Script::greeting(Reply::then_disconnect([])));
    let harmonia = Harmonia::start(&refusing.config());
    assert_eq!(harmonia.http().get(&item.narinfo_url()).status, 502);
    let text = metrics(harmonia.http());
    assert!(value(&text, r#"harmonia_daemon_connection_attempts_total{result="error"}"#) >= Some(1.0), "{text}");
    assert_eq!(value(&text, r#"harmonia_daemon_connection_attempts_total{result="ok"}"#), Some(0.0), "{text}");
}

#[test]
fn a_client_makes_no_label() {
    let (_, _daemon, harmonia) = item_and_server();
    let http = harmonia.http();
    let ask = |target: &str, method: &str| {
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: c\r\nOrigin: evil\"}}1\r\nConnection: close\r\n\r\n");
        http.request(request.as_bytes()).unwrap().status
    };
    let _ = (http.get("/first"), metrics(http));
    let before = metrics(http);
    for n in 0..200 {
        assert_eq!(http.get(&format!("/unknown-{n}")).status, 404);
        assert_eq!(http.get(&format!("/{n}/%22%7d%0a{n}")).status, 404);
        assert_eq!(ask(&format!("/made-{n}"), "GET"), 404);
    }
    let after = metrics(http);
    assert_eq!(series(&after), series(&before));
    assert_eq!((ask("/x", "MADEUP"), ask("/x", "GETGET")), (405, 405));
    let text = metrics(http);
    let seen = r#"harmonia_http_requests_total{method="other",path="unknown",status="405"}"#;
    assert_eq!(value(&text, seen), Some(2.0), "{text}");
    assert!(!text.contains("MADEUP"), "{text}");
}

#[test]
fn every_name_of_the_dashboard_is_a_metric_and_every_metric_is_there_and_in_the_reference() {
    let (item, _daemon, harmonia) = item_and_server();
    let http = harmonia.http();
    assert_eq!(http.get(&item.nar_url()).status, 200);
    let _ = metrics(http);
    let text = metrics(http);
    let names: BTreeSet<_> = series(&text).into_iter().map(|series| series.split('{').next().unwrap()).collect();

    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guide/grafana-dashboard.json");
    let dashboard = std::fs::read_to_string(file).unwrap();
    let _: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let words = dashboard.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let used: BTreeSet<_> =
        words.filter(|word| word.starts_with("harmonia_") || word.starts_with("process_")).collect();
    // Only with a certificate or keys by URL, for which tests/integration/operations/prometheus.rs asks.
    let is_elsewhere = ["harmonia_tls_certificate_expiry_timestamp_seconds", "harmonia_token_key_fetches_total"];
    let unknown: Vec<_> = used.difference(&names).filter(|name| !is_elsewhere.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?} in the dashboard, but not in\n{text}");
    // And what is counted is shown, and explained: each metric, be it by one of its series.
    let reference = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reference/metrics.md");
    let reference = std::fs::read_to_string(reference).unwrap();
    for kind in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let metric = kind.split(' ').next().unwrap();
        assert!(used.iter().any(|name| name.starts_with(metric)), "{metric} is not in the dashboard");
        assert!(reference.contains(&format!("`{metric}")), "{metric} is not in docs/reference/metrics.md");
    }
}
