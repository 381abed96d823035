//! Which rows of `RULES` a rule set has; freed rows rest, so that no packet reads a mix of two sets.
use crate::bounds::{QUARANTINE, ROWS, Refused};
use proto_model::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Ranges of rows, best fit. A range is held by everything that speaks of it (what is wanted, what is there, what is
/// being written) and comes free with the last of them.
#[derive(Debug)]
pub(crate) struct Rows {
    /// Start to length; neighbours are always joined.
    free: BTreeMap<u32, u32>,
    by_length: BTreeSet<(u32, u32)>,
    /// Start to length and holders.
    held: BTreeMap<u32, (u32, u32)>,
    resting: VecDeque<(Timestamp, u32, u32)>,
    total: u32,
}

impl Rows {
    pub(crate) fn new() -> Self {
        let mut rows = Self {
            free: BTreeMap::new(),
            by_length: BTreeSet::new(),
            held: BTreeMap::new(),
            resting: VecDeque::new(),
            total: 0,
        };
        rows.give(0, ROWS);
        rows
    }

    /// Start of a range that nobody else has, held once. An empty range starts at 0 and is not kept.
    pub(crate) fn allocate(&mut self, length: u32, now: Timestamp) -> Result<u32, Refused> {
        if length == 0 {
            return Ok(0);
        }
        self.wake(now);
        let fit = self.by_length.range((length, 0)..).next().copied();
        let (size, start) = fit.ok_or(Refused::Rows { need: length, free: self.total })?;
        self.take(start, size);
        if size > length {
            self.give(start + length, size - length);
        }
        self.held.insert(start, (length, 1));
        Ok(start)
    }

    /// One holder more of a range that was allocated or seen in the kernel. False: it overlaps another one or does not
    /// fit the table, so nobody can hold it.
    pub(crate) fn hold(&mut self, start: u32, length: u32) -> bool {
        if length == 0 {
            return true;
        }
        if let Some((held, holders)) = self.held.get_mut(&start) {
            let same = *held == length;
            *holders += u32::from(same);
            return same;
        }
        let Some((&from, &size)) = self.free.range(..=start).next_back() else { return false };
        let Some(end) = start.checked_add(length).filter(|end| *end <= from + size) else { return false };
        self.take(from, size);
        self.give(from, start - from);
        self.give(end, from + size - end);
        self.held.insert(start, (length, 1));
        true
    }

    /// One holder fewer; the last one's rows rest from `now` on.
    pub(crate) fn release(&mut self, start: u32, length: u32, now: Timestamp) {
        let Some((held, holders)) = self.held.get_mut(&start).filter(|(held, _)| *held == length) else {
            return;
        };
        *holders -= 1;
        if *holders == 0 {
            self.resting.push_back((now.plus(QUARANTINE), start, *held));
            self.held.remove(&start);
        }
    }

    fn wake(&mut self, now: Timestamp) {
        while let Some((_, start, length)) = self.resting.front().copied().filter(|(until, ..)| *until <= now)
        {
            self.resting.pop_front();
            self.join(start, length);
        }
    }

    fn join(&mut self, mut start: u32, mut length: u32) {
        if let Some((&before, &size)) = self.free.range(..start).next_back()
            && before + size == start
        {
            self.take(before, size);
            (start, length) = (before, size + length);
        }
        if let Some(&size) = self.free.get(&(start + length)) {
            self.take(start + length, size);
            length += size;
        }
        self.give(start, length);
    }

    fn take(&mut self, start: u32, length: u32) {
        self.free.remove(&start);
        self.by_length.remove(&(length, start));
        self.total -= length;
    }

    fn give(&mut self, start: u32, length: u32) {
        if length > 0 {
            self.free.insert(start, length);
            self.by_length.insert((length, start));
            self.total += length;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(0);

    #[test]
    fn freed_rows_rest_before_they_are_used_again() {
        let mut rows = Rows::new();
        assert_eq!(rows.allocate(10, NOW), Ok(0));
        rows.release(0, 10, NOW);
        assert_eq!(rows.allocate(10, NOW), Ok(10));
        assert_eq!(rows.allocate(10, NOW.plus(QUARANTINE)), Ok(0));
    }

    #[test]
    fn a_range_comes_free_with_its_last_holder() {
        let mut rows = Rows::new();
        assert_eq!(rows.allocate(4, NOW), Ok(0));
        assert!(rows.hold(0, 4));
        rows.release(0, 4, NOW);
        assert_eq!(rows.allocate(4, NOW.plus(QUARANTINE)), Ok(4));
    }

    #[test]
    fn what_the_kernel_has_is_not_given_out() {
        let mut rows = Rows::new();
        assert!(rows.hold(2, 3));
        assert!(!rows.hold(4, 2), "overlaps");
        assert!(!rows.hold(ROWS - 1, 2), "past the end");
        assert_eq!(rows.allocate(3, NOW), Ok(5));
        assert_eq!(rows.allocate(2, NOW), Ok(0));
    }

    #[test]
    fn a_full_table_says_how_full() {
        let mut rows = Rows::new();
        assert_eq!(rows.allocate(ROWS, NOW), Ok(0));
        let refusal = rows.allocate(2, NOW).expect_err("full");
        assert_eq!(refusal.to_string(), "the rule table has no 2 free rows in a row (0 of 262144 are free)");
    }

    proptest! {
        #[test]
        fn ranges_never_overlap_and_none_is_lost(steps in prop::collection::vec((0u32..300, any::<bool>()), 1..200)) {
            let mut rows = Rows::new();
            let mut mine: Vec<(u32, u32)> = Vec::new();
            for (i, (length, free)) in steps.into_iter().enumerate() {
                let now = Timestamp(i as u64 * 300_000_000);
                if free && !mine.is_empty() {
                    let (start, length) = mine.swap_remove(length as usize % mine.len());
                    rows.release(start, length, now);
                } else if length > 0 {
                    let start = rows.allocate(length, now).expect("the table is large");
                    prop_assert!(mine.iter().all(|(s, l)| start + length <= *s || s + l <= start));
                    mine.push((start, length));
                }
            }
            for (start, length) in mine {
                rows.release(start, length, NOW);
            }
            prop_assert_eq!(rows.allocate(ROWS, Timestamp(u64::MAX)), Ok(0));
        }
    }
}
