//! Bundles from the outside: what is built, what is refused, what is unpacked.
//!
//! `cfg(test)` holds for the whole file; it is repeated because clippy looks for it when it meets an `unwrap`.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod roundtrip;
#[cfg(test)]
mod support;
#[cfg(test)]
mod umask;
