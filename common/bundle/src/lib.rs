//! Release bundles: deterministic building, checking and unpacking
