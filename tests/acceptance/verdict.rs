//! What became of the records in some time, and whether that is as it should be.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::poller::Sample;
use crate::runs::{Run, overlaps};

/// Seen from outside, from some moment on.
#[derive(Debug)]
pub struct Verdict {
    pub smallest: usize,
    /// Seconds with nothing published.
    pub empty: u64,
    /// Of the first of these, seconds after the beginning.
    pub first_empty: Option<u64>,
    /// Longest time in seconds that one and the same server was published and did not answer.
    pub dead: u64,
    /// Changes of the zone.
    pub writes: u32,
    pub last: BTreeSet<u8>,
    pub runs: usize,
    /// Pairs of runs that were under way at the same time and knew of each other.
    pub overlaps: usize,
}

/// What is allowed; see [`Verdict::complaints`].
pub struct Limits {
    /// Seconds that a server which does not answer may be published; none: it is not to be taken out.
    pub dead: Option<u64>,
    pub writes: u32,
    pub last: BTreeSet<u8>,
}

impl Limits {
    pub fn new(dead: Option<u64>, writes: u32, last: &[u8]) -> Self {
        Self { dead, writes, last: last.iter().copied().collect() }
    }
}

impl Verdict {
    /// `apart`: when runs at the same time are no wonder, because the nodes could not know of each other.
    pub fn new(samples: &[Sample], runs: &[Run], apart: &[(f64, f64)]) -> Self {
        let (Some(first), Some(last)) = (samples.first(), samples.last()) else { panic!("nothing was seen") };
        let empty = || samples.iter().filter(|sample| sample.set.is_empty());
        Self {
            smallest: samples.iter().map(|sample| sample.set.len()).min().unwrap_or(0),
            empty: empty().count() as u64,
            first_empty: empty().next().map(|sample| (sample.at - first.at).round() as u64),
            dead: longest_dead(samples),
            writes: last.serial - first.serial,
            last: last.set.clone(),
            runs: runs.len(),
            overlaps: overlaps(runs, apart),
        }
    }

    /// All that must not be; nothing if all is well.
    pub fn complaints(&self, limits: &Limits) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(after) = self.first_empty {
            found.push(format!("the records were empty for {} s, first after {after} s", self.empty));
        }
        if let Some(dead) = limits.dead.filter(|&dead| self.dead > dead) {
            found.push(format!("a dead address was published for {} s, {dead} s are allowed", self.dead));
        }
        if self.writes > limits.writes {
            found.push(format!("{} changes of the zone, {} are allowed", self.writes, limits.writes));
        }
        if self.last != limits.last {
            found.push(format!("at the end {:?} are published, not {:?}", self.last, limits.last));
        }
        if self.overlaps > 0 {
            found.push(format!("{} times two runs at once", self.overlaps));
        }
        found
    }

    /// The columns of the table: smallest set, seconds empty, longest dead, changes, runs, overlaps, last set.
    pub fn columns(&self, limits: &Limits) -> Vec<String> {
        let dead = limits.dead.map_or_else(|| "-".into(), |dead| format!("{dead} s"));
        let empty = self.first_empty.map_or_else(String::new, |after| format!(" from {after} s"));
        vec![
            self.smallest.to_string(),
            format!("{} s{empty}", self.empty),
            format!("{} s ({dead})", self.dead),
            format!("{} ({})", self.writes, limits.writes),
            self.runs.to_string(),
            self.overlaps.to_string(),
            names(&self.last),
        ]
    }
}

/// Of one server that is published and does not answer, from the first to the last time in a row that it was so.
fn longest_dead(samples: &[Sample]) -> u64 {
    let published: BTreeSet<u8> = samples.iter().flat_map(|sample| sample.set.clone()).collect();
    let mut longest: f64 = 0.0;
    for n in published {
        let mut since = None;
        for sample in samples {
            if sample.set.contains(&n) && !sample.serving.contains(&n) {
                longest = longest.max(sample.at - *since.get_or_insert(sample.at));
            } else {
                since = None;
            }
        }
    }
    longest.round() as u64
}

pub fn names(set: &BTreeSet<u8>) -> String {
    let names: Vec<String> = set.iter().map(|n| format!("n{n}")).collect();
    if names.is_empty() { "nobody".into() } else { names.join(" ") }
}

/// For a person who wants to know what went wrong: each change of what was seen, and each run, in seconds since the
/// first sample.
pub fn story(samples: &[Sample], runs: &[Run]) -> String {
    let Some(first) = samples.first().map(|sample| sample.at) else { return "nothing was seen\n".into() };
    let mut lines: Vec<(f64, String)> = Vec::new();
    let mut seen = None;
    for Sample { at, set, serial, serving } in samples {
        if seen.replace((set, serving)) != Some((set, serving)) {
            let text = format!("published {} (serial {serial}), answering {}", names(set), names(serving));
            lines.push((*at, text));
        }
    }
    for run in runs {
        let (exit, took) = match (run.exit, run.ended) {
            (Some(exit), Some(ended)) => (format!("exit {exit}"), format!("{:.1} s", ended - run.began)),
            _ => ("no end".into(), "?".into()),
        };
        let set = names(&run.set);
        let text = format!(
            "run at n{}: {} {}, told {set}; {exit} after {took}",
            run.node, run.reason, run.generation
        );
        lines.push((run.began, text));
    }
    lines.sort_by(|a, b| a.0.total_cmp(&b.0));
    lines.iter().fold(String::new(), |mut text, (at, line)| {
        let _ = writeln!(text, "{:8.1}  {line}", at - first);
        text
    })
}

#[cfg(test)]
fn sample(at: f64, set: &[u8], serving: &[u8], serial: u32) -> Sample {
    Sample { at, set: set.iter().copied().collect(), serial, serving: serving.iter().copied().collect() }
}

#[test]
fn nothing_is_complained_of_where_all_is_well() {
    let samples = [
        sample(10.0, &[1, 2], &[1, 2], 5),
        sample(11.0, &[1, 2], &[1], 5),
        sample(12.0, &[1, 2], &[1], 5),
        sample(13.0, &[1], &[1], 6),
        sample(14.0, &[1, 2], &[1, 2], 7),
    ];
    let verdict = Verdict::new(&samples, &[], &[]);
    assert_eq!((verdict.smallest, verdict.dead, verdict.writes), (1, 1, 2));
    assert_eq!(verdict.complaints(&Limits::new(Some(1), 2, &[1, 2])), [""; 0]);
}

#[test]
fn each_thing_that_must_not_be_is_complained_of() {
    let well = || Limits::new(Some(2), 2, &[1, 2]);
    let complaints = |set: &[u8], serving: &[u8], serial, limits: &Limits| {
        let between = (1..5).map(|at| sample(f64::from(at), set, serving, serial));
        let mut samples = vec![sample(0.0, &[1, 2], &[1, 2], 1)];
        samples.extend(between);
        samples.push(sample(5.0, &[1, 2], &[1, 2], serial));
        Verdict::new(&samples, &[], &[]).complaints(limits)
    };
    assert_eq!(complaints(&[1, 2], &[1, 2], 3, &well()), [""; 0]);
    assert!(complaints(&[], &[1, 2], 3, &well())[0].contains("empty for 4 s, first after 1 s"));
    assert!(complaints(&[1, 2], &[1], 3, &well())[0].contains("published for 3 s"));
    assert!(complaints(&[1, 2], &[1, 2], 4, &well())[0].contains("3 changes"));
    assert!(complaints(&[1, 2], &[1, 2], 3, &Limits::new(None, 2, &[1]))[0].contains("at the end"));
    let log = "begin 1.0 1 n1 change 1\nbegin 1.5 2 n2 change 2\nend 2.0 1 0\nend 2.0 2 0\n";
    let overlapping = Verdict::new(&[sample(0.0, &[1, 2], &[1, 2], 1)], &crate::runs::parse(log), &[]);
    assert!(overlapping.complaints(&well())[0].contains("two runs at once"));
}
