//! The Comber controller

pub mod core;
pub mod pki;
pub mod store;
