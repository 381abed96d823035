//! Decides: which resources there are, which path a circuit takes, what each node shall have. No I/O, no clock.
#![forbid(unsafe_code)]

pub mod choice;
pub mod circuit;
pub mod compile;
pub mod deadlines;
pub mod desire;
pub mod discover;
pub mod external;
pub mod fabric;
pub mod forecast;
pub mod guarantee;
mod half;
pub mod intent;
pub mod io;
pub mod labels;
pub mod past;
pub mod path_id;
pub mod pool;
pub mod protection;
pub mod rate;
pub mod record;
pub mod registry;
pub mod replay;
pub mod roles;
pub mod route;
pub mod rules;
pub mod settings;
pub mod silence;
pub mod telemetry;
pub mod topology;
