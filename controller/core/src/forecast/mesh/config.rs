//! The constants of the regressions. One set for every network: chosen on two recorded backbones (5 and 15 minutes a step),
//! checked on other parts of them; halving or doubling any one moves the errors there by less than 3 %.

#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Rates of the moving averages that are features.
    pub rates: [f32; 3],
    /// Of the distance from the season.
    pub dev_rate: f32,
    /// Of the profile of the day, per day.
    pub season_rate: f32,
    /// Of the week's distance from the day, per week.
    pub week_rate: f32,
    /// Half width of the smoothed difference of the season: bins of the day over this.
    pub smooth: usize,
    /// Of the mean move from one sample to the next.
    pub scale_rate: f32,
    /// One sample counts there as so many scales at most.
    pub scale_clip: f32,
    /// Features are cut at so many scales: one step ahead, twelve.
    pub clip: [f32; 2],
    /// Targets, in mean moves of their horizon.
    pub target_clip: f32,
    /// Errors above so many mean errors weigh as absolute ones, not as squares.
    pub huber: f32,
    /// Samples of its own that the mesh's experience is worth for a link.
    pub kappa: f32,
    /// Ridge towards "stays as it is", times horizon over mean error; the same for the maximum.
    pub ridge: f32,
    pub ridge_max: f32,
    /// Memory of the link's own normal equations, per sample.
    pub forget: f32,
    /// Memory of the mesh's, in samples of one link; 17 steps at least.
    pub pool_samples: f32,
    /// A forecast moves by so many mean moves of its horizon at most.
    pub guard: f32,
    /// The log domain is that of the load plus this share of its early peak.
    pub eps: f32,
    /// Memory and rates of the mix (exponentiated gradient), one step and twelve; weight of the mesh's regret.
    pub mix_decay: f32,
    pub mix_eta: [f32; 2],
    pub mix_kappa: f32,
    /// Rate of the error scale under the bands; step of the quantiles (pinball).
    pub band_scale: f32,
    pub band_rate: f32,
    /// Rate at which the bands of all links follow how many of the loads they hold.
    pub wider_rate: f32,
    /// What of the bound's forecasts may be violated; below 1 % because levels shift.
    pub risk: f32,
    /// Rates of the mean miss of the maximum: the larger of the two counts.
    pub miss_slow: f32,
    pub miss_fast: f32,
    /// Memory of the mesh's histogram of misses, per step.
    pub hist_forget: f32,
    /// Rate of the correction of the risk by observed violations: of the mesh, of a link, and how far the latter goes.
    pub level_rate: f32,
    pub link_rate: f32,
    pub link_max: f32,
    /// Steps of experience that the prior of the histogram is worth.
    pub prior: f32,
    /// A run of violations counts as so many at most: one shift of a level is one piece of bad luck.
    pub run_max: u32,
    /// Samples of a link before its misses count.
    pub warm: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rates: [0.3, 0.1, 0.02],
            dev_rate: 0.05,
            season_rate: 0.15,
            week_rate: 0.4,
            smooth: 24,
            scale_rate: 0.007,
            scale_clip: 4.0,
            clip: [3.0, 8.0],
            target_clip: 4.0,
            huber: 2.0,
            kappa: 60.0,
            ridge: 5.0,
            ridge_max: 1.0,
            forget: 0.998,
            pool_samples: 500.0,
            guard: 3.0,
            eps: 0.02,
            mix_decay: 0.997,
            mix_eta: [0.2, 0.1],
            mix_kappa: 3.0,
            band_scale: 0.015,
            band_rate: 0.02,
            wider_rate: 0.05,
            risk: 0.0085,
            miss_slow: 0.003,
            miss_fast: 0.05,
            hist_forget: 0.998,
            level_rate: 0.0005,
            link_rate: 0.005,
            link_max: 1.5,
            prior: 200.0,
            run_max: 6,
            warm: 96,
        }
    }
}
