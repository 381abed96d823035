//! Performs what the agent's core decides: loads the data plane, makes interfaces, and keeps the controller informed.
#![forbid(unsafe_code)]

pub mod clock;
pub mod config;
pub mod doctor;
pub mod engine;
pub mod identity;
pub mod kernel;
mod memory;
pub mod metrics;
mod priority;
pub mod probes;
pub mod recorder;
pub mod seal;
pub mod stamp;
pub mod uninstall;
pub mod uplink;

/// The compiled BPF programs of this build.
pub static DATAPLANE: &[u8] = aya::include_bytes_aligned!(env!("DATAPLANE_OBJECT"));

/// Version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Chooses the one crypto provider of the process. Repeating it is harmless.
pub fn install_crypto() {
    // Refused only when a provider is there already, which is then the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
