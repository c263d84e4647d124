//! Who stands behind the edits of a request.
//!
//! Set once, where a request was let in, for as long as its call runs; read once, where an edit is queued. So no service
//! can forget to pass it on, and every record that changes is told of with the person who changed it. What a host says
//! on its stream, and what the controller does by itself, has no caller.

use std::net::SocketAddr;
use std::sync::Arc;

use comber_model::access::{Role, Scope};

tokio::task_local! {
    static CALLER: Arc<Caller>;
}

/// Who calls, as it was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub who: Who,
    /// From where.
    pub address: SocketAddr,
    /// What is called.
    pub rpc: &'static str,
}

/// Whom a call comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// Nobody known: an enrolment, whose token speaks for it.
    Stranger,
    /// A host, by its certificate.
    Host(String),
    /// An operator.
    Operator(Authority),
}

/// An operator with what it used to be let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Its name.
    pub name: String,
    /// What proved it.
    pub proof: Proof,
    /// The role that the call asks for.
    pub role: Role,
    /// Over which hosts it holds that role.
    pub scope: Scope,
}

/// What proved an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A certificate that began then.
    Certificate(jiff::Timestamp),
    /// The bearer token of this hash.
    Token(comber_model::Digest),
}

impl Caller {
    /// The operator, where it is one.
    pub fn authority(&self) -> Option<&Authority> {
        match &self.who {
            Who::Operator(authority) => Some(authority),
            Who::Host(_) | Who::Stranger => None,
        }
    }

    /// Runs a call on its behalf.
    pub async fn run<T>(self: Arc<Self>, call: impl Future<Output = T>) -> T {
        CALLER.scope(self, call).await
    }
}

/// Whoever the running task works for.
pub(crate) fn current() -> Option<Arc<Caller>> {
    CALLER.try_with(Arc::clone).ok()
}
