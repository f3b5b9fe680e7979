//! Plays any number of members for one real picored, over real sockets and encrypted: for `scripts/rss`.
//!
//! `crowd TARGET PORT COUNT RATE`: joins the picored at TARGET (address and port) with COUNT members that advertise
//! addresses from 127.1.0.1 on, all with PORT. They answer pings and push/pulls, and do towards TARGET what real ones
//! would: each second one ping, every 30 s a push/pull. RATE times as often; and above 1 also news, RATE of them in ten
//! seconds: suspicions that are refuted, new tags, deaths, returns. Ends when its standard input does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use picored::wire::crypt::{Key, KeyRing};
use picored::wire::packet::{self, Builder, Envelope};
use picored::wire::serf::encode_tags;
use picored::wire::stream::{NodeState, Reader, StreamMessage, WireState, encode_push_pull, seal};
use picored::wire::{Ack, Alive, Claim, Message, Ping, Source};

/// The key of `scripts/rss`.
const KEY: &[u8; 32] = b"picored measures its own memory!";
const VSN: [u8; 6] = [1, 5, 2, 2, 5, 5];
const PUSH_PULL: Duration = Duration::from_secs(30);
const NEWS: Duration = Duration::from_secs(10);
const STREAM_TIME: Duration = Duration::from_secs(10);

struct Player {
    name: String,
    addr: [u8; 4],
    incarnation: u32,
    meta: Vec<u8>,
    /// Dead, until it returns.
    dead: bool,
}

struct Crowd {
    target: SocketAddr,
    port: u16,
    players: Mutex<Vec<Player>>,
    envelope: Envelope,
    socket: UdpSocket,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [target, port, count, rate] = args.as_slice() else { panic!("crowd TARGET PORT COUNT RATE") };
    let port: u16 = port.parse().expect("a port");
    let rate: u32 = rate.parse().expect("a rate");
    let crowd = Arc::new(Crowd {
        target: target.parse().expect("address and port"),
        port,
        players: Mutex::new((0..count.parse().expect("a count")).map(player).collect()),
        envelope: Envelope {
            keys: KeyRing { keys: vec![Key::new(KEY).expect("32 bytes")] },
            compress_from: 200,
            compress_streams: true,
            ..Envelope::default()
        },
        socket: UdpSocket::bind(("0.0.0.0", port)).expect("the port is free"),
    });
    let listener = TcpListener::bind(("0.0.0.0", port)).expect("the port is free");
    let run = |work: fn(&Crowd, u32)| {
        let crowd = Arc::clone(&crowd);
        thread::spawn(move || work(&crowd, rate))
    };
    run(|crowd, _| crowd.answer_packets());
    run(Crowd::ping);
    run(Crowd::synchronise);
    if rate > 1 {
        run(Crowd::tell_news);
    }
    let accepting = Arc::clone(&crowd);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = accepting.answer_stream(stream);
        }
    });
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn player(i: usize) -> Player {
    let addr = [127, 1, (i / 250) as u8, (i % 250) as u8 + 1];
    Player { name: format!("crowd{i:04}"), addr, incarnation: 1, meta: tags("up"), dead: false }
}

fn tags(state: &str) -> Vec<u8> {
    encode_tags([("a.web", state), ("cluster", "default")].into_iter())
}

fn nonce() -> [u8; 12] {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).expect("entropy");
    bytes
}

fn random(below: usize) -> usize {
    u64::from_le_bytes(nonce()[..8].try_into().expect("8 bytes")) as usize % below
}

impl Crowd {
    fn send(&self, messages: &[Message<'_>]) {
        self.send_to(self.target, messages);
    }

    fn send_to(&self, to: SocketAddr, messages: &[Message<'_>]) {
        let (mut builder, mut out) = (Builder::default(), Vec::new());
        messages.iter().for_each(|message| builder.push_message(message));
        builder.finish(&self.envelope, nonce(), true, &mut out);
        let _ = self.socket.send_to(&out, to);
    }

    fn answer_packets(&self) {
        let (mut buf, mut scratch) = (vec![0; 65_536], Vec::new());
        while let Ok((n, from)) = self.socket.recv_from(&mut buf) {
            let mut asked = Vec::new();
            let _ = packet::open(&self.envelope, &mut buf[..n], &mut scratch, &mut |message| match message {
                Ok(Message::Ping(ping)) => asked.push((ping.node.to_owned(), ping.seq)),
                Ok(Message::IndirectPing(ping)) => asked.push((ping.node.to_owned(), ping.seq)),
                _ => {}
            });
            for (node, seq) in asked {
                if self
                    .players
                    .lock()
                    .expect("no panic")
                    .iter()
                    .any(|player| player.name == node && !player.dead)
                {
                    self.send_to(from, &[Message::Ack(Ack { seq, payload: &[] })]);
                }
            }
        }
    }

    fn ping(&self, rate: u32) {
        let mut seq = 1_000_000;
        loop {
            let (name, addr) = {
                let players = self.players.lock().expect("no panic");
                let player = &players[random(players.len())];
                (player.name.clone(), player.addr)
            };
            let source = Source { addr: &addr, port: self.port, node: &name };
            self.send(&[Message::Ping(Ping { node: "n0", seq, source })]);
            seq += 1;
            thread::sleep(Duration::from_secs(1) / rate);
        }
    }

    /// All that is known of the players, as one side of a push/pull.
    fn table(&self, join: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let players = self.players.lock().expect("no panic");
        let nodes = players.iter().map(|player| NodeState {
            name: &player.name,
            addr: &player.addr,
            port: self.port,
            incarnation: player.incarnation,
            meta: &player.meta,
            state: if player.dead { WireState::Dead } else { WireState::Alive },
            vsn: &VSN,
        });
        encode_push_pull(join, nodes, &[], &mut out);
        out
    }

    fn receive(&self, stream: &mut TcpStream, accepted: bool) -> Option<Vec<u8>> {
        stream.set_read_timeout(Some(STREAM_TIME)).ok()?;
        let (mut reader, mut buf) = (Reader::new(accepted), vec![0; 65_536]);
        loop {
            let n = stream.read(&mut buf).ok().filter(|n| *n > 0)?;
            if let Some(received) = reader.feed(&self.envelope, &buf[..n]).ok()? {
                return Some(received.bytes);
            }
        }
    }

    fn answer_stream(&self, mut stream: TcpStream) -> Option<()> {
        let bytes = self.receive(&mut stream, true)?;
        let received = picored::wire::stream::Received { bytes };
        let mut reply = Vec::new();
        match received.message().ok()? {
            StreamMessage::PushPull(_) => reply = self.table(false),
            StreamMessage::Ping(ping) => Message::Ack(Ack { seq: ping.seq, payload: &[] }).encode(&mut reply),
            _ => return None,
        }
        stream.write_all(&seal(&self.envelope, false, nonce(), &reply)).ok()
    }

    fn synchronise(&self, rate: u32) {
        let mut join = true;
        loop {
            let began = Instant::now();
            if let Ok(mut stream) = TcpStream::connect(self.target) {
                let _ = stream.write_all(&seal(&self.envelope, true, nonce(), &self.table(join)));
                join = self.receive(&mut stream, false).is_none();
            }
            let pause = if join { Duration::from_secs(1) } else { PUSH_PULL / rate };
            thread::sleep(pause.saturating_sub(began.elapsed()));
        }
    }

    fn tell_news(&self, rate: u32) {
        for turn in 0_u32.. {
            thread::sleep(NEWS / rate);
            let mut players = self.players.lock().expect("no panic");
            let (i, from) = (random(players.len()), random(players.len()));
            let from = players[from].name.clone();
            let player = &mut players[i];
            let claim = Claim { node: &player.name, from: &from, incarnation: player.incarnation };
            match turn % 4 {
                _ if player.dead => player.dead = false,
                0 => self.send(&[Message::Suspect(claim)]),
                1 => {
                    self.send(&[Message::Dead(claim)]);
                    player.dead = true;
                    continue;
                }
                _ => player.meta = tags(["up", "down", "maint"][random(3)]),
            }
            player.incarnation += 1;
            self.send(&[Message::Alive(Alive {
                node: &player.name,
                addr: &player.addr,
                port: self.port,
                incarnation: player.incarnation,
                meta: &player.meta,
                vsn: &VSN,
            })]);
        }
    }
}
