//! Differences against a real store, through a real core.

use std::sync::Arc;

use comber_model::rollout::RolloutSpec;
use comber_model::selector::{Selector, Subject};

use super::*;
use crate::core::tests::{Fixture, host, release};

fn list(purls: &[&str]) -> PackageList {
    PackageList::new(purls.iter().map(|purl| purl.parse().unwrap())).unwrap()
}

fn report(base: Option<&PackageList>, result: &PackageList) -> PackageReport {
    let nothing = PackageList::default();
    PackageReport {
        base: base.map(digest),
        result: digest(result),
        difference: result.difference(base.unwrap_or(&nothing)),
    }
}

const BASH: &str = "pkg:deb/debian/bash@5.2-1?arch=amd64";
const OLD: &str = "pkg:deb/debian/openssl@3.0.11-1?arch=amd64";
const NEW: &str = "pkg:deb/debian/openssl@3.0.15-1?arch=amd64";

#[track_caller]
fn holds(answer: Option<PackageSummary>, list: &PackageList) {
    let summary = answer.expect("no list is held");
    assert_eq!(summary.digest, digest(list));
    assert_eq!(summary.count as usize, list.count());
}

impl Fixture {
    async fn selects(&self, source: &str, name: &str) -> bool {
        let selector = Selector::parse(source).unwrap();
        let world = self.core.read().await;
        let view = &world.input.hosts[&host(name)];
        selector.selects(&Subject::new(&view.host, &view.versions))
    }

    async fn ask(&self, names: &[&str]) {
        let names = names.iter().map(|name| (*name).into()).collect();
        self.core.ask_packages(names).await.unwrap();
    }
}

#[tokio::test]
async fn a_list_and_a_difference_are_durable_when_they_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    let web = host("web-1");
    let (old, new) = (list(&[BASH, OLD]), list(&[BASH, NEW]));
    let answer = fixture.core.report_packages(&web, report(None, &old)).await;
    holds(answer.unwrap(), &old);
    let answer = fixture
        .core
        .report_packages(&web, report(Some(&old), &new))
        .await;
    holds(answer.unwrap(), &new);
    fixture.stop().await;

    let fixture = Fixture::open(dir.path());
    let (summary, stored) = fixture.core.packages(&web).await.unwrap().unwrap();
    holds(Some(summary), &new);
    assert_eq!(stored, new);
}

#[tokio::test]
async fn an_unknown_base_changes_nothing_and_a_repeated_report_neither() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    let web = host("web-1");
    let (old, new) = (list(&[BASH, OLD]), list(&[BASH, NEW]));
    let answer = fixture
        .core
        .report_packages(&web, report(Some(&old), &new))
        .await;
    assert_eq!(answer.unwrap(), None, "a difference against nothing");
    let answer = fixture.core.report_packages(&web, report(None, &new)).await;
    holds(answer.unwrap(), &new);
    let revision = fixture.store.revision();
    let again = fixture
        .core
        .report_packages(&web, report(Some(&old), &new))
        .await;
    holds(again.unwrap(), &new);
    let other = fixture
        .core
        .report_packages(&web, report(Some(&old), &list(&[])))
        .await;
    holds(other.unwrap(), &new);
    assert_eq!(fixture.store.revision(), revision, "something was written");
}

#[tokio::test]
async fn a_false_digest_and_a_false_purl_are_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    let web = host("web-1");
    let mut lie = report(None, &list(&[BASH]));
    lie.result = Digest([7; 32]);
    let error = fixture.core.report_packages(&web, lie).await.unwrap_err();
    assert!(error.to_string().contains("change.result"), "{error}");
    let mut rubbish = report(None, &list(&[BASH]));
    rubbish.difference.added.push("pkg:deb/../etc@1".to_owned());
    let error = fixture
        .core
        .report_packages(&web, rubbish)
        .await
        .unwrap_err();
    assert!(matches!(error, CoreError::Invalid(_)), "{error}");
    assert!(fixture.core.packages(&web).await.unwrap().is_none());
}

#[tokio::test]
async fn names_that_fall_into_one_part_are_refused_and_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    let crowded = (0..).map(|n| format!("p{n}-{}", "x".repeat(200)));
    let in_part = crowded.filter(|name| super::super::records::package_part(name) == 3);
    let purls: Vec<String> = in_part
        .take(400)
        .map(|name| format!("pkg:deb/debian/{name}@1"))
        .collect();
    let purls: Vec<&str> = purls.iter().map(String::as_str).collect();
    let crowd = report(None, &list(&purls));
    let error = fixture
        .core
        .report_packages(&host("web-1"), crowd)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("one part"), "{error}");
}

#[tokio::test]
async fn selectors_see_packages_before_and_after_they_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    fixture.enrol("web-2").await.unwrap();
    let (old, new) = (list(&[BASH, OLD]), list(&[BASH, NEW]));
    let web = host("web-1");
    fixture
        .core
        .report_packages(&web, report(None, &old))
        .await
        .unwrap();
    let vulnerable = r#"facts.packages["openssl"] == "3.0.11-1""#;
    fixture.ask(&["openssl", "nginx"]).await;
    assert!(fixture.selects(vulnerable, "web-1").await);
    assert!(!fixture.selects(vulnerable, "web-2").await);
    fixture
        .core
        .report_packages(&web, report(Some(&old), &new))
        .await
        .unwrap();
    assert!(!fixture.selects(vulnerable, "web-1").await);
    assert!(
        fixture
            .selects(r#""openssl" in facts.packages"#, "web-1")
            .await
    );
    assert!(fixture.selects("facts.package_count == 2", "web-1").await);
    let world = fixture.core.read().await;
    let versions = world.input.hosts[&web].versions.iter().count();
    assert_eq!(versions, 1, "only what is asked for is in memory");
}

#[tokio::test]
async fn what_rollouts_ask_for_is_at_hand_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    let old = list(&[BASH, OLD]);
    fixture
        .core
        .report_packages(&host("web-1"), report(None, &old))
        .await
        .unwrap();
    fixture.list().await;
    fixture
        .core
        .publish_release(release("webapp@1", 1))
        .await
        .unwrap();
    let source = "release = \"webapp@1\"\nselector = '\"openssl\" in facts.packages'\n[[wave]]\n\
                  hosts = { selector = '\"bash\" in facts.packages' }\n[[wave]]\nhosts = \"rest\"";
    let spec = RolloutSpec::parse(source).unwrap();
    fixture.core.create_rollout(spec, "ada").await.unwrap();
    fixture.stop().await;
    let fixture = Fixture::open(dir.path());
    let world = fixture.core.read().await;
    let versions = &world.input.hosts[&host("web-1")].versions;
    let told: Vec<(&str, &str)> = versions.iter().collect();
    assert_eq!(told, [("bash", "5.2-1"), ("openssl", "3.0.11-1")]);
}

#[tokio::test]
async fn a_retired_host_leaves_no_packages_behind() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    let web = host("web-1");
    fixture
        .core
        .report_packages(&web, report(None, &list(&[BASH])))
        .await
        .unwrap();
    fixture.ask(&["bash"]).await;
    fixture.core.retire_host(&web, "ada").await.unwrap();
    assert!(fixture.core.packages(&web).await.unwrap().is_none());
    assert!(
        !fixture
            .selects(r#""bash" in facts.packages"#, "web-1")
            .await
    );
    let left = fixture.store.range(b"/v1/p/", None, 10).unwrap();
    assert!(left.items.is_empty(), "{left:?}");
}

#[tokio::test]
async fn questions_of_the_past_do_not_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(dir.path());
    fixture.enrol("web-1").await.unwrap();
    fixture
        .core
        .report_packages(&host("web-1"), report(None, &list(&[BASH])))
        .await
        .unwrap();
    fixture.ask(&["bash"]).await;
    for n in 0..300 {
        let names = [Arc::<str>::from(format!("p{n}"))].into();
        fixture.core.ask_packages(names).await.unwrap();
    }
    let none = fixture.core.read().await.input.hosts[&host("web-1")]
        .versions
        .iter()
        .count();
    assert_eq!(none, 0, "what nobody asks for any more is forgotten");
    fixture.ask(&["bash"]).await;
    assert!(
        fixture
            .selects(r#""bash" in facts.packages"#, "web-1")
            .await
    );
}
