//! The endpoints: what a connection's request path makes of it.

/// An endpoint; a connection belongs to one for its whole life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A user's token for its name.
    Login,
    /// A seat in a game.
    Find,
    /// What happens in a game, pushed.
    Lobby,
    /// A player's hero.
    Hero,
    /// A move.
    Action,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Login, Self::Find, Self::Lobby, Self::Hero, Self::Action];

    /// The request path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Login => "/api/v1/login",
            Self::Find => "/api/v1/game/find",
            Self::Lobby => "/api/v1/game/lobby",
            Self::Hero => "/api/v1/game/hero",
            Self::Action => "/api/v1/game/action",
        }
    }

    /// The endpoint of exactly this path.
    pub fn from_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_to_its_endpoint_and_no_other_does() {
        for endpoint in Endpoint::ALL {
            assert_eq!(Endpoint::from_path(endpoint.path()), Some(endpoint));
            assert_eq!(Endpoint::from_path(&format!("{}/", endpoint.path())), None);
        }
        assert_eq!(Endpoint::from_path("/api/v2/login"), None);
    }
}
