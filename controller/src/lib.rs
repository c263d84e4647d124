//! The Comber controller
