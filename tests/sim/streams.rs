//! Streams as the kernels of both machines handle them: connecting, refusing, carrying, closing, resetting.
//! When and whether a segment arrives is [`crate::net`]'s.

use std::net::SocketAddr;

use picored::agent::Agent;
use picored::membership::{StreamEvent, StreamId};
use picored::time::Instant;

use crate::engine::What;
use crate::net::{End, Segment};
use crate::node::Input;
use crate::world::World;

impl World {
    fn send_segment(&mut self, stream: u64, towards: usize, segment: Segment) {
        let Some(known) = self.net.streams.get(&stream) else { return };
        let to = known.to;
        let owner = |world: &Self| world.nodes.iter().position(|node| node.addr == to);
        let [opener, acceptor] = [known.ends[0].node, known.ends[1].node];
        let acceptor = if acceptor == usize::MAX { owner(self) } else { Some(acceptor) };
        let Some(acceptor) = acceptor else { return };
        let (from, target) = if towards == 1 { (opener, acceptor) } else { (acceptor, opener) };
        if let Some(at) = self.net.segment(self.now, stream, from, target, towards, &segment) {
            self.push(at, What::Segment { stream, towards, segment });
        }
    }

    pub fn open_stream(&mut self, index: usize, id: StreamId, to: SocketAddr) {
        let opener = End { node: index, life: self.nodes[index].life, id, gone: false };
        let stream = self.net.open(opener, to);
        self.send_segment(stream, 1, Segment::Syn);
    }

    pub fn send_on_stream(&mut self, index: usize, id: StreamId, bytes: Vec<u8>) {
        let Some((stream, end)) = self.net.find(index, self.nodes[index].life, id) else { return };
        for chunk in self.net.chunks(bytes) {
            self.send_segment(stream, 1 - end, Segment::Data(chunk));
        }
    }

    pub fn close_stream(&mut self, stream: u64, end: usize, reason: &'static str) {
        self.send_segment(stream, 1 - end, Segment::End(reason));
        self.net.close_end(stream, end);
    }

    /// A process ended: its kernel resets its streams, if it is still there to do so.
    pub fn drop_streams(&mut self, index: usize, life: u32) {
        for (stream, end) in self.net.ends_of(index, life) {
            if self.nodes[index].powered {
                self.close_stream(stream, end, "connection reset");
            } else {
                self.net.close_end(stream, end);
            }
        }
    }

    pub fn segment_arrives(&mut self, stream: u64, towards: usize, segment: Segment) {
        let Some(known) = self.net.streams.get(&stream) else { return };
        if matches!(segment, Segment::Syn) {
            self.syn_arrives(stream, known.to);
            return;
        }
        let end = &known.ends[towards];
        let (node, there) = (end.node, !end.gone && self.nodes[end.node].life == end.life);
        // An acceptor that was not asked yet (it is frozen) hears of it in order, after the question.
        let waits = towards == 1 && node != usize::MAX && self.nodes[node].frozen;
        if there || waits {
            self.deliver(node, Input::Stream { stream, end: towards, segment });
        } else if matches!(segment, Segment::Data(_)) && node != usize::MAX && self.nodes[node].powered {
            self.send_segment(stream, 1 - towards, Segment::End("connection reset"));
        }
    }

    fn syn_arrives(&mut self, stream: u64, to: SocketAddr) {
        let Some(index) = self.nodes.iter().position(|node| node.addr == to && node.powered) else { return };
        if !self.nodes[index].is_running() {
            self.send_segment(stream, 0, Segment::End("connection refused"));
            return;
        }
        let life = self.nodes[index].life;
        self.net.accepted(stream, End { node: index, life, id: 0, gone: true });
        self.send_segment(stream, 0, Segment::Established);
        let opener = self.net.streams.get(&stream).map_or(0, |known| known.ends[0].node);
        let from = SocketAddr::new(self.nodes[opener].addr.ip(), 40_000 + (stream % 20_000) as u16);
        self.deliver(index, Input::Accept { stream, from });
    }

    pub fn accept(&mut self, index: usize, stream: u64, from: SocketAddr) {
        let now = self.now;
        let Some(agent) = &mut self.nodes[index].agent else { return };
        match agent.accept_stream(now, from) {
            Some(id) => {
                let life = self.nodes[index].life;
                self.net.accepted(stream, End { node: index, life, id, gone: false });
            }
            None => self.close_stream(stream, 1, "connection reset"),
        }
    }

    pub fn stream_event(&mut self, index: usize, stream: u64, end: usize, segment: Segment) {
        let now = self.now;
        let Some(known) = self.net.streams.get(&stream) else { return };
        let (id, gone) = (known.ends[end].id, known.ends[end].gone);
        if gone {
            return;
        }
        // The driver drops its side of a broken stream before it says so.
        if matches!(segment, Segment::End(reason) if !reason.is_empty()) {
            self.net.close_end(stream, end);
        }
        let Some(agent) = &mut self.nodes[index].agent else { return };
        tell(agent, now, id, &segment);
    }
}

fn tell(agent: &mut Agent, now: Instant, id: StreamId, segment: &Segment) {
    let event = match segment {
        Segment::Syn => return,
        Segment::Established => StreamEvent::Connected,
        Segment::Data(bytes) => StreamEvent::Data(bytes),
        Segment::End(reason) => StreamEvent::Closed(reason),
    };
    agent.handle_stream(now, id, event);
}
