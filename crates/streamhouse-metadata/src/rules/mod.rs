//! The commit rules: states in, outcomes and mutations out. No I/O, no clock (DESIGN §2.7).
//!
//! `producer` judges one batch against its producer's state, `transaction` against its transaction, `append`
//! a whole commit; `transaction` also judges what coordinators ask, `retention` what is old. A store only
//! loads the states, lets the rules work and stores what they changed.

pub mod append;
pub mod producer;
pub mod retention;
pub mod transaction;
