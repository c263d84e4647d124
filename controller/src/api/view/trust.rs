//! The publisher's metadata.

use comber_model::wire::time::to_timestamp;
use comber_proto::trust::v1 as wire;
use comber_trust::Listing;

use crate::core::{Trusted, World};

/// What is kept, with which of the listed releases are here.
pub(in crate::api) fn repository(world: &World) -> Option<wire::Repository> {
    let trust: &Trusted = world.trust.as_deref()?;
    let listing = trust.listing.as_ref();
    let releases = listing.into_iter().flat_map(|listing| &listing.releases);
    let releases = releases.map(|(id, entry)| wire::Listed {
        id: id.to_string(),
        counter: entry.signed.counter,
        digest: entry.sha256.to_vec(),
        length: entry.length,
        published: world.input.releases.contains_key(id),
    });
    let floors = listing.into_iter().flat_map(|listing| &listing.floors);
    let floors = floors.map(|(product, counter)| wire::Floor {
        product: product.to_string(),
        counter: *counter,
    });
    Some(wire::Repository {
        pinned: trust.kept.pinned.0.to_vec(),
        roles: roles(trust, listing),
        imported_at: Some(to_timestamp(trust.kept.imported_at)),
        imported_by: trust.kept.imported_by.clone(),
        releases: releases.collect(),
        floors: floors.collect(),
    })
}

fn roles(trust: &Trusted, listing: Option<&Listing>) -> Vec<wire::Role> {
    let Some(listing) = listing else {
        let newest = trust.kept.newest_root();
        let facts = newest.and_then(|root| comber_trust::look_at_root(root).ok());
        let root = facts.map(|facts| wire::Role {
            name: "root".to_owned(),
            version: facts.version,
            expires: Some(to_timestamp(facts.expires)),
        });
        return root.into_iter().collect();
    };
    let names = ["root", "timestamp", "snapshot", "targets"];
    let roles = names.into_iter().zip(listing.versions).zip(listing.ends);
    roles
        .map(|((name, version), end)| wire::Role {
            name: name.to_owned(),
            version,
            expires: Some(to_timestamp(end)),
        })
        .collect()
}
