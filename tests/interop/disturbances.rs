//! The network's disturbances disturb, and healing heals: else many a cell would show nothing.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::cell::{Setting, run};
use crate::net::{Net, addr};

#[test]
fn what_is_cut_or_lost_does_not_arrive() {
    run("the network drops what it is told to", false, cut_or_lost);
}

fn cut_or_lost(_: &Setting) -> String {
    let net = Net::new(2);
    let socket = |n: u8| net.within(n, || UdpSocket::bind((addr(n), 7946)).expect("its address"));
    let (one, two) = (socket(1), socket(2));
    let arrived = |from: &UdpSocket, to: &UdpSocket, count: u32| {
        let whom = to.local_addr().expect("bound");
        (0..count).for_each(|_| assert_eq!(from.send_to(b"x", whom).ok(), Some(1), "sending never fails"));
        to.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
        (0..count).take_while(|_| to.recv_from(&mut [0; 9]).is_ok()).count()
    };
    // ARP queues only a few packets.
    assert_eq!((arrived(&one, &two, 1), arrived(&two, &one, 1)), (1, 1));
    net.drop_udp_one_way(1, 2);
    assert_eq!((arrived(&one, &two, 1), arrived(&two, &one, 1)), (0, 1));
    net.heal();
    assert_eq!(arrived(&one, &two, 1), 1);
    let listener = net.within(2, || TcpListener::bind((addr(2), 7946)).expect("its address"));
    let limit = Duration::from_millis(500);
    let reach =
        || net.within(1, || TcpStream::connect_timeout(&listener.local_addr().expect("bound"), limit));
    net.drop_udp(1, 2);
    assert!(reach().is_ok(), "TCP goes on");
    net.cut(2);
    assert!(reach().is_err(), "the cable is pulled");
    net.heal();
    net.lose(30);
    let came = arrived(&one, &two, 200);
    assert!((90..190).contains(&came), "{came} of 200 packets under 30 % loss");
    format!("{came} of 200 arrive under 30 % loss")
}
