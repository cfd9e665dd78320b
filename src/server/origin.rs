//! Which pages may play: browsers name the page that opens a WebSocket, and let any page open one to any server.

use std::str::FromStr;

use hyper::header::{HOST, HeaderMap, ORIGIN};

/// A page's origin as browsers write it, `scheme://host` with a port that is not the scheme's own; or `*`, any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedOrigin {
    text: String,
}

impl FromStr for AllowedOrigin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_origin = text.split_once("://").is_some_and(|(scheme, host)| {
            !scheme.is_empty()
                && !host.is_empty()
                && !host.contains(['/', '?', '#', '@'])
                && !host.contains(char::is_whitespace)
        });
        if text == "*" || is_origin {
            Ok(Self { text: text.to_owned() })
        } else {
            Err("not an origin such as https://example.org or http://localhost:3000, or * for any".to_owned())
        }
    }
}

/// Whether the page that asks, if it is one, may: one of the host that it asks, whatever the port, or one that is allowed.
pub(crate) fn is_allowed(headers: &HeaderMap, allowed: &[AllowedOrigin]) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    let (Some(origin), None) = (origins.next(), origins.next()) else {
        // Bots are no pages, and send none.
        return !headers.contains_key(ORIGIN);
    };
    let Ok(origin) = origin.to_str() else { return false };
    let is_listed = |allowed: &AllowedOrigin| allowed.text == "*" || allowed.text.eq_ignore_ascii_case(origin);
    let asked = headers.get(HOST).and_then(|host| host.to_str().ok());
    let is_same = |asked: &str| {
        origin.split_once("://").is_some_and(|(_, of)| without_port(of).eq_ignore_ascii_case(without_port(asked)))
    };
    allowed.iter().any(is_listed) || asked.is_some_and(is_same)
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // Within brackets are the colons of an IPv6 address.
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn check(host: &'static str, origins: &[&'static str], allowed: &str, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(host));
        for origin in origins {
            headers.append(ORIGIN, HeaderValue::from_static(origin));
        }
        let allowed: Vec<AllowedOrigin> = allowed.split(' ').filter_map(|text| text.parse().ok()).collect();
        assert_eq!(is_allowed(&headers, &allowed), expected, "{origins:?} at {host}, allowed {allowed:?}");
    }

    #[test]
    fn pages_of_the_same_host_and_those_that_are_allowed_may_and_others_may_not() {
        check("game.example:8080", &[], "", true);
        check("game.example:8080", &["http://game.example"], "", true);
        check("GAME.example", &["https://game.EXAMPLE:9000"], "", true);
        check("[::1]:8080", &["http://[::1]:3000"], "", true);
        check("[::1]", &["http://[::2]"], "", false);
        check("game.example", &["http://game.example.evil.org"], "", false);
        check("game.example", &["http://evil.org"], "", false);
        check("game.example", &["null"], "", false);
        check("game.example", &[""], "", false);
        check("game.example", &["http://game.example", "http://evil.org"], "", false);
        check("game.example", &["https://pages.org"], "http://pages.org https://pages.org", true);
        check("game.example", &["https://PAGES.org"], "https://pages.org", true);
        check("game.example", &["http://pages.org"], "https://pages.org", false);
        check("game.example", &["https://pages.org:444"], "https://pages.org", false);
        check("game.example", &["null"], "*", true);
    }

    #[test]
    fn what_is_no_origin_cannot_be_allowed() {
        for text in
            ["", "example.org", "https://", "://a", "https://a/", "https://a/b", "https://u@a", "https://a b", "null"]
        {
            assert!(text.parse::<AllowedOrigin>().is_err(), "{text}");
        }
    }
}
