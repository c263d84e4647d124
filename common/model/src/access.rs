//! Operators: who drives the controller, in which roles, and over which hosts.
//!
//! Pure. An operator is one person or program under one name, however many certificates and tokens prove it to be that
//! one. Invariant: a role is held by [`Grants::over`] alone, so what includes what is said in one place: every role
//! includes viewer, and admin, which has no scope, includes all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Digest, Invalid};

/// Most groups of one operator.
const GROUPS_MAX: usize = 16;
/// Most tokens of one operator that are kept, revoked ones that have not expired among them.
pub const OPERATOR_TOKENS_MAX: usize = 50;
/// Longest name of a group or of a token.
const NAME_MAX: usize = 64;

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// See everything, change nothing.
    Viewer,
    /// Label and retire hosts, and run rollouts.
    Operator,
    /// Approve and reject what others want.
    Approver,
    /// Publish and delete releases.
    Publisher,
    /// All of it, and operators and approval rules themselves.
    Admin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [
        Self::Viewer,
        Self::Operator,
        Self::Approver,
        Self::Publisher,
        Self::Admin,
    ];

    /// The word used in files, on the wire and in the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Publisher => "publisher",
            Self::Admin => "admin",
        }
    }

    /// True where it can be held over some hosts only. Releases and operators belong to the whole fleet, and reading is
    /// not divided.
    fn takes_scope(self) -> bool {
        matches!(self, Self::Operator | Self::Approver)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Role {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let role = Self::ALL.into_iter().find(|role| role.as_str() == text);
        role.ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            Invalid::new("role", format!("{text:?} is none of {words}"))
        })
    }
}

/// Over which hosts a role is held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Option<String>", from = "Option<String>")]
pub enum Scope {
    /// All of them, and what belongs to the whole fleet.
    #[default]
    Fleet,
    /// Those that this selector selects, now and later.
    Hosts(String),
}

impl Scope {
    /// The selector; none for the whole fleet.
    pub fn selector(&self) -> Option<&str> {
        match self {
            Self::Fleet => None,
            Self::Hosts(selector) => Some(selector),
        }
    }
}

impl From<Option<String>> for Scope {
    fn from(selector: Option<String>) -> Self {
        selector.map_or(Self::Fleet, Self::Hosts)
    }
}

impl From<Scope> for Option<String> {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::Fleet => None,
            Scope::Hosts(selector) => Some(selector),
        }
    }
}

/// The roles of an operator, each with its scope.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants(BTreeMap<Role, Scope>);

impl Grants {
    /// Everything.
    pub fn admin() -> Self {
        Self([(Role::Admin, Scope::Fleet)].into())
    }

    /// Checks roles with their scopes; every problem is told.
    pub fn new(grants: impl IntoIterator<Item = (Role, Scope)>) -> Result<Self, Vec<Invalid>> {
        let mut problems = Vec::new();
        let mut roles = BTreeMap::new();
        for (role, scope) in grants {
            if let Some(selector) = scope.selector() {
                if role.takes_scope() {
                    check_scope(role, selector, &mut problems);
                } else {
                    let problem = "holds for the whole fleet and takes no selector";
                    problems.push(Invalid::new(format!("role.{role}"), problem));
                }
            }
            if roles.insert(role, scope).is_some() {
                let problem = "is given twice; join the selectors with ||";
                problems.push(Invalid::new(format!("role.{role}"), problem));
            }
        }
        if roles.is_empty() {
            problems.push(Invalid::new("role", "is missing; viewer is the least"));
        }
        if problems.is_empty() {
            Ok(Self(roles))
        } else {
            Err(problems)
        }
    }

    /// Over which hosts this role is held; nothing where it is not.
    pub fn over(&self, role: Role) -> Option<&Scope> {
        let admin = self.0.get(&Role::Admin);
        let any = self.0.values().next().filter(|_| role == Role::Viewer);
        // What an admin holds, and what everybody may see, has no scope.
        let whole = admin.or(any).map(|_| &Scope::Fleet);
        whole.or_else(|| self.0.get(&role))
    }

    /// The roles as they were given.
    pub fn iter(&self) -> impl Iterator<Item = (Role, &Scope)> {
        self.0.iter().map(|(role, scope)| (*role, scope))
    }
}

/// In words, for example `viewer, operator of labels.team == "web"`.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (role, scope)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{role}")?;
            if let Some(selector) = scope.selector() {
                write!(f, " of {selector}")?;
            }
        }
        Ok(())
    }
}

/// An operator as the controller keeps it. One that was revoked stays, so that its name tells who it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// Its name, as certificates, events and the audit log say it.
    pub name: String,
    /// What it may do.
    pub grants: Grants,
    /// What approvals call it, beside its roles: `ops-lead`.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// From then on it may do nothing; absent means never.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Since when it may do nothing.
    #[serde(default)]
    pub revoked_at: Option<Timestamp>,
    /// Certificates that began before prove nothing. An operator that was revoked and is made again has the end of time
    /// here until it enrols.
    pub certificates_since: Timestamp,
    /// Its tokens.
    #[serde(default)]
    pub tokens: Vec<OperatorToken>,
}

/// A token that proves an operator, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorToken {
    /// The sha256 of its secret.
    pub hash: Digest,
    /// What it is for, for people.
    pub purpose: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// From then on it proves nothing.
    pub expires_at: Timestamp,
    /// Since when it proves nothing.
    #[serde(default)]
    pub revoked_at: Option<Timestamp>,
}

impl OperatorToken {
    /// Names it in lists and revocation: the first 12 digits of its hash.
    pub fn id(&self) -> String {
        self.hash.short()
    }

    /// Why it proves nothing now, for people; nothing where it does.
    pub fn refusal(&self, now: Timestamp) -> Option<String> {
        let id = self.id();
        match self.revoked_at {
            Some(at) => Some(format!("the token {id} was revoked at {at}")),
            None if now >= self.expires_at => {
                Some(format!("the token {id} ended at {}", self.expires_at))
            }
            None => None,
        }
    }
}

impl Operator {
    /// Why it may do nothing now, for people; nothing where it may.
    pub fn refusal(&self, now: Timestamp) -> Option<String> {
        let name = &self.name;
        let expired = self.expires_at.filter(|end| now >= *end);
        match (self.revoked_at, expired) {
            (Some(at), _) => Some(format!("operator {name} was revoked at {at}")),
            (None, Some(end)) => Some(format!("operator {name} ended at {end}")),
            (None, None) => None,
        }
    }

    /// What is wrong with its groups.
    pub fn group_problems(&self) -> Vec<Invalid> {
        let mut problems = Vec::new();
        if self.groups.len() > GROUPS_MAX {
            let problem = format!("has more than {GROUPS_MAX} entries");
            problems.push(Invalid::new("group", problem));
        }
        problems.extend(
            self.groups
                .iter()
                .filter_map(|name| check_group(name).err()),
        );
        problems
    }
}

/// A group's name: what approvals ask for beside roles and persons.
pub fn check_group(name: &str) -> Result<(), Invalid> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let fits = (1..=NAME_MAX).contains(&name.len()) && name.chars().all(allowed);
    let is_role = Role::ALL.iter().any(|role| role.as_str() == name);
    match (fits, is_role) {
        (true, false) => Ok(()),
        (true, true) => Err(Invalid::new(
            "group",
            format!("{name:?} is a role and cannot name a group"),
        )),
        (false, _) => Err(Invalid::new(
            "group",
            format!("{name:?} must be 1 to {NAME_MAX} letters, digits, '-', '_' and '.'"),
        )),
    }
}

/// What a token is for: one line.
pub fn check_purpose(text: &str) -> Result<(), Invalid> {
    if text.len() > NAME_MAX || text.chars().any(char::is_control) {
        let problem = format!("must be at most {NAME_MAX} bytes without control characters");
        return Err(Invalid::new("purpose", problem));
    }
    Ok(())
}

#[cfg(feature = "selector")]
fn check_scope(role: Role, source: &str, problems: &mut Vec<Invalid>) {
    let field = format!("role.{role}");
    match crate::selector::Selector::parse(source) {
        // Packages of a host are at hand only for rollouts that ask for them, and a scope must always be judged.
        Ok(selector) if !selector.packages().is_empty() => problems.push(Invalid::new(
            field,
            "asks for packages; a scope can be over labels, the host's name and other facts",
        )),
        Ok(_) => {}
        Err(error) => problems.push(error.within(&field)),
    }
}

/// Without selectors compiled in nothing is granted; the controller checks.
#[cfg(not(feature = "selector"))]
fn check_scope(_role: Role, _source: &str, _problems: &mut Vec<Invalid>) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn web() -> Scope {
        Scope::Hosts("labels.team == \"web\"".to_owned())
    }

    #[test]
    fn an_admin_may_all_and_everybody_may_see() {
        let admin = Grants::admin();
        for role in Role::ALL {
            assert_eq!(admin.over(role), Some(&Scope::Fleet), "{role}");
        }
        let operator = Grants::new([(Role::Operator, web())]).unwrap();
        assert_eq!(operator.over(Role::Operator), Some(&web()));
        assert_eq!(operator.over(Role::Viewer), Some(&Scope::Fleet));
        for role in [Role::Approver, Role::Publisher, Role::Admin] {
            assert_eq!(operator.over(role), None, "{role}");
        }
        assert_eq!(operator.to_string(), "operator of labels.team == \"web\"");
    }

    #[test]
    fn a_role_of_the_whole_fleet_takes_no_scope() {
        for role in [Role::Viewer, Role::Publisher, Role::Admin] {
            let problems = Grants::new([(role, web())]).unwrap_err();
            assert!(
                problems[0].to_string().contains("whole fleet"),
                "{problems:?}"
            );
        }
        assert!(Grants::new([]).is_err());
        let twice = [(Role::Operator, web()), (Role::Operator, Scope::Fleet)];
        assert!(Grants::new(twice).is_err());
    }

    #[cfg(feature = "selector")]
    #[test]
    fn a_scope_is_a_selector_without_packages() {
        for (source, problem) in [
            ("labels.", "role.operator"),
            ("facts.packages[\"bash\"] == \"1\"", "packages"),
        ] {
            let scope = Scope::Hosts(source.to_owned());
            let problems = Grants::new([(Role::Operator, scope)]).unwrap_err();
            assert!(problems[0].to_string().contains(problem), "{problems:?}");
        }
    }

    #[test]
    fn names_of_groups_are_no_roles() {
        assert!(check_group("ops-lead").is_ok());
        for wrong in ["approver", "", "a b", "@anna"] {
            assert!(check_group(wrong).is_err(), "{wrong}");
        }
    }
}
