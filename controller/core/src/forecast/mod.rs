//! Says what a link's round-trip time, loss and load will be, from seconds to a day ahead, and how sure that is.
//!
//! Two kinds of forecasters, both streaming, both fed one sample per link and step, `None` where nothing was measured:
//!
//! - [`Bank`]: one quantity at one resolution, each link by itself: six simple models, mixed by their past errors at three
//!   horizons; bands from the link's own last errors and from those of all links. What round-trip times and loss need.
//! - [`Mesh`]: the loads of all links of a network together: small regressions, pooled over the links; 1 to 12 steps ahead,
//!   and an upper bound of the maximum over the next 12 that holds 99 times in 100. What admission needs.
//!
//! [`Forecasts`] is both of them live: it remembers samples ([`crate::telemetry`]), steps the forecasters of each
//! resolution when its time has come, and answers. After a restart it learns again from what telemetry kept.
//!
//! ```text
//! forecasts.see(now, &link, &sample)                               // telemetry::Sample, whenever a report comes
//! forecasts.advance(now)                                           // once a second or so
//! forecasts.outlook(&link, Quantity::Rtt, Duration::from_secs(60)) // Option<Outlook>
//! forecasts.load_bound(&link)                                      // Option<f32>, Mbit/s
//!
//! let mut bank = Bank::new(Spec::hours(Quantity::Rtt));            // by hand, over a table
//! let slot = bank.join();  bank.step(&[Some(12.5)]);  bank.outlook(slot, 4.0)
//! let mut mesh = Mesh::new(Config::default(), Duration::from_secs(300));
//! let slot = mesh.join();  mesh.step(&[Some(80.0)]);  mesh.outlook(slot, 4.0);  mesh.bound(slot)
//! score::bank(table, spec, &[1, 12])                               // and scored: `foreweave replay`
//! score::mesh(table, period, &[1, 12], &capacities)
//! ```
pub mod bank;
mod live;
pub mod mesh;
mod outlook;
pub mod score;
#[cfg(test)]
mod series;
mod slots;
mod spread;

pub use bank::Bank;
pub use live::{Forecasts, LOAD_WITHIN};
pub use mesh::Mesh;
pub use outlook::{LEVELS, Model, Outlook, Quantity, chance_above, quantile};
pub use slots::Slot;
pub use spread::{AHEAD, NEAR, Spread, Spreads};
