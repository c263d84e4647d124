//! Real processes for tests, benchmarks and the quickstart: a controller, agents and the `comber` command.
//!
//! A [`Lab`] is one controller with its operator and its hosts in one directory, all on loopback with ports that were
//! free. Every process that a lab starts it also ends, and no other. When a test fails the directory with all logs
//! stays, and its path is printed.

mod binaries;
mod comber;
mod disk;
mod lab;
mod network;
mod process;
mod product;
mod proxy;
pub mod wait;

pub use binaries::{Binaries, target_directory};
pub use comber::{Comber, Ran};
pub use disk::SmallDisk;
pub use lab::{AgentOptions, Lab, LabOptions};
pub use network::Network;
pub use process::Process;
pub use product::Product;
pub use proxy::Cable;
