//! The real kernel passes the contract of all kernels. Needs root; fails with the command without.
mod kills;
mod links;
mod processes;
mod restart;
mod suite;
mod underlays;
mod uninstall;
mod upgrades;
mod world;
