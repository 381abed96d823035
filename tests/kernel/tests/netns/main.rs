//! The fabric on a real kernel: real daemons in namespaces, real packets. Needs root; fails with the command without.
mod attachments;
mod bandwidth;
mod circuits;
mod crashes;
mod encryption;
mod ends;
mod explain;
mod external;
mod labs;
mod leftovers;
mod mtu;
mod protection;
mod sealer;
mod support;
mod together;
mod truths;
mod underlay;
