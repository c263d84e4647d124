//! The messages of the agent link, both ways: protobuf, then the conversion that refuses them whole.
//!
//! Pure. Invariant: what a conversion accepted goes over the wire again and comes out the same.

use comber_model::wire::{
    desired_from_wire, desired_to_wire, known_packages, package_change_from_wire,
};
use comber_model::{Facts, HostStatus, Report};
use comber_proto::agent::v1 as wire;
use prost::Message as _;

/// The first byte chooses the message.
pub(crate) fn agent(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 4 {
        0 => status(bytes),
        1 => desired(bytes),
        2 => report(bytes),
        _ => changes(bytes),
    }
}

/// What a host tells of itself.
pub(crate) fn facts(bytes: &[u8]) {
    let Ok(message) = wire::Facts::decode(bytes) else {
        return;
    };
    if let Ok(facts) = Facts::try_from(message) {
        let again = Facts::try_from(wire::Facts::from(&facts));
        assert_eq!(again.as_ref(), Ok(&facts));
    }
}

fn status(bytes: &[u8]) {
    let Ok(message) = wire::ActualState::decode(bytes) else {
        return;
    };
    if let Ok(status) = HostStatus::try_from(message) {
        let again = HostStatus::try_from(wire::ActualState::from(&status));
        let again = again.expect("what was accepted is accepted again");
        assert_eq!(again.generation, status.generation);
        assert_eq!(again.installed, status.installed);
        assert_eq!(again.reports, status.reports);
    }
}

fn desired(bytes: &[u8]) {
    let Ok(message) = wire::DesiredState::decode(bytes) else {
        return;
    };
    if let Ok((epoch, desired)) = desired_from_wire(message) {
        let again = desired_from_wire(desired_to_wire(epoch, &desired));
        assert_eq!(again.as_ref(), Ok(&(epoch, desired)));
    }
}

fn report(bytes: &[u8]) {
    let Ok(message) = wire::Report::decode(bytes) else {
        return;
    };
    if let Ok(report) = Report::try_from(message) {
        let again = Report::try_from(wire::Report::from(report.clone()));
        assert_eq!(again.as_ref(), Ok(&report));
    }
}

fn changes(bytes: &[u8]) {
    let Ok(message) = wire::ReportPackagesRequest::decode(bytes) else {
        return;
    };
    package_change_from_wire(message.change.as_ref()).ok();
    known_packages(bytes).ok();
}
