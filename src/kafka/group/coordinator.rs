//! The broker that keeps a group: finding it, and a connection to it.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, FindCoordinatorRequest};
use kafka_protocol::protocol::StrBytes;

use super::step::{self, Call, Step};
use crate::KafkaConfig;
use crate::metadata::{Advertised, address};
use crate::wire::{Connection, WireError};

pub(super) const JOIN_GROUP: i16 = 5;
pub(super) const SYNC_GROUP: i16 = 3;
pub(super) const HEARTBEAT: i16 = 3;
pub(super) const LEAVE_GROUP: i16 = 3;
pub(super) const OFFSET_COMMIT: i16 = 7;
pub(super) const OFFSET_FETCH: i16 = 5;
pub(super) const METADATA: i16 = 10;
const FIND_COORDINATOR: i16 = 2;

const NEEDED: [(ApiKey, i16); 7] = [
    (ApiKey::JoinGroup, JOIN_GROUP),
    (ApiKey::SyncGroup, SYNC_GROUP),
    (ApiKey::Heartbeat, HEARTBEAT),
    (ApiKey::LeaveGroup, LEAVE_GROUP),
    (ApiKey::OffsetCommit, OFFSET_COMMIT),
    (ApiKey::OffsetFetch, OFFSET_FETCH),
    (ApiKey::Metadata, METADATA),
];

/// Why there is no connection to a group's coordinator (yet).
#[derive(Debug, thiserror::Error)]
pub(crate) enum CoordinatorError {
    #[error("no Kafka bootstrap server answers: {}", .reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NoBroker { reasons: Vec<WireError> },
    #[error("Kafka broker {broker} knows no coordinator of group {group}: {error}")]
    Refused { broker: String, group: String, error: ResponseError },
    #[error("the coordinator of group {group}: {source}")]
    Connect { group: String, source: Advertised },
}

impl CoordinatorError {
    /// The broker's refusal, if no further attempt can change it.
    pub(super) fn fatal(&self) -> Option<ResponseError> {
        match self {
            Self::Refused { error, .. } if step::after(Call::FindCoordinator, *error) == Step::Fatal => Some(*error),
            _ => None,
        }
    }
}

/// One attempt to find the coordinator of `group` and to connect to it.
pub(crate) async fn connect(config: &KafkaConfig, group: &str) -> Result<Connection, CoordinatorError> {
    let request = FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned()));
    let mut reasons = Vec::new();
    for server in &config.bootstrap_servers {
        let asked = async {
            let mut connection = Connection::open(server, config).await?;
            connection.require(&[(ApiKey::FindCoordinator, FIND_COORDINATOR)], config.request_timeout).await?;
            connection.call(FIND_COORDINATOR, &request, config.request_timeout).await
        };
        let answer = match asked.await {
            Ok(answer) => answer,
            Err(reason) => {
                reasons.push(reason);
                continue;
            }
        };
        if let Some(error) = ResponseError::try_from_code(answer.error_code) {
            return Err(CoordinatorError::Refused { broker: server.clone(), group: group.to_owned(), error });
        }
        let coordinator = address(&answer.host, answer.port);
        let connected = async {
            let mut connection = Connection::open(&coordinator, config).await?;
            connection.require(&NEEDED, config.request_timeout).await?;
            Ok(connection)
        };
        let advertised = |source| CoordinatorError::Connect {
            group: group.to_owned(),
            source: Advertised { node_id: answer.node_id.0, address: coordinator.clone(), source: Box::new(source) },
        };
        return connected.await.map_err(advertised);
    }
    Err(CoordinatorError::NoBroker { reasons })
}
