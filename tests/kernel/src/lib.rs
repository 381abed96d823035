//! The lab: hosts, links and real daemons on one machine; and what tests and measurements on a real kernel share.
pub mod bench;
pub mod chance;
pub mod demo;
pub mod emulate;
pub mod flood;
pub mod lab;
pub mod many;
pub mod measure;
pub mod model;
pub mod pretend;
pub mod protection;
pub mod stream;
pub mod traffic;
pub mod urgent;
