//! The best split: a linear programme over columns, by the revised simplex method (Dantzig, Orchard-Hays 1954).
//!
//! Most `Σ value·share` such that each row's `Σ coefficient·share` is at most 1, with no share below 0. Nothing taken at all is
//! allowed, so there is a place to start from; a further column keeps what was found, and so does a further row that no shares
//! can break. The inverse of the basis is held whole: rows are the requests and what is contested, some hundreds.
use super::work::Work;

/// What counts as nothing.
const LITTLE: f64 = 1e-9;
/// By so much rows differ, so that hardly any two are full at once and no pivot is in vain.
const UNEVEN: f64 = 1e-7;

#[derive(Debug, Default)]
pub(super) struct Simplex {
    columns: Vec<Column>,
    /// Coefficients of all columns.
    entries: usize,
    /// The column in each place of the basis.
    basis: Vec<usize>,
    /// By place and row.
    inverse: Vec<Vec<f64>>,
    /// Shares of the columns of the basis.
    shares: Vec<f64>,
    /// By row.
    prices: Vec<f64>,
}

#[derive(Debug)]
struct Column {
    value: f64,
    /// Row and coefficient.
    entries: Vec<(usize, f64)>,
    /// Where it is in the basis.
    place: Option<usize>,
}

impl Simplex {
    pub(super) fn rows(&self) -> usize {
        self.basis.len()
    }

    /// `entries`: columns, and their coefficients in it.
    pub(super) fn add_row(&mut self, entries: &[(usize, f64)]) -> usize {
        let row = self.rows();
        // Spread evenly over 0 to 1 (Weyl 1916).
        let mut slack = 1.0 + UNEVEN * (row as f64 * 0.618_033_988_749_894_9).fract();
        let mut inverse = vec![0.0; row + 1];
        inverse[row] = 1.0;
        for (column, coefficient) in entries {
            let column = &mut self.columns[*column];
            column.entries.push((row, *coefficient));
            let Some(place) = column.place else { continue };
            inverse.iter_mut().zip(&self.inverse[place]).for_each(|(own, its)| *own -= coefficient * its);
            slack -= coefficient * self.shares[place];
        }
        self.inverse.iter_mut().for_each(|other| other.push(0.0));
        self.inverse.push(inverse);
        self.shares.push(slack);
        self.prices.push(0.0);
        self.basis.push(self.columns.len());
        self.columns.push(Column { value: 0.0, entries: vec![(row, 1.0)], place: Some(row) });
        self.entries += entries.len() + 1;
        row
    }

    /// Its number.
    pub(super) fn add_column(&mut self, value: f64, entries: Vec<(usize, f64)>) -> usize {
        self.entries += entries.len();
        self.columns.push(Column { value, entries, place: None });
        self.columns.len() - 1
    }

    /// False: the work was at its end before the best was found.
    pub(super) fn solve(&mut self, work: &mut Work) -> bool {
        while let Some(enters) = self.enters() {
            let weights = self.weights(enters);
            let changed = weights.iter().filter(|weight| weight.abs() > LITTLE).count();
            let Some(place) = self.leaves(&weights) else { return false };
            if !work.spend(self.entries + (changed + 1) * self.rows()) {
                return false;
            }
            self.pivot(enters, place, &weights);
        }
        true
    }

    /// Of a column.
    pub(super) fn share(&self, column: usize) -> f64 {
        self.columns[column].place.map_or(0.0, |place| self.shares[place])
    }

    /// Of all that a row has.
    pub(super) fn price(&self, row: usize) -> f64 {
        self.prices[row].max(0.0)
    }

    /// The column of which a share is worth most.
    fn enters(&self) -> Option<usize> {
        let outside = self.columns.iter().enumerate().filter(|(_, column)| column.place.is_none());
        let gains = outside.map(|(at, column)| (self.gain(column.value, &column.entries), at));
        // Of equal ones the first, so that who comes first is served first.
        let best = gains.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)))?;
        (best.0 > LITTLE).then_some(best.1)
    }

    /// What a share is worth beyond what it costs.
    pub(super) fn gain(&self, value: f64, entries: &[(usize, f64)]) -> f64 {
        let costs = entries.iter().map(|(row, coefficient)| coefficient * self.prices[*row]);
        value - costs.sum::<f64>()
    }

    /// How much of each column of the basis a share of this one replaces.
    fn weights(&self, column: usize) -> Vec<f64> {
        let entries = &self.columns[column].entries;
        let weight = |inverse: &Vec<f64>| entries.iter().map(|(row, its)| its * inverse[*row]).sum();
        self.inverse.iter().map(weight).collect()
    }

    /// The place of the column that is the first to have no share left; of those, the one of the greatest weight.
    fn leaves(&self, weights: &[f64]) -> Option<usize> {
        let shrinks = weights.iter().enumerate().filter(|(_, weight)| **weight > LITTLE);
        let ends = shrinks.map(|(place, weight)| (self.shares[place].max(0.0) / weight, -weight, place));
        let first = ends.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        first.map(|(.., place)| place)
    }

    fn pivot(&mut self, enters: usize, place: usize, weights: &[f64]) {
        let gain = self.gain(self.columns[enters].value, &self.columns[enters].entries);
        let mut own = std::mem::take(&mut self.inverse[place]);
        own.iter_mut().for_each(|value| *value /= weights[place]);
        let share = self.shares[place].max(0.0) / weights[place];
        for (at, weight) in weights.iter().enumerate().filter(|(_, weight)| weight.abs() > LITTLE) {
            if at != place {
                self.inverse[at].iter_mut().zip(&own).for_each(|(its, own)| *its -= weight * own);
                self.shares[at] -= weight * share;
            }
        }
        self.prices.iter_mut().zip(&own).for_each(|(price, own)| *price += gain * own);
        (self.inverse[place], self.shares[place]) = (own, share);
        let left = std::mem::replace(&mut self.basis[place], enters);
        self.columns[left].place = None;
        self.columns[enters].place = Some(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Value and entries.
    type Sample = (f64, Vec<(usize, f64)>);

    fn plenty() -> Work {
        Work::new(100_000_000)
    }

    #[test]
    fn the_best_split_is_found_and_what_is_full_has_a_price() {
        // 3 a + 2 b, a + b at most 1, a / 2 + b / 4 at most 1 (never full).
        let mut simplex = Simplex::default();
        let [both, wide] = [simplex.add_row(&[]), simplex.add_row(&[])];
        let a = simplex.add_column(3.0, vec![(both, 1.0), (wide, 0.5)]);
        let b = simplex.add_column(2.0, vec![(both, 1.0), (wide, 0.25)]);
        assert!(simplex.solve(&mut plenty()));
        let near = |value: f64, wanted: f64| assert!((value - wanted).abs() < 1e-6, "{value}, not {wanted}");
        near(simplex.share(a), 1.0);
        near(simplex.share(b), 0.0);
        near(simplex.price(both), 3.0);
        near(simplex.price(wide), 0.0);
        // A later row in which a counts for two, and a column that goes around it.
        let narrow = simplex.add_row(&[(b, 1.0)]);
        let c = simplex.add_column(4.0, vec![(both, 1.0), (narrow, 2.0)]);
        assert!(simplex.solve(&mut plenty()));
        near(simplex.share(c), 0.5);
        near(simplex.share(a), 0.5);
        near(simplex.price(narrow), 0.5);
    }

    #[test]
    fn no_price_is_left_that_another_split_would_beat() {
        let mut state = 7_u64;
        let mut draw = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % end
        };
        for _ in 0..50 {
            let mut simplex = Simplex::default();
            (0..12).for_each(|row| assert_eq!(simplex.add_row(&[]), row));
            let columns: Vec<Sample> = (0..40)
                .map(|_| {
                    let rows: BTreeSet<_> = (0..4).map(|_| draw(12) as usize).collect();
                    let entries = rows.into_iter().map(|row| (row, (1 + draw(20)) as f64 / 20.0));
                    let entries: Vec<_> = entries.collect();
                    ((1 + draw(9)) as f64, entries)
                })
                .collect();
            let ids: Vec<_> =
                columns.iter().map(|(value, entries)| simplex.add_column(*value, entries.clone())).collect();
            assert!(simplex.solve(&mut plenty()));
            let reached: f64 =
                ids.iter().zip(&columns).map(|(id, (value, _))| simplex.share(*id) * value).sum();
            let bound: f64 = (0..12).map(|row| simplex.price(row)).sum();
            // Equal by strong duality; the rows have a hair more than 1.
            assert!((reached - bound).abs() < 1e-4, "{reached} of {bound}");
            for (value, entries) in &columns {
                let costs: f64 = entries.iter().map(|(row, its)| its * simplex.price(*row)).sum();
                assert!(costs >= value - 1e-6, "{costs} for what is worth {value}");
            }
            for row in 0..12 {
                let of = |(id, (_, entries)): (&usize, &Sample)| {
                    let its = entries.iter().find(|(known, _)| *known == row).map_or(0.0, |(_, its)| *its);
                    its * simplex.share(*id)
                };
                let taken: f64 = ids.iter().zip(&columns).map(of).sum();
                assert!(taken <= 1.0 + 1e-6, "{taken} of row {row}");
            }
        }
    }

    #[test]
    fn it_ends_with_its_work() {
        let mut simplex = Simplex::default();
        let row = simplex.add_row(&[]);
        let column = simplex.add_column(1.0, vec![(row, 1.0)]);
        assert!(!simplex.solve(&mut Work::new(1)));
        assert_eq!(simplex.share(column), 0.0);
    }
}
