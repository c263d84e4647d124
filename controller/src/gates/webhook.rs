//! A question to a program of one's own. It is told who asks, and answers `{"verdict": "pass", "reason": "…"}`.

use comber_model::rollout::Verdict;
use comber_planner::Asked;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{Source, exchange};

#[derive(Deserialize)]
struct Answer {
    verdict: Verdict,
    #[serde(default)]
    reason: String,
}

/// Asks, and judges.
pub(super) async fn ask(source: &Source, asked: &Asked) -> (Verdict, String) {
    let question = json!({
        "rollout": asked.id.rollout.to_string(),
        "release": asked.release,
        "wave": asked.id.wave + 1,
        "wave_name": asked.wave_name,
        "try": asked.id.number,
        "asked_at": asked.id.asked_at.to_string(),
    });
    let body = question.to_string().into_bytes();
    match exchange::post(source, "", ("application/json", body)).await {
        Ok((status, body)) => judge(status, &body),
        Err(error) => (Verdict::Inconclusive, error.to_string()),
    }
}

fn judge(status: StatusCode, body: &[u8]) -> (Verdict, String) {
    if status != StatusCode::OK {
        return (Verdict::Inconclusive, format!("it answers {status}"));
    }
    match serde_json::from_slice::<Answer>(body) {
        Ok(answer) if answer.reason.is_empty() => (answer.verdict, "it gives no reason".to_owned()),
        Ok(answer) => (answer.verdict, answer.reason),
        Err(_) => {
            let reason = "its answer has no verdict pass, fail or inconclusive";
            (Verdict::Inconclusive, reason.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_verdict_is_one() {
        let ok = |body: &str| judge(StatusCode::OK, body.as_bytes());
        assert_eq!(
            ok(r#"{"verdict":"pass","reason":"all quiet"}"#),
            (Verdict::Pass, "all quiet".to_owned())
        );
        assert_eq!(ok(r#"{"verdict":"fail"}"#).0, Verdict::Fail);
        for body in [
            "",
            "pass",
            r#"{"verdict":"yes"}"#,
            r#"{"verdict":true}"#,
            "[]",
        ] {
            assert_eq!(ok(body).0, Verdict::Inconclusive, "{body}");
        }
        let (verdict, reason) = judge(StatusCode::FOUND, br#"{"verdict":"pass"}"#);
        assert_eq!(verdict, Verdict::Inconclusive);
        assert!(reason.contains("302"), "{reason}");
    }
}
