//! What a forecast of loads has to beat: the last value, and an online mix of seven simple forecasters.

/// Weights are past errors to this power, each step's error counting this much less than the next one's.
const POWER: f64 = -4.0;
const MEMORY: f64 = 0.95;
/// Gains of three exponentially weighted means.
const GAINS: [f64; 3] = [0.7, 0.4, 0.15];
/// Samples of the Theil–Sen trend.
const TREND: usize = 12;

/// Forecasts made at each step for the step `ahead` later. NaN where nothing is known.
pub fn last(series: &[f64], _ahead: usize) -> Vec<f64> {
    let mut last = f64::NAN;
    series
        .iter()
        .map(|value| {
            last = if value.is_nan() { last } else { *value };
            last
        })
        .collect()
}

/// Last value, three means, Theil–Sen trend, same time yesterday and a week ago (`day` steps are a day), weighted by
/// their past errors at this horizon. A missing sample is the one before.
pub fn mix(series: &[f64], ahead: usize, day: usize) -> Vec<f64> {
    let series = last(series, ahead);
    let mut means = [series[0]; GAINS.len()];
    let mut errors = [0.0_f64; 7];
    let mut past: Vec<[f64; 7]> = Vec::with_capacity(series.len());
    let mut mixed = Vec::with_capacity(series.len());
    for (now, value) in series.iter().enumerate() {
        means.iter_mut().zip(GAINS).for_each(|(mean, gain)| *mean += gain * (value - *mean));
        if let Some(then) = now.checked_sub(ahead) {
            for (error, forecast) in errors.iter_mut().zip(past[then]) {
                *error = MEMORY * *error + (1.0 - MEMORY) * (forecast - value).abs();
            }
        }
        let forecasts = seven(&series, now, ahead, means, day);
        let weights = errors.map(|error| (error + 1e-9).powf(POWER));
        let sum: f64 = weights.iter().sum();
        mixed.push(forecasts.iter().zip(weights).map(|(forecast, weight)| forecast * weight / sum).sum());
        past.push(forecasts);
    }
    mixed
}

fn seven(series: &[f64], now: usize, ahead: usize, means: [f64; 3], day: usize) -> [f64; 7] {
    let season = |period: usize| match (now + ahead).checked_sub(period) {
        Some(then) if then <= now => series[then],
        _ => series[now],
    };
    let week = if now + ahead >= 7 * day { season(7 * day) } else { season(day) };
    let trend = theil_sen(&series[now.saturating_sub(TREND - 1)..=now], ahead);
    [series[now], means[0], means[1], means[2], trend, season(day), week]
}

/// Median slope and median level, `ahead` steps after the last value.
fn theil_sen(window: &[f64], ahead: usize) -> f64 {
    let mut slopes = Vec::new();
    for (later, value) in window.iter().enumerate() {
        slopes
            .extend(window[..later].iter().enumerate().map(|(at, old)| (value - old) / (later - at) as f64));
    }
    let slope = upper_median(&mut slopes).unwrap_or(0.0);
    let age = |at: usize| (window.len() - 1 - at) as f64;
    let mut levels: Vec<f64> = window.iter().enumerate().map(|(at, value)| value + slope * age(at)).collect();
    upper_median(&mut levels).unwrap_or(f64::NAN) + slope * ahead as f64
}

fn upper_median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Mean absolute error over the second half, scaled by the mean step of the first half (MASE, Hyndman and Koehler 2006).
/// None where the series does not move.
pub fn mase(series: &[f64], forecasts: &[f64], ahead: usize) -> Option<f64> {
    let half = series.len() / 2;
    let mean = |errors: &mut dyn Iterator<Item = f64>| {
        let known = errors.filter(|error| !error.is_nan());
        let (sum, count) = known.fold((0.0, 0.0), |(sum, count), error| (sum + error, count + 1.0));
        (count > 0.0).then(|| sum / count)
    };
    let scale = mean(&mut series[..half].windows(2).map(|pair| (pair[1] - pair[0]).abs()))?;
    let scored = half.max(ahead)..series.len();
    let error = mean(&mut scored.map(|step| (series[step] - forecasts[step - ahead]).abs()))?;
    (scale > 0.0).then(|| error / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_a_steady_rise_is_one_step_behind() {
        let rise: Vec<f64> = (0..40).map(f64::from).collect();
        assert_eq!(mase(&rise, &last(&rise, 1), 1), Some(1.0));
        assert_eq!(mase(&rise, &last(&rise, 12), 12), Some(12.0));
        assert_eq!(mase(&[5.0; 40], &[5.0; 40], 1), None);
    }

    #[test]
    fn the_mix_finds_the_trend_of_a_rise_and_the_season_of_a_day() {
        let rise: Vec<f64> = (0..60).map(f64::from).collect();
        let error = mase(&rise, &mix(&rise, 5, 1_000), 5).expect("it moves");
        assert!(error < 0.01, "{error}");
        let days: Vec<f64> = (0..240).map(|step| f64::from(step % 24 * 7 % 24)).collect();
        let error = mase(&days, &mix(&days, 1, 24), 1).expect("it moves");
        assert!(error < 0.01, "{error}");
    }

    #[test]
    fn a_missing_sample_is_no_forecast_of_nothing() {
        let series = [1.0, 2.0, f64::NAN, 4.0, 5.0, 6.0, f64::NAN, 8.0];
        assert_eq!(last(&series, 1)[2], 2.0);
        assert!(mix(&series, 1, 100).iter().all(|forecast| forecast.is_finite()));
        assert!(mase(&series, &last(&series, 1), 1).is_some());
    }
}
