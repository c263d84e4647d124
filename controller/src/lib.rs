//! The Comber controller

pub mod store;
