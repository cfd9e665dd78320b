//! What a topic holds, read with rskafka.

use anyhow::{Context, Result};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{OffsetAt, UnknownTopicHandling};

use super::anomaly::Place;

/// A record: where it stands, what it says, and whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    /// Producer and number, where the headers tell them.
    pub id: Option<(String, u64)>,
}

/// Reads the partitions of some topics, one after the other, and hands each to `take`.
pub async fn read(
    bootstrap: &str,
    topics: &[&str],
    mut take: impl FnMut(Place, Vec<Record>) -> Result<()>,
) -> Result<()> {
    let servers = bootstrap.split(',').map(str::to_owned).collect();
    let client = ClientBuilder::new(servers).build().await?;
    let known = client.list_topics().await?;
    for topic in topics {
        let known = known.iter().find(|known| known.name == *topic).with_context(|| format!("no topic {topic}"))?;
        for partition in &known.partitions {
            let reader = client.partition_client(*topic, *partition, UnknownTopicHandling::Retry).await?;
            take(Place { topic: (*topic).to_owned(), partition: *partition }, read_partition(&reader).await?)?;
        }
    }
    Ok(())
}

async fn read_partition(reader: &rskafka::client::partition::PartitionClient) -> Result<Vec<Record>> {
    const FETCH_BYTES: i32 = 8 << 20;
    const FETCH_WAIT_MS: i32 = 500;
    let mut next = reader.get_offset(OffsetAt::Earliest).await?;
    let end = reader.get_offset(OffsetAt::Latest).await?;
    let mut records = Vec::new();
    while next < end {
        let (batch, _) = reader.fetch_records(next, 1..FETCH_BYTES, FETCH_WAIT_MS).await?;
        for read in batch {
            next = read.offset + 1;
            let header = |name: &str| std::str::from_utf8(read.record.headers.get(name)?).ok();
            let id = header("superhero-producer").zip(header("superhero-sequence"));
            let id = id.and_then(|(producer, number)| Some((producer.to_owned(), number.parse().ok()?)));
            let (key, value) = (read.record.key, read.record.value.unwrap_or_default());
            records.push(Record { offset: read.offset, key, value, id });
        }
    }
    Ok(records)
}
