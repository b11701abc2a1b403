//! Label and field selectors, as lists take them.

use serde_json::Value;

use super::answer::Refused;

/// Whether an object is chosen by a label selector (`a=b,c!=d,e in (f,g),h,!i`).
pub(super) fn labels(selector: &str, object: &Value) -> Result<bool, Refused> {
    for part in split(selector) {
        let part = part.trim();
        let chosen = match part.split_once(" in ").or_else(|| part.split_once(" notin ")) {
            Some((key, set)) => {
                let set = set.trim().trim_start_matches('(').trim_end_matches(')');
                let label = label(object, key.trim());
                let inside = label.is_some_and(|l| set.split(',').any(|v| v.trim() == l));
                inside == part.contains(" in ")
            }
            None => requirement(part, |key| label(object, key)),
        };
        if !chosen {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether an object is chosen by a field selector; only the fields that servers index.
pub(super) fn fields(selector: &str, object: &Value) -> Result<bool, Refused> {
    for part in selector.split(',').filter(|part| !part.is_empty()) {
        let key = part.split(['=', '!']).next().unwrap_or_default();
        let pointer = match key {
            "metadata.name" => "/metadata/name",
            "metadata.namespace" => "/metadata/namespace",
            "spec.nodeName" => "/spec/nodeName",
            "spec.unschedulable" => "/spec/unschedulable",
            "status.phase" => "/status/phase",
            _ => return Err(Refused::bad_request(format!("field label not supported: {key}"))),
        };
        let value = object.pointer(pointer).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let value = value.unwrap_or_default();
        if !requirement(part, |_| Some(&value)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a pod is chosen by the `selector` of a budget, a set or a deployment.
pub(crate) fn object(selector: &Value, pod: &Value) -> bool {
    let equal = selector["matchLabels"].as_object();
    let mut equal = equal.into_iter().flatten();
    let all_equal = equal.all(|(key, value)| label(pod, key) == value.as_str());
    let expressions = selector["matchExpressions"].as_array();
    let mut expressions = expressions.into_iter().flatten();
    all_equal
        && expressions.all(|row| {
            let found = row["key"].as_str().and_then(|key| label(pod, key));
            let among = |label: &str| {
                row["values"].as_array().into_iter().flatten().any(|value| value == label)
            };
            match row["operator"].as_str() {
                Some("In") => found.is_some_and(among),
                Some("NotIn") => !found.is_some_and(among),
                Some("Exists") => found.is_some(),
                Some("DoesNotExist") => found.is_none(),
                _ => false,
            }
        })
}

fn requirement<'a>(part: &str, value: impl Fn(&str) -> Option<&'a str>) -> bool
where
{
    if let Some((key, wanted)) = part.split_once("!=") {
        return value(key.trim()) != Some(wanted.trim());
    }
    if let Some((key, wanted)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return value(key.trim()) == Some(wanted.trim());
    }
    match part.strip_prefix('!') {
        Some(key) => value(key.trim()).is_none(),
        None => value(part).is_some(),
    }
}

fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"].get(key)?.as_str()
}

/// Splits at commas outside parentheses.
fn split(selector: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in selector.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&selector[start..at]);
                start = at + 1;
            }
            _ => (),
        }
    }
    parts.push(&selector[start..]);
    parts.retain(|part| !part.trim().is_empty());
    parts
}
