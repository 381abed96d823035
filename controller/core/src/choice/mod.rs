//! Chooses paths when nobody knows what the links will cost next.
//!
//! Of every link three forecasts are kept, each wrong in another way ([`links`]). Which of them a pair of nodes follows,
//! or whether it stays on its reference path, is decided by what following each would have cost so far ([`records`]):
//! decisions are scored, not forecasts. A pair moves when another path is better by a margin that follows from how wrong
//! its forecasts have been. Pairs may weigh round-trip time and loss differently ([`priced`]). [`chooser`] is for any graph and says its reasons; [`mesh`] does the same for all pairs of a
//! full mesh at once, for replays. Protocol and measured figures: docs/prediction.md.
#[cfg(test)]
pub(crate) mod chance;
pub mod chooser;
mod level;
pub mod links;
pub mod live;
mod margin;
pub mod mesh;
mod polish;
pub mod priced;
pub mod reasons;
pub mod records;
pub mod tuning;

pub(crate) use polish::median;
