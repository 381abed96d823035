//! What a link costs, with what its loss costs by the usual price and without it: so that each pair can price loss by itself.

/// The same of both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Priced<T> {
    /// Round-trip time, and what loss costs by the usual price.
    pub all: T,
    /// Round-trip time alone.
    pub rtt: T,
}

impl<T> Priced<T> {
    pub fn both(one: T) -> Self
    where
        T: Copy,
    {
        Self { all: one, rtt: one }
    }

    pub fn map<U>(self, of: impl Fn(T) -> U) -> Priced<U> {
        Priced { all: of(self.all), rtt: of(self.rtt) }
    }

    pub fn each(&self) -> Priced<&T> {
        Priced { all: &self.all, rtt: &self.rtt }
    }

    pub fn each_mut(&mut self) -> Priced<&mut T> {
        Priced { all: &mut self.all, rtt: &mut self.rtt }
    }
}

/// What one unit of the links' round-trip times adds to the cost of a path, and what one unit of their loss by the usual price
/// does. Neither is negative.
///
/// What was measured is weighed exactly. What is forecast is made of two forecasts: where loss counts for less than usual it lies
/// between the two, where it counts for more, what it adds to the round-trip time by the usual price is taken so much more often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    pub rtt: f32,
    pub loss: f32,
}

impl Weight {
    pub const USUAL: Self = Self { rtt: 1.0, loss: 1.0 };

    /// NaN when what counts is not known.
    pub fn of(self, cost: Priced<f32>) -> f32 {
        self.sum(&[0], |_| cost)
    }

    /// Of a path over these links.
    pub fn sum(self, links: &[usize], cost: impl Fn(usize) -> Priced<f32>) -> f32 {
        let both = self.rtt.min(self.loss);
        let (rtt, loss) = (self.rtt - both, self.loss - both);
        let mut sum = 0.0;
        if both > 0.0 {
            sum += both * links.iter().map(|link| cost(*link).all).sum::<f32>();
        }
        if rtt > 0.0 {
            sum += rtt * links.iter().map(|link| cost(*link).rtt).sum::<f32>();
        }
        if loss > 0.0 {
            // A forecast with loss may be below the one without it, by chance.
            let added = |cost: Priced<f32>| if cost.all < cost.rtt { 0.0 } else { cost.all - cost.rtt };
            sum += loss * links.iter().map(|link| added(cost(*link))).sum::<f32>();
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Priced<f32> = Priced { all: 50.0, rtt: 20.0 };

    fn cost(rtt: f32, loss: f32) -> f32 {
        Weight { rtt, loss }.of(COST)
    }

    #[test]
    fn round_trip_time_and_loss_count_by_their_own_weights() {
        assert_eq!(Weight::USUAL.of(COST), COST.all);
        assert_eq!((cost(1.0, 0.0), cost(0.0, 1.0), cost(0.0, 0.0)), (20.0, 30.0, 0.0));
        assert_eq!((cost(1.0, 0.5), cost(1.0, 2.0), cost(3.0, 2.0)), (35.0, 80.0, 120.0));
    }

    #[test]
    fn a_forecast_that_loss_made_smaller_is_no_gain() {
        let odd = Priced { all: 19.0, rtt: 20.0 };
        assert_eq!(Weight { rtt: 1.0, loss: 100.0 }.of(odd), 19.0);
        assert_eq!(Weight { rtt: 0.0, loss: 100.0 }.of(odd), 0.0);
    }

    #[test]
    fn what_is_not_known_and_counts_is_not_known() {
        let unknown = Priced::both(f32::NAN);
        for (rtt, loss) in [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (1.0, 9.0)] {
            assert!(Weight { rtt, loss }.of(unknown).is_nan(), "{rtt} {loss}");
        }
        assert_eq!(Weight { rtt: 0.0, loss: 0.0 }.of(unknown), 0.0);
    }
}
