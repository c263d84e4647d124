//! The language of scenarios: what operators and hosts do, and what the planner makes of it.
//!
//! Commands, one a line (HOSTS is a name, `all`, `r1/2` for a wave or `r1/2#3` for the third host of it):
//!
//! ```text
//! hosts 10 web role=web        enrol web-01 .. web-10
//! release app@1 [<<toml]       publish; the lines up to `toml` are added to its manifest
//! installed HOSTS app@1        they have it from before
//! rollout <<toml               create; start r1, pause r1, resume r1, abort r1, rollback r1
//! host HOSTS VERB              asks, activates, commits, succeeds, fails CLASS TEXT, breaks CLASS TEXT,
//!                              finds it not applicable TEXT, goes silent, returns, is retired, label k=v
//! freeze NAME WHEN             nothing moves then, by each host's clock; thaw NAME takes it away
//! answer r1/2 VERDICT TEXT     a source answers the first question of wave 2 that waits (r1/2#2: the second question)
//! budget NAME 1|10% [by labels.rack] [fleet-lock]   at most so many down at once; unbudget NAME takes it away
//! lock ID GROUP                a host without agent asks for a lock; unlock ID gives it back
//! budgets                      every domain of every budget
//! deliver off                  hosts hear nothing new until `deliver on`
//! at +5m | restart             time passes; the controller starts again
//! coverage r1, show r1, why host NAME, why r1, outcomes r1, preview r1, fence r1, desired NAME, wake
//! ```
//!
//! Every command is followed by a plan. What happened is printed with the time since the start.

use std::fmt::Write as _;

use comber_model::event::EventKind;
use comber_model::rollout::{Outcomes, Verdict};
use comber_model::{FailureClass, HostId, RolloutId, duration};
use comber_planner::{
    Command, budget_domains, explain_host, explain_rollout, exposure, fence, held_too_late,
    preview_as,
};

use crate::fleet::End;
use crate::world::World;

fn verdict(word: &str) -> Verdict {
    match word {
        "pass" => Verdict::Pass,
        "fail" => Verdict::Fail,
        "inconclusive" => Verdict::Inconclusive,
        _ => panic!("unknown verdict {word:?}"),
    }
}

pub(crate) struct Script {
    world: World,
    printed: usize,
}

impl Script {
    pub(crate) fn new() -> Self {
        Self {
            world: World::new(),
            printed: 0,
        }
    }

    /// Runs the commands of one block; what is printed ends where the block ends.
    pub(crate) fn run(&mut self, lines: &[String]) -> String {
        let mut out = String::new();
        let mut lines = lines.iter();
        while let Some(line) = lines.next() {
            let (line, document) = match line.strip_suffix(" <<toml") {
                None => (line.as_str(), String::new()),
                Some(line) => {
                    let document = lines.by_ref().take_while(|line| *line != "toml");
                    (
                        line,
                        document.fold(String::new(), |text, line| text + line + "\n"),
                    )
                }
            };
            let words: Vec<&str> = line.split_whitespace().collect();
            self.command(&words, &document, &mut out);
            self.print_events(&mut out);
        }
        if out.is_empty() {
            "nothing happens\n".to_owned()
        } else {
            out
        }
    }

    fn command(&mut self, words: &[&str], document: &str, out: &mut String) {
        match words {
            ["hosts", number, prefix, labels @ ..] => self.enrol(number, prefix, labels),
            ["release", id] => {
                self.world.publish(id, document);
            }
            ["installed", hosts, release] => {
                for host in self.hosts(hosts) {
                    self.world.install(&host, &release.parse().unwrap());
                }
            }
            ["rollout"] => {
                self.world.create(document);
            }
            ["start" | "pause" | "resume" | "abort" | "rollback", id] => {
                if let Err(refused) = self.world.command(id.parse().unwrap(), verb(words[0])) {
                    let _ = writeln!(out, "refused: {refused}");
                }
            }
            ["host", hosts, action @ ..] => {
                for host in self.hosts(hosts) {
                    self.host(&host, action, out);
                }
            }
            ["deliver", word] => {
                self.world.delivers = *word == "on";
                if self.world.delivers {
                    let hosts = self.hosts("all");
                    for host in &hosts {
                        self.world.deliver(host);
                    }
                    self.world.plan();
                }
            }
            ["at", time] => {
                let time = duration::parse(time.strip_prefix('+').unwrap()).unwrap();
                self.world.advance(time);
            }
            ["answer", place, said, text @ ..] => {
                let (id, wave) = place.split_once('/').unwrap();
                let (wave, question) = wave.split_once('#').unwrap_or((wave, "1"));
                let index = |text: &str| text.parse::<u16>().unwrap() - 1;
                let place = (index(wave), index(question));
                let text = text.join(" ");
                let answer = (verdict(said), text.as_str());
                if !self.world.answer(id.parse().unwrap(), place, answer) {
                    let _ = writeln!(out, "nobody waits for that answer");
                }
            }
            ["freeze", name, when @ ..] => {
                self.world.freeze(name, &when.join(" "));
                self.world.plan();
                let fence = held_too_late(&self.world.input, self.world.now);
                if let Some(until) = fence.until {
                    let hosts: Vec<&str> = fence.open.iter().map(HostId::as_str).collect();
                    let hosts = hosts.join(" ");
                    let _ = writeln!(out, "too late for: {hosts}; until {}", self.time(until));
                }
            }
            ["thaw", name] => {
                self.world.thaw(name);
                self.world.plan();
            }
            ["budget", name, max, more @ ..] => {
                self.world.budget(name, max, more);
                self.world.plan();
            }
            ["unbudget", name] => {
                self.world.input.hosts.remove_budget(&name.parse().unwrap());
                self.world.plan();
            }
            ["lock", id, group] => {
                let _ = match self.world.lock(id, group) {
                    Ok(()) => writeln!(out, "{id} has the lock"),
                    Err(hold) => writeln!(out, "{id} waits: {hold}"),
                };
                self.world.plan();
            }
            ["unlock", id] => {
                self.world.input.hosts.remove_lock(&id.parse().unwrap());
                self.world.plan();
            }
            ["restart"] => {
                self.world.restart();
                self.world.plan();
            }
            _ => self.question(words, out),
        }
    }

    fn question(&self, words: &[&str], out: &mut String) {
        match words {
            ["show", id] => self.show(id.parse().unwrap(), out),
            ["outcomes", id] => {
                let outcomes = self.world.view(id.parse().unwrap()).outcomes();
                let _ = writeln!(out, "{}", told(&outcomes));
            }
            ["why", "host", hosts] => {
                for host in self.hosts(hosts) {
                    self.why_host(&host, out);
                }
            }
            ["why", id] => self.why_rollout(id.parse().unwrap(), out),
            ["coverage", id] => {
                let rollout = &self.world.view(id.parse().unwrap()).rollout;
                let cover = rollout.cover.as_ref().unwrap();
                let _ = writeln!(out, "wave 1 {}", cover.of_first_wave());
            }
            ["preview", id] => self.preview(id.parse().unwrap(), out),
            ["fence", id] => {
                let fence = fence(&self.world.input, id.parse().unwrap(), self.world.now);
                let hosts: Vec<&str> = fence.open.iter().map(HostId::as_str).collect();
                let _ = match fence.until {
                    None => writeln!(out, "the fence is closed"),
                    Some(until) => {
                        writeln!(out, "open: {}; until {}", hosts.join(" "), self.time(until))
                    }
                };
            }
            ["desired", hosts] => {
                for host in self.hosts(hosts) {
                    self.desired(&host, out);
                }
            }
            ["budgets"] => {
                for budget in self.world.input.hosts.budgets() {
                    let name = &budget.name;
                    for domain in budget_domains(&self.world.input, name, self.world.now) {
                        let (down, limit, hosts) = (domain.down, domain.limit, domain.hosts);
                        let who = domain.who.join(", ");
                        let domain = domain.name;
                        let _ = writeln!(
                            out,
                            "{name}, {domain}: {down} of {hosts} down, at most {limit} may be: {who}"
                        );
                    }
                }
            }
            ["wake"] => {
                let wake = self.world.next_wake.map(|wake| self.time(wake));
                let _ = writeln!(out, "{}", wake.unwrap_or_else(|| "never".to_owned()));
            }
            _ => panic!("unknown command {words:?}"),
        }
    }

    fn enrol(&mut self, number: &str, prefix: &str, labels: &[&str]) {
        let labels: Vec<(&str, &str)> = labels
            .iter()
            .map(|label| label.split_once('=').unwrap())
            .collect();
        for index in 1..=number.parse::<u32>().unwrap() {
            self.world.enrol(&format!("{prefix}-{index:02}"), &labels);
        }
        self.world.plan();
    }

    fn hosts(&self, text: &str) -> Vec<HostId> {
        if text == "all" {
            return self.world.input.hosts.keys().cloned().collect();
        }
        let Some((id, wave)) = text.split_once('/') else {
            return vec![text.parse().unwrap()];
        };
        let (wave, place) = wave
            .split_once('#')
            .map_or((wave, None), |(w, p)| (w, Some(p)));
        let hosts = self
            .world
            .wave(id.parse().unwrap(), wave.parse::<u16>().unwrap() - 1);
        match place {
            None => hosts,
            Some(place) => vec![hosts[place.parse::<usize>().unwrap() - 1].clone()],
        }
    }

    fn host(&mut self, host: &HostId, action: &[&str], out: &mut String) {
        let world = &mut self.world;
        let done = match action {
            ["asks"] => world.ask(host),
            ["activates"] => world.activate(host),
            ["commits"] => world.end(host, &End::Commit),
            ["succeeds"] => world.run(host, &End::Commit),
            ["fails", class, text @ ..] => {
                let end = End::Fail(class_of(class), text.join(" "));
                world.end(host, &end)
            }
            ["activates", "and", "fails", class, text @ ..] => {
                let end = End::Fail(class_of(class), text.join(" "));
                world.run(host, &end)
            }
            ["breaks", class, text @ ..] => {
                let end = End::Break(class_of(class), text.join(" "));
                world.end(host, &end)
            }
            ["finds", "it", "not", "applicable", why @ ..] => {
                world.end(host, &End::NotApplicable(why.join(" ")))
            }
            ["goes", "silent"] => {
                world.set_link(host, false);
                true
            }
            ["returns"] => {
                world.set_link(host, true);
                true
            }
            ["is", "retired"] => {
                world.retire(host);
                true
            }
            ["label", label] => {
                let (key, value) = label.split_once('=').unwrap();
                world.label(host, key, value);
                true
            }
            _ => panic!("unknown action {action:?}"),
        };
        if !done {
            let _ = writeln!(
                out,
                "{host} cannot: it is {}",
                self.world.agents[host].status.state
            );
        }
        self.world.plan();
        self.print_events(out);
    }

    fn print_events(&mut self, out: &mut String) {
        for event in &self.world.events[self.printed..] {
            let outcomes = event.outcomes.as_ref().map_or_else(String::new, told);
            let wave = match (event.kind, event.wave) {
                (EventKind::OutcomeChanged, Some(wave)) => format!(" (wave {})", wave + 1),
                _ => String::new(),
            };
            let text = &event.text;
            let _ = writeln!(out, "{}: {text}{wave} [{outcomes}]", self.time(event.at));
        }
        self.printed = self.world.events.len();
    }

    fn time(&self, at: jiff::Timestamp) -> String {
        let since = at.duration_since(self.world.start);
        format!("+{}", duration::format(since.try_into().unwrap()))
    }

    /// Times in a hold's text become times since the start.
    fn words(&self, text: &str) -> String {
        let words = text.split(' ').map(|word| {
            let bare = word.trim_end_matches([';', ',', ':']);
            match bare.parse::<jiff::Timestamp>() {
                Ok(at) => format!("{}{}", self.time(at), &word[bare.len()..]),
                Err(_) => word.to_owned(),
            }
        });
        words.collect::<Vec<_>>().join(" ")
    }

    fn show(&self, id: RolloutId, out: &mut String) {
        let view = self.world.view(id);
        let _ = writeln!(
            out,
            "{id} is {} [{}]",
            view.rollout.state,
            told(&view.outcomes())
        );
        for (index, wave) in view.rollout.waves.iter().enumerate() {
            let name = view.rollout.spec.wave_name(index);
            let open = if wave.opened_at.is_some() {
                "open"
            } else {
                "closed"
            };
            let hosts = self.world.wave(id, u16::try_from(index).unwrap());
            let hosts = hosts.iter().map(|host| {
                let member = self.world.member(id, host);
                let back = member.roll_back.as_ref().map(|back| format!(", {back:?}"));
                format!("{host} {}{}", member.outcome(), back.unwrap_or_default())
            });
            let _ = writeln!(
                out,
                "  {name} ({open}): {}",
                hosts.collect::<Vec<_>>().join("; ")
            );
        }
    }

    fn why_host(&self, host: &HostId, out: &mut String) {
        let explained = explain_host(&self.world.input, host, self.world.now).unwrap();
        for member in explained.rollouts {
            let hold = member
                .hold
                .map_or_else(|| "nothing holds it".to_owned(), |h| h.to_string());
            let hold = self.words(&hold);
            let _ = writeln!(
                out,
                "{host} in {}: {}: {hold}",
                member.rollout, member.outcome
            );
        }
    }

    fn why_rollout(&self, id: RolloutId, out: &mut String) {
        let explained = explain_rollout(&self.world.input, id, self.world.now).unwrap();
        let hold = explained
            .hold
            .map(|hold| format!(": {}", self.words(&hold.to_string())));
        let _ = writeln!(
            out,
            "{id} is {}{}",
            explained.state,
            hold.unwrap_or_default()
        );
        for wave in explained.waves {
            let hold = wave
                .hold
                .map_or_else(|| "open".to_owned(), |hold| hold.to_string());
            let (name, down) = (wave.name, wave.in_flight);
            let _ = writeln!(out, "  {name}: {}; {down} in flight", self.words(&hold));
        }
    }

    fn preview(&self, id: RolloutId, out: &mut String) {
        let spec = &self.world.view(id).rollout.spec;
        match preview_as(&self.world.input, spec, id, self.world.now) {
            Err(problems) => problems.iter().for_each(|problem| {
                let _ = writeln!(out, "refused: {problem}");
            }),
            Ok(preview) => {
                for wave in preview.waves {
                    let hosts: Vec<&str> = wave.hosts.iter().map(HostId::as_str).collect();
                    let (name, max) = (wave.name, wave.max_in_flight);
                    let _ = writeln!(out, "{name}: {} (at once: {max})", hosts.join(" "));
                }
                if let Some(at) = preview.starts_at {
                    let _ = writeln!(out, "starts at {at}");
                }
                for times in preview.times {
                    let spans = times.coming.iter().map(|span| {
                        if span.until == jiff::Timestamp::MAX {
                            format!("from {} on", span.from)
                        } else {
                            format!("{}..{}", span.from, span.until)
                        }
                    });
                    let spans: Vec<String> = spans.collect();
                    let known = if times.is_known { "" } else { " (unknown)" };
                    let (zone, hosts) = (times.zone, times.hosts);
                    let _ = writeln!(out, "{hosts} hosts by {zone}{known}: {}", spans.join(", "));
                }
                for (host, reason) in preview.excluded {
                    let _ = writeln!(out, "excluded: {host}, {reason}");
                }
                let half = exposure(&self.world.input, spec, "50%".parse().unwrap()).unwrap();
                let (all, total) = (preview.exposed, preview.total);
                let _ = writeln!(
                    out,
                    "a release that fails everywhere reaches {all} of {total}"
                );
                let _ = writeln!(out, "one that fails on every second host reaches {half}");
            }
        }
    }

    fn desired(&self, host: &HostId, out: &mut String) {
        let desired = &self.world.input.hosts[host].desired;
        let work = desired.assignment.as_ref().map_or_else(
            || "no work".to_owned(),
            |a| {
                let back = if a.rolls_back { ", back" } else { "" };
                let bad = if a.retry_bad {
                    ", even if locally bad"
                } else {
                    ""
                };
                format!(
                    "{} for {}, try {}{back}{bad}",
                    a.release, a.rollout, a.attempt
                )
            },
        );
        let permit = if desired.grant.is_some() {
            ", may activate"
        } else {
            ""
        };
        let (generation, reports) = (desired.generation, desired.acknowledged);
        let _ = writeln!(
            out,
            "{host}: {work}{permit}; generation {generation}, reports to {reports}"
        );
    }
}

fn verb(word: &str) -> Command {
    match word {
        "start" => Command::Start,
        "pause" => Command::Pause,
        "resume" => Command::Resume,
        "abort" => Command::Abort,
        _ => Command::RollBack,
    }
}

fn class_of(word: &str) -> FailureClass {
    let mut classes = FailureClass::ALL.into_iter();
    classes.find(|class| class.as_str() == word).unwrap()
}

/// Outcomes, short.
fn told(o: &Outcomes) -> String {
    format!(
        "succeeded {} failed {} pending {} unreached {} excluded {} = {}",
        o.succeeded, o.failed, o.pending, o.unreached, o.excluded, o.total
    )
}
