//! The Serf layer's bytes: tags, intents, push/pull user state (protocol page, section 8). Events and queries are
//! in [`query`].

pub mod query;

use super::msgpack::{self, Reader};
use super::{Error, field_str, field_uint};
use crate::limits::STREAM_NODES_MAX;
use query::{Query, Relay, UserEvent};

// Serf's own type bytes (protocol page, 8.2).
const LEAVE: u8 = 0;
const JOIN: u8 = 1;
const PUSH_PULL: u8 = 2;
const USER_EVENT: u8 = 3;
const QUERY: u8 = 4;
const RELAY: u8 = 9;
/// Before the tags in the metadata.
const TAGS: u8 = 0xFF;

/// A Serf message in a memberlist user message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SerfMessage<'a> {
    /// 0: `node` is about to leave (`prune`: and to be erased).
    Leave { ltime: u64, node: &'a str, prune: bool },
    /// 1: `node` is there.
    Join { ltime: u64, node: &'a str },
    /// 3: an event of the operator's; the same everywhere.
    UserEvent(UserEvent<'a>),
    /// 4: a question to all, or to some.
    Query(Query<'a>),
    /// 9: to be sent on.
    Relay(Relay<'a>),
    /// What else there is; not ours to interpret.
    Other(u8),
}

impl<'a> SerfMessage<'a> {
    /// Reads the payload of a user message.
    pub fn decode(payload: &'a [u8]) -> Result<Self, Error> {
        let (&kind, body) = payload.split_first().ok_or(Error::Truncated)?;
        match kind {
            LEAVE | JOIN => {}
            USER_EVENT => return UserEvent::read(body).map(Self::UserEvent),
            QUERY => return Query::read(body).map(Self::Query),
            RELAY => return Relay::read(body).map(Self::Relay),
            _ => return Ok(Self::Other(kind)),
        }
        let (mut ltime, mut node, mut prune) = (0, "", false);
        Reader::new(body).fields(&mut |key, value| {
            match key {
                b"LTime" => ltime = value.uint()?,
                b"Node" => node = value.str()?,
                b"Prune" if kind == LEAVE => prune = value.bool()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(if kind == LEAVE { Self::Leave { ltime, node, prune } } else { Self::Join { ltime, node } })
    }

    /// Appends the payload of a user message. What is not an intent appends nothing: it is passed on as it came.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, ltime, node, prune) = match *self {
            Self::Leave { ltime, node, prune } => (LEAVE, ltime, node, Some(prune)),
            Self::Join { ltime, node } => (JOIN, ltime, node, None),
            Self::UserEvent(_) | Self::Query(_) | Self::Relay(_) | Self::Other(_) => return,
        };
        out.push(kind);
        msgpack::write_map(out, 2 + usize::from(prune.is_some()));
        field_uint(out, "LTime", ltime);
        field_str(out, "Node", node);
        if let Some(prune) = prune {
            msgpack::write_str(out, "Prune");
            msgpack::write_bool(out, prune);
        }
    }
}

/// Serf's user state in a push/pull (8.3), as far as it concerns membership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserState<'a> {
    pub ltime: u64,
    pub event_ltime: u64,
    pub query_ltime: u64,
    pub left_members: Vec<&'a str>,
    pub status_ltimes: Vec<(&'a str, u64)>,
}

impl<'a> UserState<'a> {
    /// Reads it; the events in it are skipped. [`Error::TooLong`] with more names than
    /// [`STREAM_NODES_MAX`] in one list.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let (&kind, body) = bytes.split_first().ok_or(Error::Truncated)?;
        if kind != PUSH_PULL {
            return Err(Error::Unsupported(kind));
        }
        let mut state = Self::default();
        Reader::new(body).fields(&mut |key, value| {
            match key {
                b"EventLTime" => state.event_ltime = value.uint()?,
                b"LTime" => state.ltime = value.uint()?,
                b"LeftMembers" => state.left_members = read_names(value)?,
                b"QueryLTime" => state.query_ltime = value.uint()?,
                b"StatusLTimes" => state.status_ltimes = read_ltimes(value)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(state)
    }

    /// Appends it, with no events.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(PUSH_PULL);
        msgpack::write_map(out, 6);
        field_uint(out, "EventLTime", self.event_ltime);
        msgpack::write_str(out, "Events");
        msgpack::write_array(out, 0);
        field_uint(out, "LTime", self.ltime);
        msgpack::write_str(out, "LeftMembers");
        msgpack::write_array(out, self.left_members.len());
        self.left_members.iter().for_each(|name| msgpack::write_str(out, name));
        field_uint(out, "QueryLTime", self.query_ltime);
        msgpack::write_str(out, "StatusLTimes");
        msgpack::write_map(out, self.status_ltimes.len());
        self.status_ltimes.iter().for_each(|&(name, ltime)| field_uint(out, name, ltime));
    }
}

fn read_names<'a>(value: &mut Reader<'a>) -> Result<Vec<&'a str>, Error> {
    let count = value.array()?;
    let mut names = Vec::new();
    for _ in 0..bounded(count)? {
        names.push(value.str()?);
    }
    Ok(names)
}

fn read_ltimes<'a>(value: &mut Reader<'a>) -> Result<Vec<(&'a str, u64)>, Error> {
    let mut ltimes = Vec::new();
    if value.nil() {
        return Ok(ltimes);
    }
    for _ in 0..bounded(value.map()?)? {
        ltimes.push((value.str()?, value.uint()?));
    }
    Ok(ltimes)
}

fn bounded(count: u32) -> Result<u32, Error> {
    if count as usize <= STREAM_NODES_MAX { Ok(count) } else { Err(Error::TooLong) }
}

/// The tags in a member's metadata, in the order they stand there; those that are no text (UTF-8) are passed over.
/// See [`raw_tags`].
pub fn tags(meta: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let text = |bytes| core::str::from_utf8(bytes).ok();
    raw_tags(meta).filter_map(move |(name, value)| Some((text(name)?, text(value)?)))
}

/// The tags in a member's metadata as Serf takes them, any bytes, in the order they stand there; broken ones end the
/// walk. Metadata without the leading 0xFF is the value of the single tag `role`.
pub fn raw_tags(meta: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (role, mut reader, mut left) = match meta.split_first() {
        Some((&TAGS, map)) => {
            let mut reader = Reader::new(map);
            let left = reader.map().unwrap_or(0);
            (None, reader, left)
        }
        _ => (Some(meta), Reader::new(&[]), 0),
    };
    let map = core::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let tag = reader.raw().and_then(|key| Ok((key, reader.raw()?)));
        // After a broken one the rest would be read out of step.
        tag.inspect_err(|_| left = 0).ok()
    });
    role.map(|role| (&b"role"[..], role)).into_iter().chain(map)
}

/// The value of one tag; of several with that name the last, as in Go's map.
pub fn tag<'a>(meta: &'a [u8], name: &str) -> Option<&'a str> {
    tags(meta).filter(|(key, _)| *key == name).last().map(|(_, value)| value)
}

/// Metadata that holds `tags` (0xFF and a map, in the order given).
pub fn encode_tags<'a>(tags: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut out = vec![TAGS];
    msgpack::write_map(&mut out, tags.len());
    tags.for_each(|(key, value)| field_str(&mut out, key, value));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_tags_end_the_walk_and_keep_what_came_before() {
        let good = encode_tags([("a", "1"), ("b", "2"), ("c", "3")].into_iter());
        for cut in 0..good.len() {
            let kept: Vec<_> = tags(&good[..cut]).collect();
            let expected: &[_] = &[("a", "1"), ("b", "2"), ("c", "3")];
            if cut > 0 {
                assert_eq!(kept, expected[..(cut.saturating_sub(2)) / 4]);
            }
        }
        assert_eq!(tags(b"\xFF\x82\xA1a\x05\xA1b\xA1c").count(), 0);
    }

    #[test]
    fn a_tag_that_is_no_text_hides_none_of_the_others() {
        let meta = b"\xFF\x83\xA1a\xA1\xFE\xA1\xFD\xA11\xA1c\xA13";
        assert_eq!(tags(meta).collect::<Vec<_>>(), [("c", "3")]);
        let raw: [(&[u8], &[u8]); 3] = [(b"a", b"\xFE"), (b"\xFD", b"1"), (b"c", b"3")];
        assert_eq!(raw_tags(meta).collect::<Vec<_>>(), raw);
        assert_eq!((tags(b"\xFE").count(), raw_tags(b"\xFE").count()), (0, 1));
    }

    #[test]
    fn a_tag_is_found_by_name_and_the_last_of_two_wins() {
        let meta = encode_tags([("a", "1"), ("b", "2"), ("a", "3")].into_iter());
        assert_eq!((tag(&meta, "a"), tag(&meta, "b"), tag(&meta, "c")), (Some("3"), Some("2"), None));
        assert_eq!(tag(b"web", "role"), Some("web"));
    }

    #[test]
    fn user_state_comes_back_and_too_many_names_do_not() {
        let names = vec!["n"; STREAM_NODES_MAX];
        let state = UserState {
            ltime: 7,
            event_ltime: 1,
            query_ltime: u64::MAX,
            left_members: names,
            status_ltimes: vec![("n", 1), ("m", 300)],
        };
        let mut out = Vec::new();
        state.encode(&mut out);
        assert_eq!(UserState::decode(&out), Ok(state.clone()));
        let more = UserState { left_members: vec!["n"; STREAM_NODES_MAX + 1], ..state };
        out.clear();
        more.encode(&mut out);
        assert_eq!(UserState::decode(&out), Err(Error::TooLong));
        assert_eq!(UserState::decode(&[]), Err(Error::Truncated));
        assert_eq!(UserState::decode(&[5, 0x80]), Err(Error::Unsupported(5)));
    }

    #[test]
    fn what_is_not_known_is_passed_over_by_type() {
        assert_eq!(SerfMessage::decode(&[10, 0xC1]), Ok(SerfMessage::Other(10)));
        assert_eq!(SerfMessage::decode(&[4, 0xC1]), Err(Error::Malformed));
        assert_eq!(SerfMessage::decode(&[]), Err(Error::Truncated));
    }
}
