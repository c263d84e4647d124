//! Edges that every Comber process shares: configuration, TLS, telemetry, metrics, shutdown, backoff
