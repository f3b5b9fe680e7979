//! `init`: a starter configuration. `keygen`: a gossip key.

use crate::wire::base64;

/// A commented configuration with a fresh key, for this node (default: the host name) and these peers.
/// What it prints is valid as it is.
///
/// # Panics
/// If the kernel gives no random bytes: there is no key then, and no way to go on.
pub fn init(node: Option<&str>, join: &[String]) -> String {
    let quote = |text: &str| serde_json::to_string(&serde_json::Value::from(text)).unwrap_or_default();
    let node = match node {
        Some(node) => format!("\"node\": {},", quote(node)),
        None => "\"//node\": \"fra1\",".into(),
    };
    let join: Vec<String> = join.iter().map(|peer| quote(peer)).collect();
    let key = keygen(None).expect("the kernel gives random bytes");
    TEMPLATE.replace("@NODE@", &node).replace("@JOIN@", &join.join(", ")).replace("@KEY@", &quote(&key))
}

const TEMPLATE: &str = r#"{
  "// picored": "Keys that begin with // are comments. `picored check-config` says what is wrong. This file holds a key: chmod 600.",

  "// node": "This server's name in the cluster; without it, the host name.",
  @NODE@

  "// join": "Addresses or names of one or two other servers; they are tried for ever.",
  "join": [@JOIN@],

  "// keys": "The same on all servers. The first one encrypts, all of them decrypt.",
  "keys": [@KEY@],

  "// publish": "This server's addresses in DNS; without it, the one that the others reach it at.",
  "//publish": ["203.0.113.10", "2001:db8::10"],

  "apps": {
    "web": {
      "// checks": "All must pass. Others: {\"tcp\": \"127.0.0.1:5432\"}, {\"unix\": \"/run/app.sock\"}, {\"exec\": [\"/path/program\", \"argument\"]}",
      "checks": [
        { "http": "http://127.0.0.1:80/", "//host": "www.example.com", "//body_contains": "OK" }
      ],
      "interval": "10s",
      "timeout": "5s",
      "rise": 2,
      "fall": 3
    }
  },

  "safety": {
    "// witness": "Two servers need it: if one does not see the other, it acts only if one of these answers, for else it may itself be cut off. Take two that you trust, outside of the cluster, such as your provider's gateways or public resolvers. Of three servers the majority acts without.",
    "//witness": ["tcp://1.1.1.1:53", "tcp://9.9.9.9:53"]
  },

  "handlers": {
    "dns": {
      "// run": "Told the addresses that shall be published whenever they change; runs on one node of the cluster.",
      "run": ["/etc/picored/handlers/nsupdate"],
      "mode": "sync",
      "apps": ["web"],
      "env": { "DNS_SERVER": "192.0.2.53", "DNS_ZONE": "example.com", "DNS_NAME": "www.example.com." },
      "// env_file": "NAME=value lines for secrets, such as a TSIG key; chmod 600.",
      "//env_file": "/etc/picored/dns.env"
    },
    "//mail": {
      "run": ["/etc/picored/handlers/mail", "root"],
      "mode": "event",
      "events": ["app-up", "app-down", "node-failed"]
    }
  },

  "// log": "Without a file: stderr, which nobody reads of a daemon that cron started. One old file is kept.",
  "log": { "file": "/var/log/picored.log", "level": "info", "max_size": "1MiB" }
}
"#;

/// A key in base64: 32 random bytes, or the bytes of `from_raw`, as the original PicoRed's
/// configuration had them (16, 24 or 32 characters).
pub fn keygen(from_raw: Option<&str>) -> Result<String, String> {
    if let Some(raw) = from_raw {
        return match raw.len() {
            16 | 24 | 32 => Ok(base64::encode(raw.as_bytes())),
            n => Err(format!("the raw key is {n} bytes long; keys have 16, 24 or 32")),
        };
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("the kernel gave no random bytes: {error}"))?;
    Ok(base64::encode(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Config {
        let parsed = Config::parse(text, "host1", Ok(()), &mut |_| Err("no file".into()));
        parsed.unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
    }

    #[test]
    fn what_init_prints_is_a_valid_configuration() {
        let config = parse(&init(None, &[]));
        assert_eq!(config.agent.membership.node.as_ref(), "host1");
        assert_eq!((config.agent.apps.len(), config.agent.handlers.len()), (1, 1));
        assert_eq!(config.notes, []);
        // With the witness that it shows, two nodes are no note.
        let text = init(None, &["198.51.100.7".into()]);
        let notes = |text: &str| parse(text).notes.into_iter().map(|note| note.path).collect::<Vec<_>>();
        assert_eq!(notes(&text), ["safety.witness"]);
        assert_eq!(notes(&text.replace("\"//witness\"", "\"witness\"")), [""; 0]);
        assert_eq!(config.log.file.as_deref(), Some("/var/log/picored.log"));
        let config = parse(&init(Some("fra1"), &["198.51.100.7".into(), "par1.example.net".into()]));
        assert_eq!(config.agent.membership.node.as_ref(), "fra1");
        assert_eq!(config.agent.membership.join.len(), 2);
    }

    #[test]
    fn keys_are_fresh_or_the_raw_ones() {
        let (a, b) = (keygen(None).unwrap(), keygen(None).unwrap());
        assert_ne!(a, b);
        assert_eq!(base64::decode(&a).map(|key| key.len()), Some(32));
        assert_eq!(keygen(Some("0123456789abcdef")).unwrap(), "MDEyMzQ1Njc4OWFiY2RlZg==");
        assert!(keygen(Some("short")).unwrap_err().contains("5 bytes"));
    }
}
