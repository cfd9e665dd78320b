//! Measurements against the budgets: `just bench [log_call] [outage] [takeover] [produce] [broker] [consume] [server] [idle]`, all of them
//! by default.
//!
//! Each prints a ratio to a baseline of the same run, since the machines that this runs on are shared and of any speed. Kafka
//! and Redis are started for it; `kcat` must be installed.

// One binary: what its modules share is `pub` for their readers, not for another crate.
#![allow(unreachable_pub)]
// A measurement that cannot print has nobody to tell.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod consume;
mod log_call;
mod outage;
// The integration tests' own; the measurements need only a part of each.
#[allow(dead_code)]
#[path = "../process.rs"]
mod process;
mod produce;
mod servers;
#[allow(dead_code)]
#[path = "../services.rs"]
mod services;
mod takeover;
mod usage;

use anyhow::Result;

use self::services::Kafka;
// The allocator is the one of the binaries.
use superhero_service as _;

/// Events for the produce benchmark; some seconds either way.
const EVENTS: usize = 2_000_000;
/// Records for the consume benchmark.
const RECORDS: usize = 1_000_000;

/// The Apache Kafka that measurements share, started by the first.
#[derive(Default)]
struct Apache(std::cell::OnceCell<Kafka>);

impl Apache {
    fn get(&self) -> Result<&Kafka> {
        match self.0.get() {
            Some(kafka) => Ok(kafka),
            None => {
                let kafka = Kafka::apache()?;
                Ok(self.0.get_or_init(|| kafka))
            }
        }
    }
}

fn main() -> Result<()> {
    // Cargo passes `--bench`, which means nothing here.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    let apache = Apache::default();
    println!("| measured | ours | baseline | ratio | budget |\n|---|---|---|---|---|");
    if is_wanted("log_call") {
        let cost = log_call::run(&apache.get()?.bootstrap)?;
        for (which, ours) in [("log call", cost.ours), ("spooled log call", cost.spooled)] {
            for (how, ours, appender) in [
                ("in bursts", ours.burst_ns, cost.appender.burst_ns),
                ("every 250 µs", ours.paced_ns, cost.appender.paced_ns),
                ("four threads", ours.threads_ns, cost.appender.threads_ns),
            ] {
                let budget = if which == "log call" { "≤ 1,000 ns, ≤ 0.3 ×" } else { "" };
                row(&format!("{which}, {how}"), ours, "ns", ("tracing-appender JSON", appender), budget);
            }
            let (ours, theirs) = (ours.paced_p99_ns, cost.appender.paced_p99_ns);
            row(&format!("{which}, every 250 µs, p99"), ours, "ns", ("tracing-appender JSON", theirs), "≤ 50,000 ns");
        }
    }
    if is_wanted("produce") {
        let cost = produce::run(&apache.get()?.bootstrap, EVENTS)?;
        let budget = "≤ 0.7 ×";
        row("produce 250 B, acks=all, CPU per event", cost.ours_us, "µs", ("kcat, bare values", cost.kcat_us), budget);
        println!("| its events per second | {:.0} | | | |", cost.ours_per_s);
        row("the same CPU", cost.ours_us, "µs", ("kcat, keys and headers", cost.kcat_alike_us), budget);
    }
    if is_wanted("broker") {
        let (embedded, apache) = (Kafka::embedded()?, apache.get()?);
        let ours = produce::broker_us(&embedded.bootstrap, embedded.pid()?, EVENTS)?;
        let theirs = produce::broker_us(&apache.bootstrap, apache.pid()?, EVENTS)?;
        row("embedded broker, 250 B taken, its CPU per event", ours, "µs", ("Apache Kafka", theirs), "");
    }
    if is_wanted("consume") {
        let cost = consume::run(&apache.get()?.bootstrap, RECORDS)?;
        row(
            "worker, 515 B to rows, CPU per record",
            cost.ours_us,
            "µs",
            ("kcat -C -J > file", cost.kcat_us),
            "≤ 2.5 µs, ≤ 0.5 ×",
        );
        println!("| its records per second | {:.0} | | | |", cost.ours_per_s);
        row("verify, CPU per row", cost.verify_us, "µs", ("kcat -C -J > file", cost.kcat_us), "");
        row("verify with the topic, CPU per row", cost.compare_us, "µs", ("kcat -C -J > file", cost.kcat_us), "");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if is_wanted("outage") {
        let services = services::Started::up(&["--only", "kafka", "--kafka-port", "0", "--brokers", "3"])?;
        for (which, is_spooled) in [("log call", false), ("spooled log call", true)] {
            let cost = runtime.block_on(outage::run(&services, is_spooled))?;
            let what = format!("{which}, two of three brokers away, p99");
            row(&what, cost.away_us, "µs", ("all there", cost.whole_us), "≤ 50 µs");
            println!("| all acknowledged after their return | {:.1} s | | | |", cost.delivered_s);
        }
    }
    if is_wanted("takeover") {
        let longest = runtime.block_on(takeover::run(&Kafka::apache()?, &services::Redis::start()?))?;
        println!("| partitions taken over from a killed worker | {:.2} s | | | ≤ 5 s |", longest.killed_s);
        println!("| partitions taken over from a stopped worker | {:.2} s | | | ≤ 1 s |", longest.stopped_s);
    }
    if is_wanted("server") {
        let redis = services::Redis::start()?;
        let load = runtime.block_on(servers::load(&redis))?;
        println!(
            "| one server, 2,000 bots, pace 0.2 | {} players' games completed, {} timed out, in {:.1} s | | | every game ends |",
            load.completed, load.timed_out, load.seconds
        );
        println!("| its CPU and peak memory | {:.1} s, {:.0} MiB | | | |", load.cpu_seconds, load.peak_mib);
    }
    if is_wanted("idle") {
        let kib = runtime.block_on(servers::idle(&services::Redis::start()?))?;
        println!("| memory per idle player | {kib:.1} KiB | | | ≤ 10 KiB |");
    }
    println!("| memory of these measurements, at the most | {:.0} MiB | | | |", usage::own_mib("VmHWM")?);
    println!("| and at their end | {:.0} MiB | | | |", usage::own_mib("VmRSS")?);
    Ok(())
}

fn row(what: &str, ours: f64, unit: &str, (baseline, theirs): (&str, f64), budget: &str) {
    println!("| {what} | {ours:.2} {unit} | {baseline} {theirs:.2} {unit} | {:.2} | {budget} |", ours / theirs);
}
