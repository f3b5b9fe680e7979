//! The runs of handlers, out of the log that their wrapper writes.

use std::collections::BTreeSet;

/// One run of a handler; times in seconds of the wall clock.
#[derive(Clone, Debug)]
pub struct Run {
    pub began: f64,
    /// None: it still runs, or was killed.
    pub ended: Option<f64>,
    pub node: u8,
    pub reason: String,
    pub generation: u64,
    /// Last octets of the addresses it was told.
    pub set: BTreeSet<u8>,
    pub exit: Option<i32>,
    id: String,
}

/// `begin TIME ID NODE REASON GENERATION ADDRESS…` and `end TIME ID EXIT`; nodes are `n1`, `n2` and so on.
pub fn parse(log: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for line in log.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["begin", time, id, node, reason, generation, ref set @ ..] => runs.push(Run {
                began: number(time, line),
                ended: None,
                node: number(node.trim_start_matches('n'), line),
                reason: reason.into(),
                generation: number(generation, line),
                set: set.iter().map(|addr| number(addr.rsplit('.').next().unwrap_or(""), line)).collect(),
                exit: None,
                id: id.into(),
            }),
            ["end", time, id, exit] => {
                let run = runs.iter_mut().rev().find(|run| run.id == id).expect("what ends has begun");
                (run.ended, run.exit) = (Some(number(time, line)), Some(number(exit, line)));
            }
            _ => panic!("not a line of this log: {line}"),
        }
    }
    runs
}

fn number<T: std::str::FromStr>(text: &str, line: &str) -> T {
    text.parse().ok().unwrap_or_else(|| panic!("{text:?} is no number in: {line}"))
}

/// Pairs that ran at the same time, but for those of which either began in one of the `apart` times. A run that was
/// killed counts as a moment: when it was is not known.
pub fn overlaps(runs: &[Run], apart: &[(f64, f64)]) -> usize {
    let counts = |run: &&Run| !apart.iter().any(|(from, to)| (*from..*to).contains(&run.began));
    let runs: Vec<&Run> = runs.iter().filter(counts).collect();
    let end = |run: &Run| run.ended.unwrap_or(run.began);
    let pairs = runs.iter().enumerate().flat_map(|(i, a)| runs[i + 1..].iter().map(move |b| (a, b)));
    pairs.filter(|(a, b)| a.began <= end(b) && b.began <= end(a)).count()
}

#[test]
fn runs_at_the_same_time_are_found_unless_apart() {
    let log = "begin 1.0 7 n1 change 1 10.77.0.1 10.77.0.2\nbegin 2.0 8 n2 change 2\nend 2.5 7 0\nend 3.0 8 75\n\
               begin 4.0 9 n1 retry 3 10.77.0.1\nbegin 5.0 7 n3 change 4 10.77.0.1\nend 6.0 7 0\n";
    let runs = parse(log);
    let facts: Vec<_> = runs.iter().map(|run| (run.node, run.set.len(), run.exit)).collect();
    assert_eq!(facts, [(1, 2, Some(0)), (2, 0, Some(75)), (1, 1, None), (3, 1, Some(0))]);
    assert_eq!(overlaps(&runs, &[]), 1, "the first two; the killed one is over when the last begins");
    assert_eq!(overlaps(&runs, &[(1.5, 2.5)]), 0);
    assert_eq!(overlaps(&runs, &[(2.1, 2.5)]), 1);
}
