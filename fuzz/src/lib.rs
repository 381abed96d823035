//! What is done with random bytes, and what must hold whatever they are. The fuzzer and the plain tests call the same.
pub mod packet;
pub mod record;
pub mod text;
pub mod topology;
pub mod wire;
