//! The paths of the API.

/// What a connection is for, by its request path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `/api/v1/login`
    Login,
    /// `/api/v1/game/find`
    Find,
    /// `/api/v1/game/lobby`
    Lobby,
    /// `/api/v1/game/hero`
    Hero,
    /// `/api/v1/game/action`
    Action,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Login, Self::Find, Self::Lobby, Self::Hero, Self::Action];

    /// Its request path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Login => "/api/v1/login",
            Self::Find => "/api/v1/game/find",
            Self::Lobby => "/api/v1/game/lobby",
            Self::Hero => "/api/v1/game/hero",
            Self::Action => "/api/v1/game/action",
        }
    }

    /// The endpoint of a request path; `None` if there is none.
    pub fn of(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_taken_to_the_letter() {
        for endpoint in Endpoint::ALL {
            assert_eq!(Endpoint::of(endpoint.path()), Some(endpoint));
        }
        for path in ["", "/", "/api/v1/login/", "/api/v2/login", "/API/V1/LOGIN"] {
            assert_eq!(Endpoint::of(path), None, "{path}");
        }
    }
}
