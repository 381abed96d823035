//! Gives numbers out of a range, each to one holder at a time, and lets a returned one rest before it is given again.
use proto_model::Timestamp;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Pool {
    last: u32,
    rest: Duration,
    /// Numbers from here on were never given.
    fresh: u32,
    given: BTreeSet<u32>,
    /// Oldest first.
    resting: VecDeque<(Timestamp, u32)>,
}

impl Pool {
    /// Numbers 1 to `last`.
    pub fn new(last: u32, rest: Duration) -> Self {
        Self { last, rest, fresh: 1, given: BTreeSet::new(), resting: VecDeque::new() }
    }

    /// A rested number before a fresh one, so that tables indexed by it stay small.
    pub fn take(&mut self, now: Timestamp) -> Option<u32> {
        let number = match self.resting.front() {
            Some((since, number)) if now.since(*since) >= self.rest => {
                let number = *number;
                self.resting.pop_front();
                number
            }
            _ if self.fresh <= self.last => {
                self.fresh += 1;
                self.fresh - 1
            }
            _ => return None,
        };
        self.given.insert(number);
        Some(number)
    }

    /// Marks a number of stored state as given; false when it is out of range or given already. Numbers skipped on
    /// the way are free from `now` on.
    pub fn claim(&mut self, number: u32, now: Timestamp) -> bool {
        if number == 0 || number > self.last || self.given.contains(&number) {
            return false;
        }
        while self.fresh <= number {
            self.resting.push_back((now, self.fresh));
            self.fresh += 1;
        }
        self.given.insert(number)
    }

    /// After the last [`Self::claim`]: what was skipped and then claimed does not rest.
    pub fn settle(&mut self) {
        self.resting.retain(|(_, number)| !self.given.contains(number));
    }

    pub fn give_back(&mut self, number: u32, now: Timestamp) {
        if self.given.remove(&number) {
            self.resting.push_back((now, number));
        }
    }

    pub fn given(&self) -> usize {
        self.given.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_secs(60);

    #[test]
    fn a_returned_number_rests() {
        let mut pool = Pool::new(2, REST);
        let start = Timestamp(1);
        assert_eq!(pool.take(start), Some(1));
        pool.give_back(1, start);
        assert_eq!(pool.take(start), Some(2));
        assert_eq!(pool.take(start), None);
        assert_eq!(pool.take(start.plus(REST)), Some(1));
    }

    #[test]
    fn claimed_numbers_are_not_given_and_gaps_are() {
        let mut pool = Pool::new(5, REST);
        assert!(pool.claim(3, Timestamp(0)));
        assert!(pool.claim(1, Timestamp(0)));
        assert!(!pool.claim(3, Timestamp(0)));
        assert!(!pool.claim(0, Timestamp(0)));
        assert!(!pool.claim(6, Timestamp(0)));
        pool.settle();
        let later = Timestamp(0).plus(REST);
        let rest: Vec<_> = std::iter::from_fn(|| pool.take(later)).collect();
        assert_eq!(rest, [2, 4, 5]);
    }

    #[test]
    fn a_number_given_back_twice_is_given_once() {
        let mut pool = Pool::new(1, Duration::ZERO);
        assert_eq!(pool.take(Timestamp(0)), Some(1));
        pool.give_back(1, Timestamp(0));
        pool.give_back(1, Timestamp(0));
        assert_eq!(pool.take(Timestamp(0)), Some(1));
        assert_eq!(pool.take(Timestamp(0)), None);
    }
}
