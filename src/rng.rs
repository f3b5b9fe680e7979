//! A small seeded generator for jitter, shuffles and picks.
//!
//! Nothing secret comes from it: keys are drawn from the kernel by `keygen`, and packet nonces are
//! a counter that starts at a place drawn from the kernel ([`Seed::nonce`]).

use core::time::Duration;

/// What the core needs of chance, drawn by the driver from the kernel, by the simulator from its seed.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// Seeds [`Rng`].
    pub rng: u64,
    /// Where this process starts to count its AES-GCM nonces. Random 96-bit starting points keep
    /// the ranges of all nodes and all restarts apart.
    pub nonce: [u8; 12],
}

impl Seed {
    /// A seed for tests and simulations, wholly determined by `n`.
    pub fn from_u64(n: u64) -> Self {
        let mut rng = Rng::new(n);
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&rng.next_u64().to_le_bytes());
        Self { rng: rng.next_u64(), nonce }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): one word of state, passes BigCrush, ample for jitter.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator wholly determined by `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        // Multiply-shift; its bias of n / 2^64 matters to nobody here.
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// A duration in `0..limit`; zero if `limit` is zero.
    pub fn duration_below(&mut self, limit: Duration) -> Duration {
        let micros = usize::try_from(limit.as_micros()).unwrap_or(usize::MAX);
        Duration::from_micros(self.below(micros) as u64)
    }

    /// `base` give or take up to `percent` of it.
    pub fn jitter(&mut self, base: Duration, percent: u32) -> Duration {
        let span = base * percent / 100;
        (base - span) + self.duration_below(span * 2)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        ((self.next_u64() >> 11) as f64) < p * (1u64 << 53) as f64
    }

    /// Puts `items` in a random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            let j = self.below(i + 1);
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
        assert_ne!(Rng::new(7).next_u64(), Rng::new(8).next_u64());
    }

    #[test]
    fn numbers_stay_below_their_limit_and_reach_all_values() {
        let mut rng = Rng::new(1);
        let mut seen = [0u32; 5];
        for _ in 0..1_000 {
            seen[rng.below(5)] += 1;
        }
        assert!(seen.iter().all(|&n| n > 100), "{seen:?}");
        assert_eq!(rng.below(0), 0);
        assert_eq!(rng.duration_below(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn jitter_stays_in_its_band() {
        let mut rng = Rng::new(3);
        for _ in 0..1_000 {
            let d = rng.jitter(Duration::from_secs(10), 20);
            assert!((Duration::from_secs(8)..Duration::from_secs(12)).contains(&d));
        }
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Rng::new(9).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
