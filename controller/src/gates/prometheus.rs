//! A query to Prometheus, and what its answer means. Whatever is not exactly one number is inconclusive, and says why.

use comber_model::rollout::{PrometheusQuery, Verdict};
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{Source, exchange};

/// Asks, and judges.
pub(super) async fn ask(source: &Source, query: &PrometheusQuery) -> (Verdict, String) {
    let kind = "application/x-www-form-urlencoded";
    let body = format!("query={}", encode(&query.query)).into_bytes();
    match exchange::post(source, "/api/v1/query", (kind, body)).await {
        Ok((status, body)) => judge(query, status, &body),
        Err(error) => (Verdict::Inconclusive, error.to_string()),
    }
}

/// Every byte but the plainest, as forms are written.
fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            out.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            // Writing to a text cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[derive(Deserialize)]
struct Answer {
    status: String,
    #[serde(default)]
    data: Option<Data>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "resultType")]
    kind: String,
    result: Value,
}

fn judge(query: &PrometheusQuery, status: StatusCode, body: &[u8]) -> (Verdict, String) {
    let unclear = |reason: String| (Verdict::Inconclusive, reason);
    let answer: Answer = match serde_json::from_slice(body) {
        Ok(answer) => answer,
        Err(_) => return unclear(format!("it answers {status}, and not as Prometheus does")),
    };
    if status != StatusCode::OK || answer.status != "success" {
        let error = answer.error.unwrap_or_default();
        return unclear(format!("it answers {status}: {error}"));
    }
    if let Some(warning) = answer.warnings.first() {
        return unclear(format!("it warns, so the number may be partial: {warning}"));
    }
    let Some(data) = answer.data else {
        return unclear("it answers without data".to_owned());
    };
    let text = match (data.kind.as_str(), data.result.as_array()) {
        ("vector", Some(series)) if series.is_empty() => {
            return (query.empty, "the query gave no series".to_owned());
        }
        ("vector", Some(series)) => match series.as_slice() {
            [one] => one.get("value").and_then(|value| value.get(1)),
            more => {
                let count = more.len();
                return unclear(format!(
                    "the query gave {count} series; write an aggregate such as max(…)"
                ));
            }
        },
        ("scalar", Some(pair)) => pair.get(1),
        (kind, _) => {
            return unclear(format!(
                "the query gave a {kind}, which is no single number"
            ));
        }
    };
    let value = text.and_then(Value::as_str);
    match value.and_then(|value| value.parse::<f64>().ok()) {
        Some(value) => decide(query, value),
        None => unclear("its value is no number".to_owned()),
    }
}

fn decide(query: &PrometheusQuery, value: f64) -> (Verdict, String) {
    let (pass, fail) = (query.pass, query.fail);
    match (pass.holds(value), fail.map(|fail| fail.holds(value))) {
        (None, _) => (Verdict::Inconclusive, format!("the value is {value}")),
        (Some(true), _) => (Verdict::Pass, format!("{value} ({pass})")),
        (Some(false), None) => (Verdict::Fail, format!("{value}, to pass: {pass}")),
        (Some(false), Some(Some(true))) => {
            let fail = fail.map_or_else(String::new, |fail| fail.to_string());
            (Verdict::Fail, format!("{value} ({fail})"))
        }
        (Some(false), Some(_)) => {
            let reason = format!("{value}, between pass and fail; to pass: {pass}");
            (Verdict::Inconclusive, reason)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(rest: &str) -> PrometheusQuery {
        let text = format!("source = \"m\"\nquery = \"up\"\npass = \"value < 0.01\"\n{rest}");
        toml::from_str(&text).unwrap()
    }

    #[track_caller]
    fn says(rest: &str, body: &str, verdict: Verdict, part: &str) {
        let (said, reason) = judge(&query(rest), StatusCode::OK, body.as_bytes());
        assert_eq!(said, verdict, "{reason}");
        assert!(reason.contains(part), "{reason}");
    }

    fn vector(values: &[&str]) -> String {
        let series = values
            .iter()
            .map(|v| format!(r#"{{"metric":{{"a":"b"}},"value":[1700000000.1,"{v}"]}}"#));
        let series = series.collect::<Vec<_>>().join(",");
        format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
    }

    #[test]
    fn one_number_decides() {
        use Verdict::{Fail, Inconclusive, Pass};
        says("", &vector(&["0.004"]), Pass, "0.004 (value < 0.01)");
        says("", &vector(&["0.2"]), Fail, "0.2, to pass: value < 0.01");
        let both = "fail = \"value > 0.1\"";
        says(both, &vector(&["0.2"]), Fail, "0.2 (value > 0.1)");
        says(both, &vector(&["0.05"]), Inconclusive, "between");
        says("", &vector(&["+Inf"]), Fail, "inf");
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"0"]}}"#;
        says("", scalar, Pass, "0 (");
    }

    #[test]
    fn what_is_not_exactly_one_number_is_inconclusive() {
        use Verdict::{Inconclusive, Pass};
        says("", &vector(&["NaN"]), Inconclusive, "the value is NaN");
        says("", &vector(&[]), Inconclusive, "no series");
        says("empty = \"pass\"", &vector(&[]), Pass, "no series");
        says("", &vector(&["0", "0"]), Inconclusive, "2 series");
        says("", &vector(&["many"]), Inconclusive, "no number");
        for (body, part) in [
            ("", "not as Prometheus does"),
            ("[]", "not as Prometheus does"),
            (r#"{"status":"success"}"#, "without data"),
            (
                r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#,
                "a matrix",
            ),
            (
                r#"{"status":"success","data":{"resultType":"vector","result":[{}]}}"#,
                "no number",
            ),
            (
                r#"{"status":"success","warnings":["a store is away"],"data":{"resultType":"scalar","result":[1,"0"]}}"#,
                "a store is away",
            ),
            (r#"{"status":"error","error":"parse error"}"#, "parse error"),
        ] {
            says("", body, Inconclusive, part);
        }
    }

    #[test]
    fn a_query_is_written_as_forms_are() {
        assert_eq!(
            encode("rate(x{a=\"é\"}[5m]) + 1"),
            "rate%28x%7Ba%3D%22%C3%A9%22%7D%5B5m%5D%29%20%2B%201"
        );
    }
}
