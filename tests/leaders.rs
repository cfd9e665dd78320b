//! A cluster whose brokers disagree about who leads, as after a broker stood still or was cut off.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use superhero_kafka::readiness::{ReadinessConfig, wait_ready};

use crate::chaos::cluster::{NODES, Services};
use crate::process::eventually;
use crate::real;
use crate::transport::{Emitting, to_kafka};
use crate::worker::setting::Setting;

const TOPIC: &str = "leaders";
const PARTITIONS: i32 = 4;
const EVENTS: usize = 1_000;
/// One broker in three knows, and each look at another costs a request's time-out.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn tests() -> Vec<Trial> {
    vec![real("leaders: two brokers with an old view keep neither servers nor workers from the leader", old_views)]
}

async fn old_views() -> Result<()> {
    let services = Services::start().await?;
    let ready = ReadinessConfig { partitions: PARTITIONS, replication_factor: 3, ..ReadinessConfig::new([TOPIC]) };
    wait_ready(&services.kafka, &ready).await?;
    let folder = tempfile::tempdir()?;
    let setting = Setting::without_topic(&services.bootstrap, folder.path(), TOPIC, PARTITIONS).await?;
    let emitting = Emitting::start(to_kafka(&services.bootstrap)?).await?;
    let worker = setting.start(setting.config());
    emitting.emit(TOPIC, 0..EVENTS);
    setting.published(EVENTS).await?;

    let led = services.leaders().await?;
    let before = services.leader(TOPIC, 0).await.context("a leader")?;
    let now = (before + 1) % NODES;
    let others = || (0..NODES).filter(|node| *node != now);
    others().for_each(|node| services.rules.look_back(node, led.clone()));
    eventually("the leaders have moved", PATIENCE, async || {
        // The election waits for replicas that are in sync.
        Ok(services.lead(TOPIC, PARTITIONS, now).await.is_ok() && services.leader(TOPIC, 0).await == Some(now))
    })
    .await?;
    emitting.emit(TOPIC, EVENTS..2 * EVENTS);
    let counters = emitting.guard.close(PATIENCE).await?.counters;
    ensure!(counters.acknowledged == 2 * EVENTS as u64 && counters.dropped == 0, "{counters:?}");
    eventually("the worker has found the leaders", PATIENCE, async || {
        let rows: Result<Vec<_>> = (0..PARTITIONS).map(|partition| Ok(setting.raw(partition)?.len())).collect();
        Ok(rows?.iter().sum::<usize>() == 2 * EVENTS)
    })
    .await?;
    let misled: u64 = others().map(|node| services.rules.look_forward(node)).sum();
    ensure!(misled > 0, "nobody was misled");
    worker.stopped().await?;
    let verification = setting.verify(&[folder.path()]).await?;
    ensure!(verification.is_clean(), "{verification}");
    Ok(())
}
