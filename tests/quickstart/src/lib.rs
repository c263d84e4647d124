//! The quickstart: a real rollout on this machine
