//! What is known of requests that are not split: of those that need more than half of a link, one fits on it.
//!
//! A sum of shares of a link that is at most 1 stays so under a dual feasible function. With those of Fekete and Schepers ("New
//! classes of fast lower bounds for bin packing problems", 2001), `u_k(x) = ⌊(k + 1)·x⌋ / k`, and x where (k + 1)·x is whole,
//! each link has further conditions that all placements keep and most that split requests do not.

/// Conditions of each link and interface: that of the sum, and those with k = 1 to 3.
pub(super) const CUTS: usize = 4;

/// How much more than it needs a request counts for in a condition, where so much is free; 0: it does not count.
pub(super) fn factor(need: u64, free: u64, cut: usize) -> f64 {
    let (k, need, free) = (cut as u128, u128::from(need), u128::from(free));
    let parts = (k + 1) * need;
    if cut == 0 || free == 0 || parts.is_multiple_of(free) {
        return 1.0;
    }
    (parts / free) as f64 / k as f64 * free as f64 / need as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn who_needs_more_than_half_counts_for_all_and_who_needs_less_for_nothing() {
        assert!((factor(6, 10, 1) * 6.0 - 10.0).abs() < 1e-9);
        assert_eq!(factor(4, 10, 1), 0.0);
        assert_eq!(factor(5, 10, 1), 1.0);
        assert!((factor(4, 10, 2) * 4.0 - 5.0).abs() < 1e-9, "two of them fill it");
        assert_eq!(factor(3, 10, 0), 1.0);
    }

    proptest! {
        #[test]
        fn what_fits_keeps_every_condition(
            free in 1..1_000_u64,
            needs in proptest::collection::vec(1..1_000_u64, 1..12),
        ) {
            let mut left = free;
            let fit: Vec<u64> = needs.into_iter().filter(|need| {
                let fits = *need <= left;
                left -= if fits { *need } else { 0 };
                fits
            }).collect();
            for cut in 0..CUTS {
                let sum: f64 = fit.iter().map(|need| factor(*need, free, cut) * *need as f64).sum();
                prop_assert!(sum <= free as f64 * (1.0 + 1e-9), "{} of {}", sum, free);
            }
        }
    }
}
