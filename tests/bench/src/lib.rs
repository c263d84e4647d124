//! Benchmarks against a real controller
