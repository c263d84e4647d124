//! The Comber agent
