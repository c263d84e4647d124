//! The metrics of one process: who owns them, what they are of the process itself, and how they are scraped.
//!
//! Each part registers its own `FooMetrics` struct while the process starts; then [`Metrics::seal`] makes the registry
//! read-only and shared. Nothing is global, so tests can run many processes' worth of metrics side by side.

mod process;
mod serve;

use std::sync::Arc;

use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};

pub use process::ProcessMetrics;
pub use serve::serve;

/// Content type of what [`encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The registry while the process starts and parts add to it.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// A registry that already has the process's own metrics and `comber_build_info` with the `component` and its
    /// version.
    pub fn new(component: &'static str, version: &'static str) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessMetrics::new()));
        let build = Info::new([("component", component), ("version", version)]);
        registry.register(
            "comber_build",
            "Which build of which Comber component this is",
            build,
        );
        Self { registry }
    }

    /// Where a part registers its metrics; names begin with `comber_` and end with their unit.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Ends registration; what is returned goes to [`serve`].
    pub fn seal(self) -> Arc<Registry> {
        Arc::new(self.registry)
    }
}

/// All metrics as OpenMetrics text.
pub fn encode(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    text::encode(&mut text, registry)?;
    Ok(text)
}
