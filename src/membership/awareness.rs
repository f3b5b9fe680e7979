//! Lifeguard's local health: how much this node trusts its own failure detector (paper, section IV-A).

use core::time::Duration;

/// memberlist's `AwarenessMaxMultiplier`: scores are 0 to 7.
const SCORE_MAX: u32 = 7;

/// The local health score. 0 is well; each point makes the probe interval longer by once its length.
#[derive(Clone, Debug, Default)]
pub struct Awareness {
    score: u32,
}

impl Awareness {
    /// Adds `delta`, within 0 to 7.
    pub fn apply(&mut self, delta: i32) {
        self.score = self.score.saturating_add_signed(delta).min(SCORE_MAX);
    }

    pub fn score(&self) -> u32 {
        self.score
    }

    /// LHA-Probe: the probe interval, made longer while this node is not sure of itself.
    pub fn scale(&self, interval: Duration) -> Duration {
        interval * (self.score + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_follows_the_library() {
        let table: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/tables.json")).expect("vector is JSON");
        let mut awareness = Awareness::default();
        let steps = table["awareness_max8_sequence"].as_array().expect("a list");
        assert!(steps.len() > 10);
        for step in steps {
            awareness.apply(step["delta"].as_i64().expect("a number") as i32);
            assert_eq!(u64::from(awareness.score()), step["score"].as_u64().expect("a number"));
            let scaled = awareness.scale(Duration::from_secs(1));
            assert_eq!(scaled.as_nanos() as u64, step["scaled_1s_ns"].as_u64().expect("a number"));
        }
    }
}
