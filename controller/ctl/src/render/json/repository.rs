//! The publisher's metadata.

use comber_proto::trust::v1 as wire;
use serde::Serialize;

use super::moment;
use crate::render::text::hex;

/// What a controller keeps.
#[derive(Debug, Serialize)]
pub(crate) struct Repository {
    pinned_sha256: String,
    roles: Vec<Role>,
    imported_at: Option<String>,
    imported_by: String,
    releases: Vec<Listed>,
    floors: Vec<Floor>,
}

#[derive(Debug, Serialize)]
struct Role {
    name: String,
    version: u64,
    expires: Option<String>,
}

#[derive(Debug, Serialize)]
struct Listed {
    id: String,
    counter: u64,
    sha256: String,
    length: u64,
    published: bool,
}

#[derive(Debug, Serialize)]
struct Floor {
    product: String,
    counter: u64,
}

impl From<&wire::Repository> for Repository {
    fn from(repository: &wire::Repository) -> Self {
        let roles = repository.roles.iter().map(|role| Role {
            name: role.name.clone(),
            version: role.version,
            expires: moment(role.expires),
        });
        let releases = repository.releases.iter().map(|listed| Listed {
            id: listed.id.clone(),
            counter: listed.counter,
            sha256: hex(&listed.digest),
            length: listed.length,
            published: listed.published,
        });
        let floors = repository.floors.iter().map(|floor| Floor {
            product: floor.product.clone(),
            counter: floor.counter,
        });
        Self {
            pinned_sha256: hex(&repository.pinned),
            roles: roles.collect(),
            imported_at: moment(repository.imported_at),
            imported_by: repository.imported_by.clone(),
            releases: releases.collect(),
            floors: floors.collect(),
        }
    }
}
