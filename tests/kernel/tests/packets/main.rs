//! Packet in, packet out, verdict, reason and counters, of the programs as the verifier took them. Needs root; without it
//! every test fails with the command that runs it.
mod agree;
mod defects;
mod delivery;
mod dry;
mod endpoint;
mod fixture;
mod frame;
mod groups;
mod link_probes;
mod loading;
mod meters;
mod mtu;
mod odd;
mod path_probes;
mod rounds;
mod sealed;
mod stamp;
mod states;
mod traces;
mod transit;
mod wire;
