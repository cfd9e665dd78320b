//! What a member does next after each error that a coordinator answers. Pure: no clock, no connection.

use kafka_protocol::ResponseError;

/// The request that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    FindCoordinator,
    JoinGroup,
    SyncGroup,
    Heartbeat,
}

impl Call {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FindCoordinator => "FindCoordinator",
            Self::JoinGroup => "JoinGroup",
            Self::SyncGroup => "SyncGroup",
            Self::Heartbeat => "Heartbeat",
        }
    }
}

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The same again, after a pause.
    Retry,
    /// Look for the coordinator, after a pause, then the same again.
    FindCoordinator,
    /// The generation is over: join again as the member that we are.
    DropGeneration,
    /// The member is unknown: join again as a new one.
    DropMember,
    /// Join again with the member id that came with the answer.
    TakeMemberId,
    /// Finish, commit, then join again.
    Revoke,
    /// Join again with a session timeout that the broker allows.
    RaiseSession,
    /// Another process has our instance id.
    Fenced,
    /// No attempt can succeed.
    Fatal,
}

/// The table of the protocol: `error` as the answer to `call`.
pub(crate) fn after(call: Call, error: ResponseError) -> Step {
    use ResponseError as E;
    match (call, error) {
        (_, E::NotCoordinator | E::CoordinatorNotAvailable) => Step::FindCoordinator,
        (_, E::CoordinatorLoadInProgress) => Step::Retry,
        (_, E::FencedInstanceId) => Step::Fenced,
        (
            _,
            E::GroupAuthorizationFailed
            | E::TopicAuthorizationFailed
            | E::ClusterAuthorizationFailed
            | E::InvalidGroupId
            | E::InvalidRequest
            | E::UnsupportedVersion,
        ) => Step::Fatal,

        (Call::JoinGroup, E::MemberIdRequired) => Step::TakeMemberId,
        (Call::JoinGroup, E::InvalidSessionTimeout) => Step::RaiseSession,
        (Call::JoinGroup, E::InconsistentGroupProtocol | E::GroupMaxSizeReached) => Step::Fatal,
        // Only a stable member acts on it; one that joins is part of the rebalance.
        (Call::Heartbeat, E::RebalanceInProgress) => Step::Revoke,
        (Call::JoinGroup, E::RebalanceInProgress) => Step::Retry,
        (Call::SyncGroup, E::RebalanceInProgress) => Step::DropGeneration,
        (Call::JoinGroup | Call::SyncGroup | Call::Heartbeat, E::IllegalGeneration) => Step::DropGeneration,
        (Call::JoinGroup | Call::SyncGroup | Call::Heartbeat, E::UnknownMemberId) => Step::DropMember,
        // Anything else may pass; where it does not, the session's end bounds it.
        _ => Step::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_has_its_step() {
        use Call::{FindCoordinator, Heartbeat, JoinGroup, SyncGroup};
        use ResponseError as E;
        for (call, error, expected) in [
            (FindCoordinator, E::CoordinatorNotAvailable, Step::FindCoordinator),
            (FindCoordinator, E::GroupAuthorizationFailed, Step::Fatal),
            (JoinGroup, E::MemberIdRequired, Step::TakeMemberId),
            (JoinGroup, E::UnknownMemberId, Step::DropMember),
            (JoinGroup, E::CoordinatorLoadInProgress, Step::Retry),
            (JoinGroup, E::NotCoordinator, Step::FindCoordinator),
            (JoinGroup, E::RebalanceInProgress, Step::Retry),
            (JoinGroup, E::InvalidSessionTimeout, Step::RaiseSession),
            (JoinGroup, E::InconsistentGroupProtocol, Step::Fatal),
            (JoinGroup, E::GroupMaxSizeReached, Step::Fatal),
            (JoinGroup, E::FencedInstanceId, Step::Fenced),
            (SyncGroup, E::RebalanceInProgress, Step::DropGeneration),
            (SyncGroup, E::IllegalGeneration, Step::DropGeneration),
            (SyncGroup, E::UnknownMemberId, Step::DropMember),
            (SyncGroup, E::CoordinatorNotAvailable, Step::FindCoordinator),
            (Heartbeat, E::RebalanceInProgress, Step::Revoke),
            (Heartbeat, E::IllegalGeneration, Step::DropGeneration),
            (Heartbeat, E::UnknownMemberId, Step::DropMember),
            (Heartbeat, E::NotCoordinator, Step::FindCoordinator),
            (Heartbeat, E::FencedInstanceId, Step::Fenced),
            (Heartbeat, E::UnknownServerError, Step::Retry),
            (Heartbeat, E::Unknown(1234), Step::Retry),
        ] {
            assert_eq!(after(call, error), expected, "{call:?} answered by {error:?}");
        }
    }
}
