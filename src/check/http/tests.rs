use super::*;
use crate::limits::HTTP_BODY_MAX;
use proptest::prelude::*;

fn target(body: Body) -> HttpTarget {
    HttpTarget {
        addr: ([127, 0, 0, 1], 8080).into(),
        host: "www.example.org".into(),
        path: "/health?full=1".into(),
        status: vec![],
        body,
    }
}

fn contains(text: &str) -> Body {
    Body::Contains(text.into())
}

fn equals(text: &str) -> Body {
    Body::Equals(text.into())
}

/// What a server's whole answer gives, in pieces that end at the given places.
fn answer_in_pieces(target: &HttpTarget, response: &[u8], cuts: &[usize]) -> Outcome {
    let mut exchange = Exchange::new(target);
    let mut cuts: Vec<usize> = cuts.iter().map(|&cut| cut.min(response.len())).collect();
    cuts.extend([0, response.len()]);
    cuts.sort_unstable();
    for pair in cuts.windows(2) {
        if let Some(outcome) = exchange.feed(&response[pair[0]..pair[1]]) {
            assert_eq!(exchange.end(), outcome, "a verdict must not change");
            return outcome;
        }
    }
    exchange.end()
}

fn answer(body: Body, response: &[u8]) -> Outcome {
    answer_in_pieces(&target(body), response, &[])
}

#[track_caller]
fn passes(body: Body, response: &str) {
    assert_eq!(answer(body, response.as_bytes()), Outcome::Pass("http 200".into()));
}

#[track_caller]
fn fails(body: Body, response: &str, reason: &str) {
    assert_eq!(answer(body, response.as_bytes()), Outcome::Fail(reason.into()));
}

const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";

#[test]
fn the_request_is_what_the_contract_says() {
    let exchange = Exchange::new(&target(Body::Any));
    let expected = format!(
        "GET /health?full=1 HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: picored/{}\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(exchange.request(), expected.as_bytes());
}

#[test]
fn path_and_host_cannot_add_lines_to_the_request() {
    let odd = HttpTarget { path: "/a b\r\nX: é".into(), host: "h\r\nY: 1".into(), ..target(Body::Any) };
    let request = String::from_utf8(Exchange::new(&odd).request().to_vec()).unwrap();
    assert!(request.starts_with("GET /a%20b%0D%0AX:%20%C3%A9 HTTP/1.1\r\nHost: hY:1\r\n"), "{request}");
}

#[test]
fn without_a_wanted_body_the_verdict_comes_with_the_head() {
    let mut exchange = Exchange::new(&target(Body::Any));
    assert_eq!(exchange.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n"), None);
    assert_eq!(exchange.feed(b"\r\n"), Some(Outcome::Pass("http 200".into())));
}

#[test]
fn the_status_decides_and_redirects_are_not_followed() {
    fails(Body::Any, "HTTP/1.1 502 Bad Gateway\r\n\r\n", "http 502");
    fails(contains("x"), "HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\nx", "http 302");
    assert!(answer(Body::Any, b"HTTP/1.1 299 Odd\r\n\r\n").passed());
    let only = HttpTarget { status: vec![401, 301], ..target(Body::Any) };
    assert!(answer_in_pieces(&only, b"HTTP/1.1 401 No\r\n\r\n", &[]).passed());
    assert!(!answer_in_pieces(&only, OK.as_bytes(), &[]).passed());
}

#[test]
fn old_and_terse_servers_are_understood() {
    passes(Body::Any, "HTTP/1.0 200 OK\r\n\r\n");
    passes(Body::Any, "HTTP/1.1 200\r\n\r\n");
    passes(Body::Any, "HTTP/1.1 200 \r\n\r\n");
    passes(contains("hello"), "HTTP/1.0 200 OK\nServer: x\n\nhello");
}

#[test]
fn interim_responses_are_skipped() {
    passes(
        equals("x"),
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\nx",
    );
    fails(Body::Any, "HTTP/1.1 101 Switching Protocols\r\n\r\n", "http 101");
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000);
    fails(Body::Any, &endless, "answer's head too long");
}

#[test]
fn what_is_not_http_fails_at_once() {
    let mut exchange = Exchange::new(&target(Body::Any));
    assert_eq!(exchange.feed(b"SSH-2.0-Op"), Some(Outcome::Fail("answer is not http/1".into())));
    fails(Body::Any, "", "closed without an answer");
    fails(Body::Any, "HTTP/1.1 200 OK\r\nServer", "answer ended within its head");
}

#[test]
fn a_head_without_end_is_not_kept_growing() {
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(HTTP_HEAD_MAX));
    fails(Body::Any, &long, "answer's head too long");
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(HEADERS_MAX + 1));
    fails(Body::Any, &many, "answer has too many headers");
}

#[test]
fn a_body_contains_a_text_wherever_it_lies() {
    passes(contains("aab"), &format!("{OK}aaab"));
    passes(contains("abcabd"), &format!("{OK}abcabcabd"));
    passes(contains(""), OK);
    fails(contains("aab"), &format!("{OK}aaaa"), "http 200, body does not contain \"aab\"");
}

#[test]
fn a_match_is_told_before_the_body_ends() {
    let mut exchange = Exchange::new(&target(contains("ready")));
    assert_eq!(exchange.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nis rea"), None);
    assert_eq!(exchange.feed(b"dy"), Some(Outcome::Pass("http 200".into())));
}

#[test]
fn a_body_equals_a_text_to_the_last_byte() {
    passes(equals("ok"), &format!("{OK}ok"));
    passes(equals(""), OK);
    for other in ["ok\n", "o", "", "oK"] {
        fails(equals("ok"), &format!("{OK}{other}"), "http 200, body is not \"ok\"");
    }
}

#[test]
fn a_content_length_ends_the_body() {
    passes(equals("ok"), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more");
    passes(equals(""), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    passes(equals("ok"), "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok");
    fails(equals("ok"), "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "http 200, body ended early");
    fails(equals("ok"), "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "http 200, bad content-length");
    let two = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok";
    fails(equals("ok"), two, "http 200, two content-lengths");
    let mut exchange = Exchange::new(&target(equals("ok")));
    let whole = exchange.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert!(whole.is_some(), "a complete body needs no close");
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: Chunked\r\n\r\n";

#[test]
fn chunked_bodies_are_understood() {
    passes(equals("hello world"), &format!("{CHUNKED}5\r\nhello\r\n006;name=x\r\n world\r\n0\r\n\r\n"));
    passes(contains("lo wo"), &format!("{CHUNKED}5\nhello\nA \r\n world and \r\n"));
    passes(equals(""), &format!("{CHUNKED}0\r\nTrailer: x\r\n\r\n"));
}

#[test]
fn broken_chunks_fail() {
    for bad in ["x\r\n", "\r\n", "5\r\nhelloworld", "fffffffffffffffff\r\n", "5x\r\nhello\r\n"] {
        fails(contains("no"), &format!("{CHUNKED}{bad}"), "http 200, bad chunked body");
    }
    for short in ["", "5", "5\r\nhel", "5\r\nhello\r\n"] {
        fails(contains("no"), &format!("{CHUNKED}{short}"), "http 200, body ended early");
    }
}

#[test]
fn only_the_beginning_of_a_body_is_looked_at() {
    let mut exchange = Exchange::new(&target(contains("needle")));
    assert_eq!(exchange.feed(OK.as_bytes()), None);
    assert_eq!(exchange.feed(&vec![b'x'; HTTP_BODY_MAX - 5]), None);
    let outcome = exchange.feed(b"needle").expect("the limit is reached");
    assert!(!outcome.passed());

    let mut exchange = Exchange::new(&target(contains("needle")));
    assert_eq!(exchange.feed(OK.as_bytes()), None);
    assert_eq!(exchange.feed(&vec![b'x'; HTTP_BODY_MAX - 6]), None);
    assert!(exchange.feed(b"needle").is_some_and(|outcome| outcome.passed()));
}

#[test]
fn reasons_quote_little_of_a_long_text() {
    let long = "long text ".repeat(100);
    let outcome = answer(contains(&long), format!("{OK}short").as_bytes());
    assert!(outcome.text().len() < 100, "{outcome:?}");
    assert!(outcome.text().ends_with("…\""), "{outcome:?}");
}

/// Answers that are near enough to real ones to reach every state.
fn near_http() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 204\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: x\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Bad Header : 1\r\n",
        " folded\r\n",
        "\r\n",
        "\n",
        "5\r\nabcab\r\n",
        "2;x\nab\n",
        "0\r\n\r\n",
        "ab",
        "abc",
        "\u{0}",
    ]);
    let ordered = (0usize..4, prop::collection::vec(piece.clone(), 0..8)).prop_map(|(head, body)| {
        let head = ["HTTP/1.1 200 OK\r\n\r\n", CHUNKED, "HTTP/1.1 200 OK\r\n", ""][head];
        format!("{head}{}", body.concat()).into_bytes()
    });
    prop_oneof![
        4 => ordered,
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 0..200)
            .prop_map(|body| [CHUNKED.as_bytes(), &body].concat()),
    ]
}

fn wanted() -> impl Strategy<Value = Body> {
    let text = "[ab]{0,4}c?";
    prop_oneof![
        Just(Body::Any),
        text.prop_map(|text| Body::Contains(text.into())),
        text.prop_map(|text| Body::Equals(text.into())),
    ]
}

proptest! {
    #[test]
    fn the_same_bytes_give_the_same_verdict_however_they_are_split(
        response in near_http(),
        body in wanted(),
        cuts in prop::collection::vec(0usize..300, 0..6),
    ) {
        let target = target(body);
        let whole = answer_in_pieces(&target, &response, &[]);
        prop_assert_eq!(&answer_in_pieces(&target, &response, &cuts), &whole);
        let every: Vec<usize> = (0..response.len()).collect();
        prop_assert_eq!(&answer_in_pieces(&target, &response, &every), &whole);
    }

    #[test]
    fn a_search_in_pieces_agrees_with_one_in_the_whole(
        needle in "[ab]{0,6}",
        hay in "[ab]{0,40}",
        cut in 0usize..40,
    ) {
        let response = format!("{OK}{hay}");
        let found = answer_in_pieces(&target(contains(&needle)), response.as_bytes(), &[OK.len() + cut]);
        prop_assert_eq!(found.passed(), hay.contains(&needle));
    }

    #[test]
    fn a_chunked_body_is_the_body_that_was_cut_into_chunks(
        body in "[a-z]{1,60}",
        size in 1usize..20,
        cuts in prop::collection::vec(0usize..300, 0..6),
    ) {
        let chunks: String = body
            .as_bytes()
            .chunks(size)
            .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)))
            .collect();
        let response = format!("{CHUNKED}{chunks}0\r\n\r\n");
        let outcome = answer_in_pieces(&target(equals(&body)), response.as_bytes(), &cuts);
        prop_assert_eq!(outcome, Outcome::Pass("http 200".into()));
    }
}
