//! A link in user space: two TAP interfaces, and between them rate, delay, jitter and loss, for kernels without netem.
pub mod line;
pub mod series;
mod wire;

pub use wire::run;
