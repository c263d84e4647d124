//! Pure state machine of one host's agent
