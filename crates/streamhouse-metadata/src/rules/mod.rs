//! The commit rules: states in, outcomes and mutations out. No I/O, no clock (DESIGN §2.7).
