//! Prometheus scrapes a real server under load, evaluates all queries of the dashboard and loads the alerts.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::support::http::Http;
use crate::support::metrics::{metrics, value as series};
use crate::support::narinfo::value as field;
use crate::support::scratch;
use crate::support::scripted_daemon::{Query, Script, ScriptedDaemon};
use crate::support::server::{Harmonia, nar_cache_on_demand};
use crate::support::store_item::StoreItem;
use crate::support::watchdog;
use crate::support::wire::Wire;

/// Upper bound of a wait: a failing test must end.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Path for which the daemon fails.
const FAILING: &str = "22222222222222222222222222222222";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn promtool(arguments: &[&str], input: Stdio) -> Output {
    Command::new("promtool").args(arguments).stdin(input).output().expect("cannot run promtool")
}

fn says_yes(output: &Output) {
    let text = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

/// Running Prometheus that scrapes one address; stopped on drop, and when the test binary ends.
struct Prometheus {
    program: Child,
    watchdog: Child,
    http: Http,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes a plain server and one with TLS.
    fn scraping(plain: SocketAddr, secure: SocketAddr) -> Self {
        let dir = scratch::fresh_dir();
        let config = dir.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 1s}}\n\
             rule_files: [{}]\n\
             scrape_configs:\n\
             - {{job_name: plain, static_configs: [{{targets: ['{plain}']}}]}}\n\
             - {{job_name: secure, scheme: https, tls_config: {{insecure_skip_verify: true}},\n\
             \u{20}  static_configs: [{{targets: ['{secure}']}}]}}\n",
            file("docs/guide/prometheus-alerts.yml").display()
        );
        fs::write(&config, text).unwrap();
        says_yes(&promtool(&["check", "config", config.to_str().unwrap()], Stdio::null()));
        let deadline = Instant::now() + TIMEOUT;
        loop {
            // It takes no socket of others. Somebody may have the port by then, which ends it.
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let program = Command::new("prometheus")
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
                .arg(format!("--web.listen-address={address}"))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(fs::File::create(dir.join("log")).unwrap())
                .spawn()
                .expect("cannot run prometheus");
            let watchdog = watchdog::at_the_end(r#"kill -KILL "$0""#, program.id().to_string());
            let mut started = Self { program, watchdog, http: Http::new(address) };
            let http = started.http;
            let is_ready = || http.request(b"GET /-/ready HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n");
            while started.program.try_wait().unwrap().is_none() {
                if is_ready().is_ok_and(|response| response.status == 200) {
                    return started;
                }
                let log = || fs::read_to_string(dir.join("log")).unwrap();
                assert!(Instant::now() < deadline, "prometheus is not ready:\n{}", log());
                std::thread::yield_now();
            }
        }
    }

    fn ask(&self, path: &str) -> Value {
        let response = self.http.get(path);
        let answer: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!((response.status, &answer["status"]), (200, &Value::from("success")), "{path}: {answer}");
        answer["data"].clone()
    }

    /// Returns the values of the series that an expression yields; panics if the expression is invalid.
    fn values(&self, expression: &str) -> Vec<String> {
        let query = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let data = self.ask(&format!("/api/v1/query?query={query}"));
        let result = data["result"].as_array().unwrap_or_else(|| panic!("{expression}: {data}"));
        // What is divided by nothing is not an answer.
        let values = result.iter().map(|sample| sample["value"][1].as_str().unwrap_or_default().to_owned());
        values.filter(|value| value != "NaN").collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        for child in [&mut self.watchdog, &mut self.program] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Server, and a load that increments each of its counters.
struct Loaded {
    item: StoreItem,
    daemon: ScriptedDaemon,
    harmonia: Harmonia,
    compressed: String,
}

impl Loaded {
    fn start() -> Self {
        let item = StoreItem::file_of(1 << 16);
        let answers = item.clone();
        let daemon = ScriptedDaemon::start(Script::replying(move |query| match query {
            Query::PathFromHashPart(hash) if hash == FAILING => Wire::new().error("no").into(),
            _ => answers.reply(query),
        }));
        let harmonia = Harmonia::start(&format!("{}{}", daemon.config(), nar_cache_on_demand()));
        let narinfo = harmonia.http().get(&item.narinfo_url());
        let compressed = format!("/{}", field(narinfo.text(), "URL"));
        Self { item, daemon, harmonia, compressed }
    }

    fn ask(&self) {
        let http = self.harmonia.http();
        for (url, status) in [
            (&self.item.narinfo_url(), 200),
            (&self.item.nar_url(), 200),
            (&self.compressed, 200),
            (&format!("/{}.narinfo", "1".repeat(32)), 404),
            (&format!("/{FAILING}.narinfo"), 502),
        ] {
            assert_eq!(http.get(url).status, status, "{url}");
        }
    }
}

/// Writes a certificate that expires at the end of this year, and its key.
fn certificate_until(year: i32, dir: &Path) {
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 12, 31);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(dir.join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

/// Returns every query of the dashboard.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let of_panels = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
    let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
    let of_variables = variables.filter_map(|variable| {
        let text = variable["query"].as_str()?.strip_prefix("label_values(")?;
        Some(text.rsplit_once(',').unwrap().0.to_owned())
    });
    of_panels.chain(of_variables).collect()
}

#[test]
fn every_query_of_the_dashboard_is_answered_by_a_prometheus_that_scrapes_a_server() {
    let dashboard = fs::read_to_string(file("docs/guide/grafana-dashboard.json")).unwrap();
    let mut unanswered = queries(&serde_json::from_str(&dashboard).unwrap());
    assert!(unanswered.len() > 30);
    // Nothing is published here, and a quantile of nothing is no answer.
    unanswered.retain(|query| !query.contains("harmonia_bucket_publish_duration_seconds"));
    let loaded = Loaded::start();
    let dir = scratch::fresh_dir();
    certificate_until(2040, &dir);
    let tls = ["cert", "key"].map(|it| format!("tls_{it}_path = {:?}\n", dir.join(format!("{it}.pem"))));
    // Nobody listens there, which is counted.
    let keys = "[access]\nanonymous = [\"read\", \"metrics\"]\n[[access.jwt]]\nissuer = \"i\"\naudience = \"a\"\n\
                jwks_url = \"http://127.0.0.1:1/\"\n";
    let secure = Harmonia::start(&format!("{}{}{keys}", loaded.daemon.config(), tls.concat()));
    let prometheus = Prometheus::scraping(loaded.harmonia.address(), secure.address());
    let deadline = Instant::now() + TIMEOUT;
    while !unanswered.is_empty() {
        assert!(Instant::now() < deadline, "no answer to {unanswered:#?}");
        loaded.ask();
        unanswered.retain(|query| {
            let made = [("$job", ".*"), ("$instance", ".*"), ("$__rate_interval", "1m")];
            let query = made.iter().fold(query.clone(), |query, (from, to)| query.replace(from, to));
            prometheus.values(&query).is_empty()
        });
    }
    // Only OpenMetrics has the name without its end; and what is scraped is whole.
    let about = prometheus.ask("/api/v1/metadata?metric=harmonia_http_requests");
    assert_eq!(about["harmonia_http_requests"][0]["type"], "counter", "{about}");
    let targets = prometheus.ask("/api/v1/targets");
    let targets = targets["activeTargets"].as_array().unwrap();
    for target in targets {
        assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target}");
    }
    assert_eq!(targets.len(), 2);
    let rules = prometheus.ask("/api/v1/rules");
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() > 10 && rules.iter().all(|rule| rule["health"] != "err"), "{rules:#?}");

    let expiry = || prometheus.values("harmonia_tls_certificate_expiry_timestamp_seconds");
    assert_eq!(expiry(), ["2240524800"]);
    certificate_until(2041, &dir);
    secure.reload();
    secure.wait_for_log("reloaded the certificate");
    while expiry() != ["2272060800"] {
        assert!(Instant::now() < deadline, "{:?}", expiry());
    }
}

/// Returns whether a metric is there only with a certificate or with keys by URL.
fn needs_more(name: &str) -> bool {
    name == "harmonia_tls_certificate_expiry_timestamp_seconds" || name == "harmonia_token_key_fetches_total"
}

#[test]
fn promtool_finds_nothing_to_say_about_the_classic_format() {
    let loaded = Loaded::start();
    loaded.ask();
    let dir = scratch::fresh_dir();
    fs::write(dir.join("metrics"), metrics(loaded.harmonia.http())).unwrap();
    let output = promtool(&["check", "metrics"], fs::File::open(dir.join("metrics")).unwrap().into());
    says_yes(&output);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = metrics(loaded.harmonia.http());
    let build = format!("harmonia_build_info{{version=\"{}\",arch=\"x86_64\"}}", env!("CARGO_PKG_VERSION"));
    assert!(series(&text, &build) == Some(1.0) || !cfg!(target_arch = "x86_64"), "{text}");
    // Without TLS there is no certificate.
    assert!(!text.contains("tls_certificate"), "{text}");
}

#[test]
fn each_alert_fires_when_it_should_and_names_only_metrics_that_there_are() {
    let (alerts, cases) =
        (file("docs/guide/prometheus-alerts.yml"), file("tests/integration/operations/prometheus-alerts.test.yml"));
    says_yes(&promtool(&["check", "rules", alerts.to_str().unwrap()], Stdio::null()));
    says_yes(&promtool(&["test", "rules", cases.to_str().unwrap()], Stdio::null()));
    let (alerts, cases) = (fs::read_to_string(alerts).unwrap(), fs::read_to_string(cases).unwrap());
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(cases.contains(&format!("alertname=\"{name}\"")), "{name} is not tested");
    }
    let text = metrics(Loaded::start().harmonia.http());
    let words = alerts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for name in words.filter(|word| word.starts_with("harmonia_") || word.starts_with("process_")) {
        let is_there =
            text.lines().any(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
        assert!(is_there || needs_more(name), "{name} is no metric");
    }
}
