//! What the fabric promises, each promise a test.
mod agents;
mod books;
mod certificates;
mod circuits;
mod ends;
mod external;
mod guarantee;
mod links;
mod policies;
mod protection;
mod refusals;
mod repair;
mod resources;
mod restart;
mod storm;
mod traces;
mod why;
