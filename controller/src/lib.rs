//! The Comber controller

pub mod pki;
