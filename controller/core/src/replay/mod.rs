//! Plays recorded series against policies, offline: what each would have cost, beside direct and beside the best.
pub mod load;
pub mod loads;
pub mod money;
pub mod policy;
pub mod recording;
pub mod regret;
pub mod score;
pub mod series;
pub mod seven;
pub mod table;
