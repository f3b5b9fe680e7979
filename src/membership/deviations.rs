//! Protocol notes: where picored departs from memberlist 0.2.2 and Serf 0.9.4, and why. `P n.m` is the section of the
//! protocol page that says what they do. Where nothing is said here, picored does the same; the vectors under
//! `tests/vectors` and the real programs of `tests/interop` are the judges.
//!
//! # Datagrams and streams
//! - No CRC header is sent (P 1.4): it is the sender's choice, and adds nothing to UDP's checksum and the tag of
//!   AES-GCM.
//! - Packets below 200 bytes are not compressed: pings and acks never become shorter (P 1.2).
//! - At most 127 parts go into a compound message (P 1.5): memberlist 0.2.2 misreads more.
//! - Bounded where Go is not, so that no packet costs more than it should: three wrappers within each other, 64 KiB
//!   inflated, 512 messages and 4 compressed parts of one packet (P 1.2, 4); 1 MiB and 2,000 members of a stream, 4
//!   MiB of all streams, 24 streams from others at once (Go: 20 to 40 MiB, 128 exchanges; P 6.1).
//! - One deadline for a whole stream (Go: for each read), so that nobody can hold it open byte by byte.
//! - Structures must be maps, and names valid UTF-8 of at most 128 bytes: nobody sends anything else (P 2.3), and
//!   names end in logs, on terminals and in environments.
//! - The padding of encryption version 0 is checked, and an empty plaintext is refused; Go crashes on both (P 5).
//!   Version 0 is never sent.
//! - Nonces count up from a random start instead of being drawn each: 96 random bits are no better, and cost a
//!   system call (P 5).
//! - There are no `GossipVerifyIncoming` and `-Outgoing`: a node with keys never speaks or hears plaintext (P 5).
//!
//! # Who is heard and answered
//! - An alive message is refused if its version vector has 1 to 5 bytes (it would crash older peers if passed on),
//!   its metadata more than 512 bytes, its address is unspecified, multicast or broadcast, or outside `allow`, or
//!   if it carries another `cluster` tag (P 3.9, 7.5). One of incarnation 0 leaves no entry behind.
//! - Acks go to where the ping came from, or to the address that it names if that is a member's; memberlist sends
//!   them to any address that the ping names. Relays ping members only. Else anybody could have us send packets
//!   anywhere (P 9).
//! - Sequence numbers start at a random one: acks are not checked for their source (P 7.4), so they must not be
//!   guessable.
//! - Messages are worked off in the order in which they come, not newest first (P 7.9): there is no queue.
//! - The table holds 1,000 members; for a newcomer, who has been gone for longest is forgotten.
//!
//! # Probing and suspicion
//! - Each probe round pings a member; in Go, one at each end of its list pings nobody (P 7.4).
//! - A round that is due within a tenth of its interval begins when a packet comes: one wake-up for both. Go's ticker
//!   keeps its beat (P 7.4).
//! - A ping that cannot leave this machine accuses nobody, whatever else comes of the probe.
//! - Time in which this process did not run (suspended, starved: later than 2 s) is not held against suspects, ends
//!   a running probe without a verdict, and costs a point of health. memberlist's timers fire late and all at once,
//!   and a resumed machine declares its peers dead.
//! - A member that only TCP or relays reach, four probes in a row, is named once in log and status; memberlist logs
//!   each such probe that TCP saved, and none that relays did.
//! - Indirect pings have another sequence number than the direct one (memberlist: the same), so that an answer tells
//!   which way it came; a relay answers what it was asked (P 7.4).
//! - Pings that a person asks for are none of the failure detector's business: each has its own number.
//! - Who accuses us of an incarnation that we have refuted already has missed the refutation, which nobody passes on any
//!   more: it is sent again. memberlist ignores such claims (P 7.5), and is declared dead at the end of the suspicion.
//! - The own incarnation stops at 2^32 - 1 rather than starting anew at 0, which nobody would believe.
//!
//! # The failed and the left
//! - They are kept for `forget_after`: a handler must know whom it withdraws. memberlist keeps the failed for
//!   `GossipToTheDeadTime`, and version 0.2.2 keeps the left for ever (P 7.7). Here both count for
//!   `GossipToTheDeadTime` in all formulas and in the check of versions, and no longer: 0.2.2 counts the left for
//!   ever. The failed that are named in `members` or at an address of `join` stay; the left do not.
//! - One failed member is pinged in each probe round, the one that was not asked for longest. If it answers, a
//!   push/pull follows, in which both sides refute: so a cut heals within seconds of its end. memberlist never asks
//!   again, Serf every 30 s.
//! - A failed member that a push/pull reports and that is not known here is taken over as failed, with its tags, unless
//!   it was forgotten here within 24 hours: a newcomer must know whom its handlers would withdraw. memberlist ignores
//!   it (P 7.6). What is known at second hand, so or from the state file, is not passed on in a push/pull: else two
//!   nodes would remember for each other, for ever, whom both have to forget.
//! - Who is in the state file as running is probed and exchanged tables with as any other, and another address may have
//!   its name at once, until something of it is heard. Serf's snapshot only names whom to join.
//! - Somebody's claim that a failed member is alive, with an incarnation that proves nothing, makes us ask that
//!   member at once. memberlist would have forgotten the member, and believe it.
//! - Who pings us and is failed or left here is told so beside the ack, and refutes at once. memberlist tells
//!   suspects only, at its own next probe (Lifeguard's buddy system), and nobody gossips to a member that left.
//! - Who knows nobody and is pinged asks the pinger for its table: it was restarted before others noticed.
//! - A claim that somebody is alive who was forgotten, with an address and an incarnation that it had
//!   then, is not believed for 24 hours, but makes us ask that address; when it answers, a push/pull follows.
//!   memberlist, which forgets whoever is failed, believes it.
//! - Join targets are tried for ever, 1 to 60 s apart, whenever nobody is known to run there; memberlist's `Join`
//!   is one try.
//!
//! # Names and addresses
//! - A name that comes back at another address is taken over at once when the old one is failed or left; memberlist
//!   does so when it is left, and where it is failed waits until it has forgotten the old entry
//!   (`DeadNodeReclaimTime` is off by default, P 7.5). If the old one is believed alive it is asked, and loses the
//!   name when it is silent to three pings and to a whole probe: that probe comes next, not in its turn. With
//!   `reclaim_after` set, memberlist's own rule holds: failed for that long, or left by its own goodbye.
//! - Late news of a death go round while the name is taken over already. For `GossipToTheDeadTime` an accusation up
//!   to the former owner's incarnation is only a suspicion of the new one, who refutes it; so is a goodbye of an
//!   incarnation that the new one has not reached.
//! - Two live nodes of one name: both say so and stay. Serf asks the cluster and shuts the loser down (P 8.6),
//!   which is the last thing a machine should do that keeps records. Where agents ask, picored answers as they do,
//!   but for a name that it does not know.
//!
//! # Gossip
//! - News that came are gossiped at once, then every `gossip_interval`; without news nothing wakes up. memberlist's
//!   ticker always runs.
//! - The queue is bounded; beyond that the piece that was sent most often is dropped.
//! - Own refutations are queued under the own name; Go files them under the address, without effect on the wire (P
//!   7.9).
//!
//! # Serf
//! - Acks carry no coordinates (P 8.7): nobody here uses them, and an empty payload is what Serf ignores. `serf
//!   rtt` has no answer about a picored node.
//! - A leave intent goes by stream to three members, too, before it is gossiped (P 8.5): else chance decides who
//!   sees the goodbye as a failure.
//! - A leave intent makes a member that is then silent left for as long as it may be about that silence: until the
//!   slowest suspicion is over and 30 s more, and until the member says something with a greater incarnation. In Serf
//!   a member is leaving until a join intent comes, and a crash weeks later a departure.
//! - A member that is left by an intent alone is dead in a push/pull and told so by us, as in Serf, whose memberlist
//!   does not know of intents: it can refute. Asked in each round are the failed only.
//! - The own join intent goes out after the first join that works; Serf sends one after each `Join`.
//! - A leave intent that asks to erase the member (`prune`) only makes it left: what a handler has to withdraw is
//!   not forgotten by another node's word.
//! - A member that left without an intent, as bare memberlist programs do, is left here; for Serf's agents it
//!   failed (P 8.4). In the state that agents get in a push/pull it is not named as left.
//! - User events and queries are passed on and mean nothing here, but for queries about keys and about who has
//!   a name, which are answered and obeyed as an agent does (`queries.rs` has what differs). The events of a push/pull are not kept for
//!   newcomers: agents do.
//! - Without Serf (`"peers": "memberlist"`) user messages are left alone: they are another application's.
