//! The comber command
