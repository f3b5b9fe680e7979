//! Addresses, networks, names and URLs as operators write them. Errors are for people.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::report::quoted;
use super::units;
use crate::check;
use crate::limits::NAME_MAX;
use crate::membership::{Cidr, Target};
use crate::safety::Verify;

/// memberlist's and Serf's port.
pub const GOSSIP_PORT: u16 = 7946;

const RESOLVE_ADVICE: &str =
    "host names are not looked up for checks; write the IP address, or localhost for 127.0.0.1";

/// Where something is, before it is looked up.
#[derive(Debug, PartialEq, Eq)]
pub enum Host<'a> {
    Ip(IpAddr),
    Name(&'a str),
}

/// `198.51.100.7`, `198.51.100.7:7946`, `2001:db8::7`, `[2001:db8::7]:7946`, `name`, `name:7946`.
pub fn host_port(text: &str) -> Result<(Host<'_>, Option<u16>), String> {
    if let Ok(ip) = text.parse() {
        return Ok((Host::Ip(ip), None));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or("a ] is missing")?;
        let ip: Ipv6Addr =
            inside.parse().map_err(|_| format!("{} is not an IPv6 address", quoted(inside)))?;
        return match after.strip_prefix(':') {
            Some(digits) => Ok((Host::Ip(ip.into()), Some(port(digits)?))),
            None if after.is_empty() => Ok((Host::Ip(ip.into()), None)),
            None => Err(format!("{} follows the ]; a port is written [{ip}]:7946", quoted(after))),
        };
    }
    let Some((before, digits)) = text.rsplit_once(':') else { return Ok((host(text)?, None)) };
    if before.contains(':') {
        return Err(format!(
            "{} is not an address; IPv6 with a port is written [2001:db8::7]:7946",
            quoted(text)
        ));
    }
    Ok((host(before)?, Some(port(digits)?)))
}

fn host(text: &str) -> Result<Host<'_>, String> {
    if let Ok(ip) = text.parse() {
        return Ok(Host::Ip(ip));
    }
    let label = |l: &str| {
        (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(format!("{} is neither an IP address nor a host name", quoted(text)));
    }
    // `10.0.0.256` is a slip of the pen, not a host: no top-level domain is a number.
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
        return Err(format!("{} is not an IP address", quoted(text)));
    }
    Ok(Host::Name(text))
}

fn port(digits: &str) -> Result<u16, String> {
    let number = units::whole(digits).and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
    number.ok_or_else(|| format!("{} is not a port; ports are 1 to 65535", quoted(digits)))
}

/// An IP address with or without a port.
pub fn socket(text: &str, default_port: u16) -> Result<SocketAddr, String> {
    match host_port(text)? {
        (Host::Ip(ip), port) => Ok(SocketAddr::new(ip, port.unwrap_or(default_port))),
        (Host::Name(name), _) => {
            Err(format!("{} is not an IP address; host names are not allowed here", quoted(name)))
        }
    }
}

/// An entry of `join`.
pub fn join_target(text: &str) -> Result<Target, String> {
    let (host, port) = host_port(text)?;
    let port = port.unwrap_or(GOSSIP_PORT);
    match host {
        Host::Ip(ip) if ip.is_unspecified() => Err(format!("{ip} is nobody's address")),
        Host::Ip(ip) => Ok(Target::Addr(SocketAddr::new(ip, port))),
        Host::Name(name) => Ok(Target::Name { host: name.into(), port }),
    }
}

/// An address that can be published in DNS.
pub fn public_ip(text: &str) -> Result<IpAddr, String> {
    let ip: IpAddr = text.parse().map_err(|_| match host_port(text) {
        Ok((Host::Ip(ip), Some(_))) => format!("must be an address without a port: \"{ip}\""),
        _ => format!("{} is not an IP address", quoted(text)),
    })?;
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(format!("{ip} is nobody's address"));
    }
    Ok(ip)
}

/// What the rest of the internet cannot reach.
pub fn is_private(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xC0 == 64; // RFC 6598
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// `203.0.113.0/24`, or one address.
pub fn cidr(text: &str) -> Result<Cidr, String> {
    let not = || format!("{} is not a network such as \"203.0.113.0/24\" or \"2001:db8::/32\"", quoted(text));
    let (addr, prefix) = text.split_once('/').map_or((text, None), |(addr, prefix)| (addr, Some(prefix)));
    let addr: IpAddr = addr.parse().map_err(|_| not())?;
    let bits = if addr.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        Some(digits) => units::whole(digits).filter(|n| *n <= u64::from(bits)).ok_or_else(not)? as u8,
    };
    let network = masked(addr, prefix);
    if network != addr {
        return Err(format!("has address bits beyond its prefix; did you mean \"{network}/{prefix}\"?"));
    }
    Ok(Cidr { addr, prefix })
}

fn masked(addr: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match addr {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

/// What a check connects to: never a name that would have to be looked up.
fn literal(text: &str, default_port: Option<u16>) -> Result<SocketAddr, String> {
    let (host, port) = host_port(text)?;
    let ip = match host {
        Host::Ip(ip) => ip,
        Host::Name(name) if name.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
        Host::Name(name) => return Err(format!("{}: {RESOLVE_ADVICE}", quoted(name))),
    };
    let port = port
        .or(default_port)
        .ok_or_else(|| format!("{} has no port, as in \"127.0.0.1:5432\"", quoted(text)))?;
    Ok(SocketAddr::new(ip, port))
}

/// The target of a tcp check.
pub fn tcp(text: &str) -> Result<SocketAddr, String> {
    if let Some((scheme, _)) = text.split_once("://") {
        return Err(format!(
            "write it without {}, as in \"127.0.0.1:5432\"",
            quoted(&format!("{scheme}://"))
        ));
    }
    literal(text, None)
}

/// The parts of an `http://` URL.
#[derive(Debug, PartialEq, Eq)]
pub struct Url<'a> {
    pub addr: SocketAddr,
    /// As it stands in the URL, port included if it is there.
    pub host: &'a str,
    /// Path and query, starting with `/`.
    pub path: String,
}

/// The URL of an http check.
pub fn url(text: &str) -> Result<Url<'_>, String> {
    let (host, path) = split_url(text)?;
    Ok(Url { addr: literal(host, Some(80))?, host, path })
}

/// Host (with port) and path.
fn split_url(text: &str) -> Result<(&str, String), String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    match scheme.to_ascii_lowercase().as_str() {
        "http" => {}
        "https" => {
            return Err("https is not built in; use \"exec\": [\"/usr/bin/curl\", \"-fsS\", \"-o\", \"/dev/null\", \"https://…\"]".into());
        }
        _ => return Err(format!("{} does not begin with http://", quoted(text))),
    }
    if text.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err("a URL holds no blanks and only ASCII; write other characters as %20 and the like".into());
    }
    if rest.contains('#') {
        return Err("the part after # is never sent to a server; remove it".into());
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if host.contains('@') {
        return Err("a user name in the URL is not supported; use \"exec\" and curl".into());
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok((host, format!("{slash}{path}")))
}

/// An entry of `witness`: `tcp://ADDRESS:PORT` or `http://ADDRESS[:PORT]/…`. Any HTTP status is an answer.
pub fn witness(text: &str) -> Result<check::attempt::Target, String> {
    use check::attempt::{Body, HttpTarget, Target};
    if let Some(rest) = text.strip_prefix("tcp://") {
        return literal(rest, None).map(Target::Tcp);
    }
    if !text.starts_with("http") {
        return Err(format!("{} is not like \"tcp://192.0.2.1:443\" or \"http://192.0.2.1/\"", quoted(text)));
    }
    let Url { addr, host, path } = url(text)?;
    let (host, path, status) = (host.into(), path.into(), (100..=599).collect());
    Ok(Target::Http(Box::new(HttpTarget { addr, host, path, status, body: Body::Any })))
}

/// `verify`: a witness whose address is `{addr}`.
pub fn verify(text: &str) -> Result<Verify, String> {
    // What follows is a port or a path: digits would become part of the address.
    let follows = text.split_once("://{addr}").map(|(_, rest)| rest);
    if !follows.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/', '?'])) {
        return Err(format!(
            "{} is neither \"off\" nor like \"tcp://{{addr}}:443\" or \"http://{{addr}}/health\"",
            quoted(text)
        ));
    }
    Ok(match witness(&text.replacen("{addr}", "192.0.2.1", 1))? {
        check::attempt::Target::Http(http) => {
            Verify::Http { port: http.addr.port(), host: None, path: http.path }
        }
        check::attempt::Target::Tcp(addr) => Verify::Tcp { port: addr.port() },
        _ => return Err(format!("{} cannot be tried from outside", quoted(text))),
    })
}

/// A node's name: what Serf allows (letters, digits, dashes, dots; at most 128 bytes).
pub fn node_name(name: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(good) {
        return Ok(());
    }
    Err(format!("{} is no node name: letters, digits, - and . only, at most {NAME_MAX}", quoted(name)))
}

/// The name of an app or a handler: it becomes part of a tag's name.
pub fn plain_name(name: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !name.is_empty() && name.len() <= 64 && name.bytes().all(good) {
        return Ok(());
    }
    Err("names of apps and handlers are letters, digits, - and _ only, at most 64".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn join_targets_are_addresses_or_names() {
        let good = |text| join_target(text).unwrap();
        assert_eq!(good("198.51.100.7"), Target::Addr(at("198.51.100.7:7946")));
        assert_eq!(good("2001:db8::7"), Target::Addr(at("[2001:db8::7]:7946")));
        assert_eq!(good("[2001:db8::7]"), Target::Addr(at("[2001:db8::7]:7946")));
        assert_eq!(good("[2001:db8::7]:80"), Target::Addr(at("[2001:db8::7]:80")));
        assert_eq!(good("par1.example.net:1"), Target::Name { host: "par1.example.net".into(), port: 1 });
        for bad in [
            "",
            ":80",
            "a:0",
            "a:65536",
            "[::1",
            "[x]:1",
            "[::1]x",
            "a b",
            "10.0.0.256",
            "0.0.0.0",
            "x:y:z",
            "-é",
        ] {
            assert!(join_target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn check_urls_need_no_look_up() {
        let good = url("http://localhost/health?x=1").unwrap();
        assert_eq!(
            (good.addr, good.host, good.path.as_str()),
            (at("127.0.0.1:80"), "localhost", "/health?x=1")
        );
        let good = url("http://[::1]:8080").unwrap();
        assert_eq!((good.addr, good.host, good.path.as_str()), (at("[::1]:8080"), "[::1]:8080", "/"));
        assert_eq!(url("http://127.0.0.1?x").unwrap().path, "/?x");
        assert!(url("https://127.0.0.1/").unwrap_err().contains("curl"));
        assert!(url("http://example.com/").unwrap_err().contains("not looked up"));
        for bad in [
            "",
            "127.0.0.1",
            "ftp://127.0.0.1/",
            "http://",
            "http://a@127.0.0.1/",
            "http://127.0.0.1/ x",
            "http://127.0.0.1/#a",
            "http://127.0.0.1:0/",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
        assert_eq!(tcp("localhost:5432").unwrap(), at("127.0.0.1:5432"));
        assert!(tcp("127.0.0.1").is_err() && tcp("tcp://127.0.0.1:1").is_err() && tcp("db:1").is_err());
    }

    #[test]
    fn networks_have_no_bits_beyond_their_prefix() {
        assert_eq!(cidr("203.0.113.0/24").unwrap().prefix, 24);
        assert_eq!(cidr("::1").unwrap().prefix, 128);
        assert!(cidr("0.0.0.0/0").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(!cidr("2001:db8::/32").unwrap().contains("2001:db9::1".parse().unwrap()));
        assert!(cidr("203.0.113.5/24").unwrap_err().contains("\"203.0.113.0/24\""));
        assert!(cidr("203.0.113.0/33").is_err() && cidr("x/8").is_err() && cidr("::/129").is_err());
    }

    #[test]
    fn verify_and_witness_are_endpoints() {
        assert_eq!(verify("tcp://{addr}:443"), Ok(Verify::Tcp { port: 443 }));
        let http = Verify::Http { port: 81, host: None, path: "/x".into() };
        assert_eq!(verify("http://{addr}:81/x"), Ok(http));
        assert_eq!(witness("tcp://1.1.1.1:53"), Ok(check::attempt::Target::Tcp(at("1.1.1.1:53"))));
        let Ok(check::attempt::Target::Http(http)) = witness("http://[::1]/") else { panic!("not http") };
        assert_eq!((http.addr, http.status.contains(&404)), (at("[::1]:80"), true));
        for bad in ["tcp://{addr}", "tcp://192.0.2.1:1", "on", "udp://{addr}:1", "http://{addr}81/x"] {
            assert!(verify(bad).is_err(), "{bad}");
        }
        assert!(witness("tcp://{addr}:1").is_err() && witness("https://1.1.1.1/").is_err());
    }
}
