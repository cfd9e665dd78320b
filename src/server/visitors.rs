//! Who comes from where: bounds on what one client address may have and ask for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard};

use hyper::header::HeaderMap;
use tokio::time::Instant;

/// What proxies tell of whom they speak for, the last one's word at the end.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// So many seconds' finds may be asked for at once: a crew of bots starts all of them together.
const BURST_SECS: u32 = 10;

/// From how many addresses on, those that need not be remembered are looked for.
const SWEPT_FROM: usize = 1024;

/// Addresses that begin with the same bits: `192.0.2.0/24`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u32,
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        let same = |one: u128, other: u128, bits: u32| {
            // A shift by all bits is none.
            (one ^ other).checked_shr(bits - self.prefix).unwrap_or(0) == 0
        };
        match (self.address, address) {
            (IpAddr::V4(one), IpAddr::V4(other)) => same(one.to_bits().into(), other.to_bits().into(), 32),
            (IpAddr::V6(one), IpAddr::V6(other)) => same(one.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let network = address.parse::<IpAddr>().ok().and_then(|address| {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let prefix = prefix.map_or(Some(bits), |prefix| prefix.parse().ok().filter(|prefix| *prefix <= bits))?;
            Some(Self { address, prefix })
        });
        network.ok_or_else(|| "not an address or a network such as 10.0.0.7, 10.0.0.0/8 or fd00::/8".to_owned())
    }
}

/// Everybody who is connected, by address, and whoever has asked for a game of late.
#[derive(Debug)]
pub(crate) struct Visitors {
    connections: usize,
    finds_per_sec: u32,
    proxies: Vec<Network>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    addresses: HashMap<IpAddr, Visits>,
    /// Doubles with what a sweep leaves.
    sweep_at: usize,
}

#[derive(Debug)]
struct Visits {
    connections: usize,
    /// Finds that are left, of `BURST_SECS` seconds' at most.
    finds: f64,
    counted: Instant,
}

/// All connections that an address may have are taken.
#[derive(Debug)]
pub(crate) struct Crowded;

/// A connection of an address, counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Visit {
    visitors: Arc<Visitors>,
    /// None: it is not counted.
    address: Option<IpAddr>,
}

impl Visitors {
    /// A limit of 0 is none.
    pub(crate) fn new(connections: usize, finds_per_sec: u32, proxies: Vec<Network>) -> Arc<Self> {
        let known = Mutex::new(Known { addresses: HashMap::new(), sweep_at: SWEPT_FROM });
        Arc::new(Self { connections, finds_per_sec, proxies, known })
    }

    /// Whether the peer speaks for others, whom its requests name.
    pub(crate) fn is_proxy(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxies.iter().any(|proxy| proxy.contains(peer))
    }

    /// Whom a proxy speaks for: the last one in its list that is no proxy of ours, since the one before may have been written by anybody.
    /// None where only our own are named.
    pub(crate) fn forwarded_for(&self, proxy: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
        let lists: Vec<&str> = headers.get_all(FORWARDED_FOR).iter().map(|list| list.to_str().unwrap_or("?")).collect();
        for text in lists.iter().rev().flat_map(|list| list.rsplit(',')) {
            // What cannot be read is counted as whoever passed it on.
            let Some(address) = read_address(text.trim()) else { return Some(proxy) };
            if !self.is_proxy(address) {
                return Some(address);
            }
        }
        None
    }

    /// Counts a connection of that address. Those of this host are not: whoever is on it can do more than connect.
    pub(crate) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Visit, Crowded> {
        let address = address.map(|address| address.to_canonical()).filter(|address| !address.is_loopback());
        let address = address.map(neighbourhood);
        if let Some(address) = address {
            let now = Instant::now();
            let mut known = self.lock();
            self.sweep(&mut known, now);
            let finds = f64::from(self.burst());
            let visits = known.addresses.entry(address).or_insert(Visits { connections: 0, finds, counted: now });
            if self.connections > 0 && visits.connections >= self.connections {
                return Err(Crowded);
            }
            visits.connections += 1;
        }
        Ok(Visit { visitors: Arc::clone(self), address })
    }

    fn burst(&self) -> u32 {
        self.finds_per_sec.saturating_mul(BURST_SECS)
    }

    /// Forgets those who have gone and have all their finds again.
    fn sweep(&self, known: &mut Known, now: Instant) {
        if known.addresses.len() >= known.sweep_at {
            let idle_secs = f64::from(BURST_SECS);
            known
                .addresses
                .retain(|_, visits| visits.connections > 0 || (now - visits.counted).as_secs_f64() < idle_secs);
            known.sweep_at = SWEPT_FROM.max(2 * known.addresses.len());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics while holding the addresses")
    }
}

impl Visit {
    /// Whether the address may ask for a game now; it has then done so.
    pub(crate) fn finds(&self) -> bool {
        self.take(1.0)
    }

    /// Whether the address could ask for one now.
    pub(crate) fn could_find(&self) -> bool {
        self.take(0.0)
    }

    fn take(&self, finds: f64) -> bool {
        let (Some(address), rate @ 1..) = (self.address, self.visitors.finds_per_sec) else { return true };
        let now = Instant::now();
        let mut known = self.visitors.lock();
        let Some(visits) = known.addresses.get_mut(&address) else { return true };
        let regained = (now - visits.counted).as_secs_f64() * f64::from(rate);
        visits.finds = (visits.finds + regained).min(f64::from(self.visitors.burst()));
        visits.counted = now;
        let may = visits.finds >= 1.0;
        if may {
            visits.finds -= finds;
        }
        may
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(address) = self.address
            && let Some(visits) = self.visitors.lock().addresses.get_mut(&address)
        {
            visits.connections -= 1;
        }
    }
}

/// One IPv6 client has a network of addresses to choose from.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

/// An address as proxies write it: some with the port, those of IPv6 in brackets then.
fn read_address(text: &str) -> Option<IpAddr> {
    let bare = || text.parse().ok();
    let with_port = || text.parse().map(|place: std::net::SocketAddr| place.ip()).ok();
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    bare().or_else(with_port).or_else(in_brackets)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use hyper::header::HeaderValue;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn visitors(connections: usize, finds_per_sec: u32, proxies: &[&str]) -> Arc<Visitors> {
        Visitors::new(connections, finds_per_sec, proxies.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn an_address_has_so_many_connections_and_others_have_their_own() {
        let visitors = visitors(2, 0, &[]);
        let enter = |text: &str| visitors.enter(Some(address(text)));
        let first = enter("192.0.2.1").unwrap();
        let _second = enter("::ffff:192.0.2.1").unwrap();
        assert!(enter("192.0.2.1").is_err(), "the same address in the form of IPv6");
        assert!(enter("192.0.2.2").is_ok());
        drop(first);
        assert!(enter("192.0.2.1").is_ok());
        let _both = (enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap());
        assert!(enter("2001:db8::3").is_err(), "the same network of IPv6");
        assert!(enter("2001:db8:0:1::1").is_ok());
        let _local: Vec<_> = (0..9).map(|_| (enter("127.0.0.1").unwrap(), enter("::1").unwrap())).collect();
        assert!(visitors.enter(None).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn finds_come_back_with_time() {
        let visitors = visitors(0, 2, &[]);
        let visit = visitors.enter(Some(address("192.0.2.1"))).unwrap();
        let again = visitors.enter(Some(address("192.0.2.1"))).unwrap();
        assert_eq!((0..100).filter(|_| visit.finds() || again.finds()).count(), 20);
        assert!(!visit.could_find());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(visit.could_find());
        assert_eq!((0..100).filter(|_| again.finds()).count(), 2);
        let local = visitors.enter(Some(address("127.0.0.1"))).unwrap();
        assert!((0..100).all(|_| local.finds()));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_have_gone_are_forgotten() {
        let visitors = visitors(5, 5, &[]);
        for number in 0..10 * SWEPT_FROM as u32 {
            drop(visitors.enter(Some(IpAddr::V4((number + (1 << 24)).into()))));
            if number % 100 == 0 {
                tokio::time::advance(Duration::from_secs(1)).await;
            }
        }
        assert!(visitors.lock().addresses.len() <= 2 * SWEPT_FROM);
    }

    #[test]
    fn a_proxy_speaks_for_the_last_one_that_is_none() {
        let visitors = visitors(0, 0, &["10.0.0.0/8", "192.0.2.7", "fd00::/8"]);
        for (peer, expected) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd00::1", true),
            ("fe80::1", false),
        ] {
            assert_eq!(visitors.is_proxy(address(peer)), expected, "{peer}");
        }
        for (lists, expected) in [
            (&["198.51.100.1"][..], Some("198.51.100.1")),
            (&["203.0.113.9, 198.51.100.1, 10.0.0.2"], Some("198.51.100.1")),
            (&["203.0.113.9", "198.51.100.1 ,10.0.0.2"], Some("198.51.100.1")),
            (&["198.51.100.1:4711"], Some("198.51.100.1")),
            (&["[2001:db8::1]:4711"], Some("2001:db8::1")),
            (&["2001:db8::1"], Some("2001:db8::1")),
            (&["10.0.0.2"], None),
            (&[], None),
            (&["198.51.100.1, nobody, 10.0.0.2"], Some("10.0.0.1")),
        ] {
            let mut headers = HeaderMap::new();
            for list in lists {
                headers.append(FORWARDED_FOR, HeaderValue::from_static(list));
            }
            let proxy = address("10.0.0.1");
            assert_eq!(visitors.forwarded_for(proxy, &headers), expected.map(address), "{lists:?}");
        }
    }

    #[test]
    fn networks_are_read_and_what_is_none_is_refused() {
        for (network, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("0.0.0.0/0", "255.1.1.1", "::1"),
            ("::/0", "2001:db8::1", "1.1.1.1"),
            ("2001:db8::/32", "2001:db8:ffff::", "2001:db9::"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(address(inside)) && !network.contains(address(outside)), "{network:?}");
        }
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "nginx"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
