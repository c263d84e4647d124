//! The Comber agent.
pub mod config;
pub mod enrol;
pub mod identity;
pub mod link;
pub mod lock;
pub mod renew;
