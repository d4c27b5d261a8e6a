//! Metrics of this process from the kernel, under the names that Prometheus client libraries use.
//!
//! They are read for each scrape. Values that cannot be read, e.g. where `/proc` is not mounted, are left out.

use std::fmt;
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Collects the metrics of this process.
#[derive(Debug)]
pub(super) struct Process {
    /// Time at which this value was created, at the start of the program, in seconds since 1970.
    started: f64,
}

impl Process {
    pub(super) fn new() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: started.as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut put = |name, help, metric: &dyn Metric| metric.put(&mut encoder, name, help);
        put("process_cpu_seconds", "CPU time used by this process, in seconds", &ConstCounter::new(cpu_seconds()))?;
        put(
            "process_start_time_seconds",
            "Start time of this process, in seconds since 1970",
            &ConstGauge::new(self.started),
        )?;
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for (field, unit, name, help) in [
            ("VmRSS:", 1024, "process_resident_memory_bytes", "Resident memory of this process, in bytes"),
            ("VmSize:", 1024, "process_virtual_memory_bytes", "Address space of this process, in bytes"),
            ("Threads:", 1, "process_threads", "Threads of this process"),
        ] {
            if let Some(number) = field_value(&status, field) {
                put(name, help, &ConstGauge::new(number.saturating_mul(unit)))?;
            }
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory itself.
            let open = open.count().saturating_sub(1) as u64;
            put("process_open_fds", "Open file descriptors of this process", &ConstGauge::new(open))?;
        }
        match getrlimit(Resource::Nofile).current {
            Some(most) => {
                put("process_max_fds", "Limit on open file descriptors of this process", &ConstGauge::new(most))
            }
            None => Ok(()),
        }
    }
}

/// A metric that can be encoded under a name.
trait Metric {
    fn put(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result;
}

impl<M: EncodeMetric> Metric for M {
    fn put(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str) -> fmt::Result {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    // Exact for a hundred million years.
    #[allow(clippy::cast_precision_loss)]
    let (seconds, nanoseconds) = (time.tv_sec as f64, time.tv_nsec as f64);
    seconds + nanoseconds / 1e9
}

/// Returns the first number in a field of `/proc/self/status`.
fn field_value(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
