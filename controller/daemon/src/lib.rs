//! The controller's daemon: listens, remembers and tells; every decision is `controller-core`'s.
//!
//! [`Daemon::start`] runs a whole controller inside any tokio runtime; the binary does no more than that.
#![forbid(unsafe_code)]

mod agents;
mod api;
pub mod authority;
pub mod config;
mod daemon;
pub mod engine;
mod enrolment;
pub mod files;
mod history;
pub mod identity;
pub mod metrics;
mod recorder;
mod server;
pub mod store;
pub mod token;

pub use config::Config;
pub use daemon::Daemon;
pub use server::CONNECTIONS;

/// Of this build; agents and clients are shown it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
