//! Values of `env_file`: they are masked in what a run printed before anything is kept of it or shown.

use super::Config;
use crate::limits::OUTPUT_MAX;

/// Shown instead of a value.
pub const MASK: &str = "********";
/// Shorter values are not looked for in what was printed: they would be found everywhere.
const SECRET_MIN: usize = 6;

/// What a run was given and must not be seen.
#[derive(Clone, Default)]
pub struct Secrets(Vec<Box<str>>);

impl Secrets {
    /// The values, and what stands after a value's last colon, since programs show that alone (`user:password`, a TSIG
    /// key with its name).
    pub fn of(config: &Config) -> Self {
        let is_secret = |name: &str| config.secrets.iter().any(|secret| **secret == *name);
        let values = config.env.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| &**value);
        let parts = values.flat_map(|value| [Some(value), value.rsplit_once(':').map(|(_, last)| last)]);
        Self(parts.flatten().filter(|part| part.len() >= SECRET_MIN).map(Into::into).collect())
    }

    /// `output` without them. Where it is the end of more, it may begin with the end of a value: that is masked, too.
    ///
    /// Found first and replaced then, so that values that are parts of others, or overlap, hide nothing from each other.
    pub fn mask(&self, output: &[u8]) -> Vec<u8> {
        let is_cut = output.len() >= OUTPUT_MAX;
        let mut is_hidden = vec![false; output.len()];
        let mut hide = |from: usize, len: usize| {
            is_hidden.iter_mut().skip(from).take(len).for_each(|hidden| *hidden = true);
        };
        for secret in self.0.iter().map(|secret| secret.as_bytes()) {
            let found = output.windows(secret.len()).enumerate().filter(|(_, part)| *part == secret);
            found.for_each(|(at, _)| hide(at, secret.len()));
            let is_rest = |len: &usize| output.get(..*len).is_some_and(|start| secret.ends_with(start));
            let rest = (1..secret.len().min(OUTPUT_MAX)).rev().find(is_rest).filter(|_| is_cut);
            hide(0, rest.unwrap_or(0));
        }
        let mut masked = Vec::with_capacity(output.len());
        let mut was_hidden = false;
        for (byte, hidden) in output.iter().zip(is_hidden) {
            match (was_hidden, hidden) {
                (_, false) => masked.push(*byte),
                (false, true) => masked.extend_from_slice(MASK.as_bytes()),
                (true, true) => {}
            }
            was_hidden = hidden;
        }
        masked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(values: &[&str], output: &str) -> String {
        let secrets = Secrets(values.iter().map(|value| (*value).into()).collect());
        String::from_utf8(secrets.mask(output.as_bytes())).expect("text")
    }

    #[test]
    fn every_value_is_masked_whole_wherever_it_stands() {
        let values = ["token-1", "token-1-long", "long-tail"];
        assert_eq!(
            masked(&values, "token-1-long, token-1! xtoken-1-long-tail"),
            "********, ********! x********"
        );
        assert_eq!(masked(&values, "token- 1-long"), "token- 1-long");
        assert_eq!(masked(&["aaaaaa"], "aaaaaaaa b"), "******** b", "found in itself");
        assert_eq!(masked(&values, ""), "");
    }

    /// Goal: no part of a value that the cut runs through is seen; where nothing was cut nothing is guessed.
    #[test]
    fn the_rest_of_a_value_at_the_cut_is_masked() {
        let full = |start: &str| format!("{start}{}", "x".repeat(OUTPUT_MAX - start.len()));
        for rest in ["2345", "12345", "5", "12345 and 012345"] {
            let shown = masked(&["012345"], &full(rest));
            assert!(shown.starts_with("********") && !shown.contains('5'), "{rest}: {:?}", shown.get(..40));
        }
        assert!(masked(&["012345"], &full("1234")).starts_with("1234x"), "no end of it");
        assert_eq!(masked(&["012345"], "2345 is short"), "2345 is short");
    }
}
