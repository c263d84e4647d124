//! A fleet, a controller's snapshot and a clock: plans, checks every plan, and takes it in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use comber_model::calendar::{Freeze, FreezeTime, ZoneChoice};
use comber_model::disruption::{DisruptionBudget, Lock};
use comber_model::event::Event;
use comber_model::release::{Manifest, Release};
use comber_model::rollout::{Member, Rollout, RolloutSpec, RolloutState, SourceKind, Verdict};
use comber_model::{Artifact, Digest, Facts, Host, HostId, Labels, Link, ReleaseId, RolloutId};
use comber_planner::{
    Command, HostView, Plan, PlanInput, PlanReport, RolloutView, answer, asked, check, command,
    fence, lock_hold, plan,
};
use jiff::Timestamp;

use crate::fleet::{Agent, End};

pub(crate) struct World {
    pub(crate) input: PlanInput,
    pub(crate) agents: BTreeMap<HostId, Agent>,
    pub(crate) now: Timestamp,
    pub(crate) start: Timestamp,
    /// Everything that happened.
    pub(crate) events: Vec<Event>,
    pub(crate) last_report: PlanReport,
    pub(crate) next_wake: Option<Timestamp>,
    /// Looks at every plan before it is taken in.
    pub(crate) hook: fn(&Self, &Plan),
    /// Aborted rollouts whose fence has closed.
    pub(crate) fenced: BTreeSet<RolloutId>,
    /// Every activation so far: who, for whom, whether it goes back, when.
    pub(crate) activations: Vec<(HostId, RolloutId, bool, Timestamp)>,
    /// Whether hosts hear of a new desired state at once.
    pub(crate) delivers: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        let start: Timestamp = "2026-11-24T00:00:00Z".parse().unwrap();
        let sources = [
            ("metrics", SourceKind::Prometheus),
            ("approver", SourceKind::Webhook),
        ];
        let sources = sources.map(|(name, kind)| (name.parse().unwrap(), kind));
        Self {
            input: PlanInput {
                sources: sources.into(),
                ..PlanInput::default()
            },
            agents: BTreeMap::new(),
            now: start,
            start,
            events: Vec::new(),
            last_report: PlanReport::default(),
            next_wake: None,
            hook: |_, _| {},
            fenced: BTreeSet::new(),
            activations: Vec::new(),
            delivers: true,
        }
    }

    pub(crate) fn enrol(&mut self, name: &str, labels: &[(&str, &str)]) -> HostId {
        let id: HostId = name.parse().unwrap();
        let mut facts = Facts::default();
        for (key, value) in labels {
            match *key {
                "facts.kernel" => (*value).clone_into(&mut facts.kernel),
                "facts.arch" => (*value).clone_into(&mut facts.arch),
                "facts.os" => (*value).clone_into(&mut facts.os.id),
                _ => {}
            }
        }
        let labels = labels
            .iter()
            .filter(|(key, _)| !key.starts_with("facts."))
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let host = Host {
            id: id.clone(),
            labels: Labels::default().edited(labels, []).unwrap(),
            facts,
            packages: None,
            enrolled_at: self.now,
            retired_at: None,
            certificate: Digest([0; 32]),
            certificates_since: self.now,
            barred: None,
            issued: Vec::new(),
        };
        let agent = Agent::new(self.now);
        let mut view = HostView::new(host, Link::Up { since: self.now });
        view.status = Some(agent.status.clone());
        self.input.hosts.insert(id.clone(), view);
        self.input.changed.insert(id.clone());
        self.agents.insert(id.clone(), agent);
        id
    }

    pub(crate) fn publish(&mut self, id: &str, extra: &str) -> ReleaseId {
        let id: ReleaseId = id.parse().unwrap();
        let source = format!(
            "name = \"{}\"\nversion = \"{}\"\n{extra}\n[installer]\ntype = \"archive\"\npath = \"/opt/x\"\n",
            id.name, id.version
        );
        let manifest = Manifest::parse(&source).unwrap();
        let release = Release {
            manifest,
            artifact: Artifact {
                digest: digest(&id),
                length: 10,
                carried_length: 5,
            },
            published_at: self.now,
            published_by: "anna".to_owned(),
        };
        self.input.releases.insert(id.clone(), Arc::new(release));
        id
    }

    pub(crate) fn install(&mut self, host: &HostId, release: &ReleaseId) {
        let agent = self.agents.get_mut(host).unwrap();
        agent.install(release, digest(release));
        self.say(host);
    }

    pub(crate) fn create(&mut self, source: &str) -> RolloutId {
        let spec = RolloutSpec::parse(source).unwrap();
        let id = RolloutId(u32::try_from(self.input.rollouts.len()).unwrap() + 1);
        self.input
            .put_rollout(Rollout::draft(id, Arc::new(spec), "anna", self.now));
        id
    }

    pub(crate) fn command(&mut self, id: RolloutId, what: Command) -> Result<(), String> {
        let effect = command(&self.input, id, what, "anna", self.now).map_err(|e| e.to_string())?;
        self.input.put_rollout(effect.rollout);
        self.events.extend(effect.events);
        self.plan();
        Ok(())
    }

    /// A source answers a question; false where nobody waits for it.
    pub(crate) fn answer(
        &mut self,
        id: RolloutId,
        (wave, question): (u16, u16),
        (verdict, reason): (Verdict, &str),
    ) -> bool {
        let mut waiting = asked(&self.input, self.now).into_iter();
        let waiting = waiting.find(|asked| {
            (asked.id.rollout, asked.id.wave, asked.id.question) == (id, wave, question)
        });
        let effect =
            waiting.and_then(|asked| answer(&self.input, &asked.id, (verdict, reason), self.now));
        let Some(effect) = effect else {
            return false;
        };
        self.input.put_rollout(effect.rollout);
        self.events.extend(effect.events);
        self.plan();
        true
    }

    /// Plans, proves the plan, takes it in, and tells the hosts.
    #[track_caller]
    pub(crate) fn plan(&mut self) {
        for _ in 0..8 {
            let (made, report) = plan(&self.input, self.now);
            let findings = check(&self.input, &made, self.now);
            assert!(findings.is_empty(), "{findings:#?}\nin {made:#?}");
            self.last_report = report;
            self.next_wake = made.next_wake;
            let is_empty = made.is_empty();
            self.take_in(&made);
            if is_empty || !self.delivers {
                return;
            }
            let told: Vec<HostId> = made.desired.iter().map(|(host, _)| host.clone()).collect();
            for host in &told {
                self.deliver(host);
            }
        }
    }

    fn take_in(&mut self, made: &Plan) {
        (self.hook)(self, made);
        self.input.apply(made);
        self.events.extend(made.events.iter().cloned());
        for (id, view) in &self.input.rollouts {
            let closed = fence(&self.input, *id, self.now).is_closed();
            if view.rollout.state == RolloutState::Aborted && closed {
                self.fenced.insert(*id);
            }
        }
    }

    pub(crate) fn is_up(&self, host: &HostId) -> bool {
        self.input.hosts[host].link.is_up()
    }

    /// The host hears its desired state, where it is connected, and says where it stands.
    pub(crate) fn deliver(&mut self, host: &HostId) {
        let view = &self.input.hosts[host];
        if view.link.is_up() {
            let desired = view.desired.clone();
            self.agents.get_mut(host).unwrap().hear(&desired, self.now);
            self.say(host);
        }
    }

    /// The controller hears the host's state, where it is connected.
    fn say(&mut self, host: &HostId) {
        let status = self.agents[host].status.clone();
        let mut view = self.input.hosts.get_mut(host).unwrap();
        if view.link.is_up() {
            view.status = Some(status);
        }
    }

    pub(crate) fn ask(&mut self, host: &HostId) -> bool {
        let done = self.agents.get_mut(host).unwrap().ask(self.now);
        self.say(host);
        done
    }

    pub(crate) fn activate(&mut self, host: &HostId) -> bool {
        let is_up = self.is_up(host);
        let agent = self.agents.get_mut(host).unwrap();
        let done = agent.activate(is_up, self.now);
        let forward = agent.works_for().filter(|_| done);
        if let Some(attempt) = agent.status.attempt.as_ref().filter(|_| done) {
            let goes_back = forward != Some(attempt.rollout);
            self.activations
                .push((host.clone(), attempt.rollout, goes_back, self.now));
        }
        assert!(
            !forward.is_some_and(|id| self.fenced.contains(&id)),
            "{host} activates after the fence has closed"
        );
        self.say(host);
        done
    }

    pub(crate) fn end(&mut self, host: &HostId, end: &End) -> bool {
        let done = self.agents.get_mut(host).unwrap().end(end, self.now);
        self.say(host);
        done
    }

    pub(crate) fn set_link(&mut self, host: &HostId, is_up: bool) {
        let since = self.now;
        let mut view = self.input.hosts.get_mut(host).unwrap();
        if view.link.is_up() == is_up {
            return;
        }
        view.link = if is_up {
            Link::Up { since }
        } else {
            Link::Down { since }
        };
        drop(view);
        self.deliver(host);
    }

    pub(crate) fn label(&mut self, host: &HostId, key: &str, value: &str) {
        let mut view = self.input.hosts.get_mut(host).unwrap();
        let set = [(key.to_owned(), value.to_owned())];
        view.host.labels = view.host.labels.edited(set, []).unwrap();
        self.input.changed.insert(host.clone());
    }

    /// Adds a freeze, by the clock of each host.
    pub(crate) fn freeze(&mut self, name: &str, when: &str) {
        let freeze = Freeze {
            name: name.parse().unwrap(),
            reason: "a test".to_owned(),
            zone: ZoneChoice::Host,
            times: vec![FreezeTime {
                when: when.parse().unwrap(),
                title: None,
            }],
            author: "anna".to_owned(),
            created_at: self.now,
        };
        freeze.check().unwrap();
        self.input.freezes.insert(freeze.name.clone(), freeze);
    }

    pub(crate) fn thaw(&mut self, name: &str) {
        self.input.freezes.remove(&name.parse().unwrap());
    }

    /// Sets a budget; `more` as a scenario says it.
    pub(crate) fn budget(&mut self, name: &str, max: &str, more: &[&str]) {
        let by = more.iter().position(|word| *word == "by");
        let max: comber_model::Amount = match max.parse::<u32>() {
            Ok(count) => comber_model::Amount::Count(count),
            Err(_) => comber_model::Amount::Percent(max.parse().unwrap()),
        };
        let budget = DisruptionBudget {
            name: name.parse().unwrap(),
            by: by.map(|at| more[at + 1].parse().unwrap()),
            max,
            selector: None,
            fleet_lock: more.contains(&"fleet-lock"),
            reason: "a test".to_owned(),
            author: "anna".to_owned(),
            set_at: self.now,
        };
        budget.check().unwrap();
        self.input.hosts.put_budget(budget);
    }

    /// A host without agent asks for a lock.
    pub(crate) fn lock(&mut self, id: &str, group: &str) -> Result<(), comber_model::Hold> {
        let lock = Lock {
            id: id.parse().unwrap(),
            group: group.parse().unwrap(),
            since: self.now,
        };
        if let Some(hold) = lock_hold(&self.input, &lock.id, &lock.group, self.now) {
            return Err(hold);
        }
        self.input.hosts.put_lock(lock);
        Ok(())
    }

    pub(crate) fn retire(&mut self, host: &HostId) {
        let since = self.now;
        let mut view = self.input.hosts.get_mut(host).unwrap();
        view.host.retired_at = Some(since);
        view.link = Link::Down { since };
        self.input.changed.insert(host.clone());
    }

    /// The controller starts again: links are down, views are derived anew, every host is matched again.
    pub(crate) fn restart(&mut self) {
        let since = self.now;
        self.input
            .hosts
            .for_each_mut(|view| view.link = Link::Down { since });
        let rollouts = std::mem::take(&mut self.input.rollouts);
        self.input.rollouts = rollouts
            .into_iter()
            .map(|(id, view)| (id, RolloutView::new(view.rollout, view.members)))
            .collect();
        self.input.changed = self.input.hosts.keys().cloned().collect();
    }

    /// Lets time pass, planning whenever the planner asked to be woken.
    pub(crate) fn advance(&mut self, duration: Duration) {
        let until = self.now.checked_add(duration).unwrap();
        let mut wakes = 0;
        while let Some(wake) = self.next_wake.filter(|wake| *wake <= until) {
            self.now = self.now.max(wake);
            self.plan();
            wakes += 1;
            assert!(wakes < 10_000, "the planner asks to be woken for ever");
        }
        self.now = until;
        self.plan();
    }

    pub(crate) fn view(&self, id: RolloutId) -> &RolloutView {
        &self.input.rollouts[&id]
    }

    pub(crate) fn member(&self, id: RolloutId, host: &HostId) -> &Member {
        &self.view(id).members[host]
    }

    /// Hosts of a wave in their order.
    pub(crate) fn wave(&self, id: RolloutId, wave: u16) -> Vec<HostId> {
        let mut members: Vec<&Member> = self
            .view(id)
            .members
            .values()
            .filter(|m| m.wave == wave)
            .collect();
        members.sort_by_key(|m| m.order);
        members.into_iter().map(|m| m.host.clone()).collect()
    }

    /// The host goes through its whole attempt.
    pub(crate) fn run(&mut self, host: &HostId, end: &End) -> bool {
        self.ask(host);
        self.plan();
        let began = self.activate(host);
        self.plan();
        let ended = began && self.end(host, end);
        self.plan();
        ended
    }
}

fn digest(id: &ReleaseId) -> Digest {
    let text = id.to_string();
    let mut bytes = [0; 32];
    for (index, byte) in text.bytes().enumerate() {
        bytes[index % 32] ^= byte;
    }
    Digest(bytes)
}
