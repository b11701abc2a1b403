//! Labels, and what is asked of them.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::NodeSelectorRequirement, apimachinery::pkg::apis::meta::v1::LabelSelector,
};

use super::symbols::{Symbol, Symbols};

/// The labels of one object, sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Labels(Box<[(Symbol, Symbol)]>);

/// One thing that is asked of labels: of a key, and of its value if there is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Requirement {
    /// The key.
    pub(super) key: Symbol,
    /// What its value must be.
    pub(super) test: Test,
}

/// What a value must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Test {
    /// One of these.
    In(Box<[Symbol]>),
    /// None of these; a missing key will do.
    NotIn(Box<[Symbol]>),
    /// There.
    Exists,
    /// Not there.
    DoesNotExist,
    /// A larger number.
    Gt(i64),
    /// A smaller number.
    Lt(i64),
    /// Not understood: nothing holds.
    Never,
}

/// Requirements that must hold together; none of them is always true.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Selector(pub(super) Box<[Requirement]>);

type Map = BTreeMap<String, String>;

impl Labels {
    /// From an object's metadata.
    pub(super) fn read(labels: Option<&Map>, symbols: &mut Symbols) -> Self {
        let pairs = labels.into_iter().flatten();
        let mut pairs: Vec<_> =
            pairs.map(|(key, value)| (symbols.of(key), symbols.of(value))).collect();
        pairs.sort_unstable();
        Self(pairs.into())
    }

    /// The value of a key.
    pub(super) fn get(&self, key: Symbol) -> Option<Symbol> {
        let place = self.0.binary_search_by_key(&key, |pair| pair.0).ok()?;
        Some(self.0[place].1)
    }

    /// Every key with its value.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Symbol, Symbol)> {
        self.0.iter().copied()
    }
}

impl Requirement {
    /// Whether a value, or that there is none, will do.
    pub(super) fn holds(&self, value: Option<Symbol>, symbols: &Symbols) -> bool {
        let number = || value.and_then(|value| symbols.text(value).parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.contains(&value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(&value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::Gt(least) => number().is_some_and(|number| number > *least),
            Test::Lt(most) => number().is_some_and(|number| number < *most),
            Test::Never => false,
        }
    }

    /// From a node selector's term.
    pub(super) fn of_node(read: &NodeSelectorRequirement, symbols: &mut Symbols) -> Self {
        let values = read.values.as_deref().unwrap_or_default();
        Self::parse(&read.key, &read.operator, values, symbols)
    }

    /// That a key has exactly this value.
    pub(super) fn equal(key: &str, value: &str, symbols: &mut Symbols) -> Self {
        Self { key: symbols.of(key), test: Test::In([symbols.of(value)].into()) }
    }

    fn parse(key: &str, operator: &str, values: &[String], symbols: &mut Symbols) -> Self {
        let mut of_all = || values.iter().map(|value| symbols.of(value)).collect();
        let number = match values {
            [one] => one.parse().ok(),
            _ => None,
        };
        let test = match operator {
            "In" => Test::In(of_all()),
            "NotIn" => Test::NotIn(of_all()),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            "Gt" => number.map_or(Test::Never, Test::Gt),
            "Lt" => number.map_or(Test::Never, Test::Lt),
            _ => Test::Never,
        };
        Self { key: symbols.of(key), test }
    }
}

impl Selector {
    /// From a label selector. None selects nothing, an empty one everything.
    pub(super) fn read(selector: Option<&LabelSelector>, symbols: &mut Symbols) -> Self {
        let Some(selector) = selector else {
            return Self([Requirement { key: symbols.of(""), test: Test::Never }].into());
        };
        let labels = selector.match_labels.iter().flatten();
        let mut all: Vec<Requirement> =
            labels.map(|(key, value)| Requirement::equal(key, value, symbols)).collect();
        for one in selector.match_expressions.iter().flatten() {
            let values = one.values.as_deref().unwrap_or_default();
            all.push(Requirement::parse(&one.key, &one.operator, values, symbols));
        }
        Self(all.into())
    }

    /// Whether it selects these labels.
    pub(super) fn matches(&self, labels: &Labels, symbols: &Symbols) -> bool {
        self.0.iter().all(|one| one.holds(labels.get(one.key), symbols))
    }

    /// Whether it asks for nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a part of it is not understood.
    pub(super) fn is_odd(&self) -> bool {
        self.0.iter().any(|one| one.test == Test::Never)
    }

    /// Key and value that everything selected has, if it asks for such: the way into an index.
    pub(super) fn exact(&self) -> impl Iterator<Item = (Symbol, Symbol)> {
        self.0.iter().filter_map(|one| match &one.test {
            Test::In(values) if values.len() == 1 => Some((one.key, values[0])),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selects(selector: Value, labels: Value) -> bool {
        let mut symbols = Symbols::default();
        let selector: Option<LabelSelector> = serde_json::from_value(selector).unwrap();
        let labels: Map = serde_json::from_value(labels).unwrap();
        let selector = Selector::read(selector.as_ref(), &mut symbols);
        let labels = Labels::read(Some(&labels), &mut symbols);
        selector.matches(&labels, &symbols)
    }

    #[test]
    fn selectors_select_as_the_api_says() {
        let one = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "a", "operator": operator, "values": values}]});
        assert!(!selects(json!(null), json!({})), "no selector selects nothing");
        assert!(selects(json!({}), json!({})), "an empty one everything");
        assert!(selects(json!({"matchLabels": {"a": "1"}}), json!({"a": "1", "b": "2"})));
        assert!(!selects(json!({"matchLabels": {"a": "1", "b": "1"}}), json!({"a": "1"})));
        assert!(selects(one("In", json!(["1", "2"])), json!({"a": "2"})));
        assert!(!selects(one("In", json!(["1"])), json!({})));
        assert!(selects(one("NotIn", json!(["1"])), json!({})), "a missing key is not in anything");
        assert!(!selects(one("NotIn", json!(["1"])), json!({"a": "1"})));
        assert!(selects(one("Exists", json!(null)), json!({"a": ""})));
        assert!(selects(one("DoesNotExist", json!(null)), json!({"b": ""})));
        assert!(!selects(one("Odd", json!(null)), json!({"a": ""})));
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let mut symbols = Symbols::default();
        let read: NodeSelectorRequirement =
            serde_json::from_value(json!({"key": "a", "operator": "Gt", "values": ["9"]})).unwrap();
        let more = Requirement::of_node(&read, &mut symbols);
        for (text, holds) in [("10", true), ("9", false), ("x", false)] {
            let value = symbols.of(text);
            assert_eq!(more.holds(Some(value), &symbols), holds, "{text}");
        }
        assert!(!more.holds(None, &symbols));
    }
}
