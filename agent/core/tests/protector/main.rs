//! When a group leaves its way and when it must not, over many seeds of virtual time.
mod death;
mod defect;
mod quality;
mod scale;
mod voices;
mod world;
