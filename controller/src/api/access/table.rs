//! The table: every rpc with what it asks of its caller.
//!
//! Pure. Invariant: one row for each rpc of the descriptors and for each service that standard tools ask, and none
//! besides (a test compares). `docs/access.md` shows the same rows, which another test holds it to.

use comber_model::access::Role;

/// What an rpc asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: enrolment and health.
    Nothing,
    /// A host's certificate.
    Host,
    /// A certificate of either kind.
    Certificate,
    /// An operator with this role.
    Role(Role),
}

/// What an rpc can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaches {
    /// Nothing.
    Nothing,
    /// What belongs to the caller alone: a host's own reports, its own certificate.
    Itself,
    /// Single hosts and rollouts: for operators of some hosts, too, who are then held to these.
    Hosts,
    /// The whole fleet: not for operators of some hosts.
    Fleet,
}

/// One rpc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Its path.
    pub path: &'static str,
    /// Who may call it.
    pub needs: Needs,
    /// What it can change.
    pub reaches: Reaches,
}

/// The row of a path.
pub fn find(path: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.path == path)
}

const fn row(path: &'static str, needs: Needs, reaches: Reaches) -> Row {
    Row {
        path,
        needs,
        reaches,
    }
}

const fn viewer(path: &'static str) -> Row {
    row(path, Needs::Role(Role::Viewer), Reaches::Nothing)
}

const fn own(path: &'static str, needs: Needs) -> Row {
    row(path, needs, Reaches::Itself)
}

const fn hosts(path: &'static str, role: Role) -> Row {
    row(path, Needs::Role(role), Reaches::Hosts)
}

const fn fleet(path: &'static str, role: Role) -> Row {
    row(path, Needs::Role(role), Reaches::Fleet)
}

/// Every rpc by its path.
pub const TABLE: &[Row] = &[
    fleet(
        "/comber.access.v1.AccessService/CreateOperator",
        Role::Admin,
    ),
    viewer("/comber.access.v1.AccessService/ListOperators"),
    viewer("/comber.access.v1.AccessService/GetOperator"),
    fleet(
        "/comber.access.v1.AccessService/RevokeOperator",
        Role::Admin,
    ),
    fleet(
        "/comber.access.v1.AccessService/CreateOperatorToken",
        Role::Admin,
    ),
    fleet(
        "/comber.access.v1.AccessService/RevokeOperatorToken",
        Role::Admin,
    ),
    own("/comber.agent.v1.AgentLinkService/Link", Needs::Host),
    own("/comber.agent.v1.AgentLinkService/ReportFacts", Needs::Host),
    own(
        "/comber.agent.v1.AgentLinkService/ReportPackages",
        Needs::Host,
    ),
    viewer("/comber.audit.v1.AuditService/WatchAudit"),
    fleet("/comber.budget.v1.BudgetService/SetBudget", Role::Operator),
    viewer("/comber.budget.v1.BudgetService/GetBudget"),
    viewer("/comber.budget.v1.BudgetService/ListBudgets"),
    fleet(
        "/comber.budget.v1.BudgetService/DeleteBudget",
        Role::Operator,
    ),
    fleet(
        "/comber.budget.v1.BudgetService/ReleaseLock",
        Role::Operator,
    ),
    own(
        "/comber.enrolment.v1.EnrolmentService/Enrol",
        Needs::Nothing,
    ),
    own(
        "/comber.enrolment.v1.EnrolmentService/Renew",
        Needs::Certificate,
    ),
    fleet(
        "/comber.enrolment.v1.EnrolmentService/CreateToken",
        Role::Operator,
    ),
    viewer("/comber.enrolment.v1.EnrolmentService/ListTokens"),
    fleet(
        "/comber.enrolment.v1.EnrolmentService/RevokeToken",
        Role::Operator,
    ),
    fleet(
        "/comber.enrolment.v1.EnrolmentService/RevokeCertificate",
        Role::Admin,
    ),
    viewer("/comber.event.v1.EventService/WatchEvents"),
    fleet("/comber.freeze.v1.FreezeService/AddFreeze", Role::Operator),
    viewer("/comber.freeze.v1.FreezeService/ListFreezes"),
    fleet(
        "/comber.freeze.v1.FreezeService/RemoveFreeze",
        Role::Operator,
    ),
    viewer("/comber.host.v1.HostService/ListHosts"),
    viewer("/comber.host.v1.HostService/GetHost"),
    hosts("/comber.host.v1.HostService/LabelHosts", Role::Operator),
    viewer("/comber.host.v1.HostService/ListPackages"),
    hosts("/comber.host.v1.HostService/RetireHost", Role::Operator),
    hosts("/comber.host.v1.HostService/RevokeHost", Role::Operator),
    hosts("/comber.host.v1.HostService/ResolveHost", Role::Operator),
    viewer("/comber.host.v1.HostService/ExplainHost"),
    row(
        "/comber.release.v1.ReleaseService/StatUpload",
        Needs::Role(Role::Publisher),
        Reaches::Nothing,
    ),
    fleet("/comber.release.v1.ReleaseService/Upload", Role::Publisher),
    fleet(
        "/comber.release.v1.ReleaseService/PublishRelease",
        Role::Publisher,
    ),
    viewer("/comber.release.v1.ReleaseService/ListReleases"),
    viewer("/comber.release.v1.ReleaseService/GetRelease"),
    fleet(
        "/comber.release.v1.ReleaseService/DeleteRelease",
        Role::Publisher,
    ),
    viewer("/comber.rollout.v1.RolloutService/PreviewRollout"),
    hosts(
        "/comber.rollout.v1.RolloutService/CreateRollout",
        Role::Operator,
    ),
    hosts(
        "/comber.rollout.v1.RolloutService/StartRollout",
        Role::Operator,
    ),
    hosts(
        "/comber.rollout.v1.RolloutService/PauseRollout",
        Role::Operator,
    ),
    hosts(
        "/comber.rollout.v1.RolloutService/ResumeRollout",
        Role::Operator,
    ),
    hosts(
        "/comber.rollout.v1.RolloutService/AbortRollout",
        Role::Operator,
    ),
    hosts(
        "/comber.rollout.v1.RolloutService/RollBackRollout",
        Role::Operator,
    ),
    viewer("/comber.rollout.v1.RolloutService/AwaitFence"),
    viewer("/comber.rollout.v1.RolloutService/GetRollout"),
    viewer("/comber.rollout.v1.RolloutService/ListRollouts"),
    viewer("/comber.rollout.v1.RolloutService/WatchRollout"),
    viewer("/comber.rollout.v1.RolloutService/ListMembers"),
    viewer("/comber.rollout.v1.RolloutService/ExplainRollout"),
    fleet(
        "/comber.trust.v1.TrustService/ImportRepository",
        Role::Publisher,
    ),
    viewer("/comber.trust.v1.TrustService/GetRepository"),
    row(
        "/grpc.health.v1.Health/Check",
        Needs::Nothing,
        Reaches::Nothing,
    ),
    row(
        "/grpc.health.v1.Health/List",
        Needs::Nothing,
        Reaches::Nothing,
    ),
    row(
        "/grpc.health.v1.Health/Watch",
        Needs::Nothing,
        Reaches::Nothing,
    ),
    viewer("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"),
    viewer("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"),
];
