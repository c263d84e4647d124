//! Comber's wire format: the generated types and services of `comber.*.v1`, and nothing else.
//!
//! The proto files are the documentation. They are compiled when this crate is built, without protoc. Domain types never
//! appear here: `comber-model` converts, behind its feature `wire`.

pub mod codec;

macro_rules! area {
    ($($name:ident)*) => {$(
        #[expect(missing_docs, reason = "the proto file documents the package")]
        pub mod $name {
            pub mod v1 {
                #![expect(
                    missing_docs,
                    unused_qualifications,
                    clippy::pedantic,
                    clippy::allow_attributes,
                    clippy::allow_attributes_without_reason,
                    reason = "generated code"
                )]
                include!(concat!(env!("OUT_DIR"), "/comber.", stringify!($name), ".v1.rs"));
            }
        }
    )*};
}

pub mod comber {
    //! The packages, nested as in the proto files so that generated code finds its neighbours.
    area! { agent budget enrolment event freeze host release rollout }
}

pub use comber::{agent, budget, enrolment, event, freeze, host, release, rollout};

/// Every descriptor, encoded, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
