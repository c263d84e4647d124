//! Real processes for tests: a controller, agents and the CLI in a temporary directory
