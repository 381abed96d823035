//! Weighted normal equations of a small regression, and their solution under a ridge.

/// Features of a regression.
pub(super) const P: usize = 13;
const TRIANGLE: usize = P * (P + 1) / 2;

/// Which features a solution uses.
pub(super) type Keep = [bool; P];

/// Lower triangle, row by row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norm {
    a: [f32; TRIANGLE],
    b: [f32; P],
}

impl Norm {
    pub(super) const EMPTY: Self = Self { a: [0.0; TRIANGLE], b: [0.0; P] };

    pub(super) fn fade(&mut self, factor: f32) {
        self.a.iter_mut().chain(&mut self.b).for_each(|value| *value *= factor);
    }

    pub(super) fn add(&mut self, x: &[f32; P], y: f32, weight: f32) {
        let mut row = 0;
        for i in 0..P {
            let weighted = weight * x[i];
            for (a, x) in self.a[row..=row + i].iter_mut().zip(x) {
                *a += weighted * x;
            }
            row += i + 1;
            self.b[i] += weighted * y;
        }
    }

    /// The sum of both, the other one times `share`.
    pub(super) fn plus(&self, other: &Self, share: f32) -> Self {
        let mut sum = *self;
        sum.a.iter_mut().zip(&other.a).for_each(|(a, b)| *a += share * b);
        sum.b.iter_mut().zip(&other.b).for_each(|(a, b)| *a += share * b);
        sum
    }

    /// Coefficients with a ridge towards zero ("stays as it is"), by Cholesky; zero for features that are not kept.
    pub(super) fn solve(&self, ridge: f32, keep: &Keep) -> [f32; P] {
        let mut kept = [0; P];
        let mut n = 0;
        for i in (0..P).filter(|i| keep[*i]) {
            kept[n] = i;
            n += 1;
        }
        let mut l = [[0.0f32; P]; P];
        let (mut inverse, mut z) = ([0.0f32; P], [0.0f32; P]);
        for i in 0..n {
            let row = kept[i] * (kept[i] + 1) / 2;
            for j in 0..=i {
                let sum = self.a[row + kept[j]] - (0..j).map(|k| l[i][k] * l[j][k]).sum::<f32>();
                if j < i {
                    l[i][j] = sum * inverse[j];
                } else {
                    inverse[i] = 1.0 / (sum + ridge).max(1e-6).sqrt();
                }
            }
            z[i] = (self.b[kept[i]] - (0..i).map(|k| l[i][k] * z[k]).sum::<f32>()) * inverse[i];
        }
        let mut out = [0.0; P];
        for i in (0..n).rev() {
            z[i] = (z[i] - (i + 1..n).map(|k| l[k][i] * z[k]).sum::<f32>()) * inverse[i];
            out[kept[i]] = z[i];
        }
        out
    }
}

pub(super) fn dot(x: &[f32; P], coefficients: &[f32; P]) -> f32 {
    x.iter().zip(coefficients).map(|(x, b)| x * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coefficients_of_a_plane_are_found() {
        let mut norm = Norm::EMPTY;
        let truth: [f32; P] = std::array::from_fn(|i| i as f32 - 6.0);
        for step in 0u32..400 {
            let x: [f32; P] = std::array::from_fn(|i| {
                ((step * 31 + i as u32 * 17 + step * step * (i as u32 + 3)) % 101) as f32 / 50.0 - 1.0
            });
            norm.add(&x, dot(&x, &truth), 1.0);
        }
        let found = norm.solve(1e-3, &[true; P]);
        assert!(found.iter().zip(&truth).all(|(a, b)| (a - b).abs() < 0.05), "{found:?}");
    }

    #[test]
    fn a_feature_left_out_has_no_coefficient_and_an_empty_norm_none_at_all() {
        assert_eq!(Norm::EMPTY.solve(1.0, &[true; P]), [0.0; P]);
        let mut norm = Norm::EMPTY;
        norm.add(&[1.0; P], 5.0, 1.0);
        let mut keep = [true; P];
        keep[3] = false;
        let found = norm.solve(1.0, &keep);
        assert_eq!(found[3], 0.0);
        assert!(found[0] > 0.0);
    }
}
