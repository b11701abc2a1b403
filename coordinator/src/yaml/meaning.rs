//! What a YAML text means: aliases and merges resolved, as Ansible resolves them.

use std::collections::{HashMap, HashSet};

use super::{
    Entry, Fault, Tree,
    layout::{Key, Layout, Leaf, Number, Pair, Shape},
};

/// What one text may stand for, in bytes: thousands of hosts may share one anchor, but what grows
/// beyond it is no inventory.
const WEIGHT_MAX: usize = 64 << 20;

/// Collections within each other. An inventory has about eight.
const DEPTH_MAX: usize = 64;

/// What a node counts, beside its text.
const NODE_WEIGHT: usize = 64;

/// What is said of a text that nests too many collections.
const TOO_DEEP: &str = "it is too deep";

/// What is said of a text that is, or stands for, too much.
const TOO_LARGE: &str =
    "it is too large, or its aliases stand for too much: write out what they repeat";

/// What is said of a merge key that cannot be resolved in one way only.
const NO_MERGE: &str = "a merge key (<<) takes a mapping, or several without a key in common";

/// Mappings of fewer keys are searched for one that is given twice by comparing all.
const FEW: usize = 16;

impl<'t> Layout<'t> {
    /// What the text means.
    ///
    /// # Errors
    /// A [`Fault`] with the place, if a key is given twice, a merge is not one of mappings, it is too
    /// deep, or the aliases stand for too much.
    pub fn meaning(&self) -> Result<Tree<'t>, Fault> {
        Reader { layout: self, weight: 0 }.tree(self.root(), 0).map_err(|(key, why)| {
            key.map_or_else(
                || Fault::of("", why.clone()),
                |key| Fault::at(key.line, key.column, &why),
            )
        })
    }
}

struct Reader<'l, 't> {
    layout: &'l Layout<'t>,
    /// What was read so far.
    weight: usize,
}

/// What is wrong, and with which key if that is known.
type Wrong<'l, 't> = (Option<&'l Key<'t>>, String);

impl<'l, 't> Reader<'l, 't> {
    fn tree(&mut self, part: Number, depth: usize) -> Result<Tree<'t>, Wrong<'l, 't>> {
        if depth > DEPTH_MAX {
            return Err((None, TOO_DEEP.to_owned())); // an alias within its own anchor, too
        }
        self.weight += NODE_WEIGHT;
        let tree = match self.layout.shape(part) {
            Shape::Leaf(leaf) => {
                self.weight += leaf.text.len();
                scalar(leaf)
            }
            Shape::List(items) => {
                let items = items.iter().map(|item| self.tree(*item, depth + 1));
                Tree::List(items.collect::<Result<_, _>>()?)
            }
            Shape::Map(_, pairs) => Tree::Map(self.entries(pairs, depth)?),
        };
        match self.weight > WEIGHT_MAX {
            true => Err((None, TOO_LARGE.to_owned())),
            false => Ok(tree),
        }
    }

    /// The entries of a mapping. What is merged comes first, and the mapping's own keys take its
    /// place, as in PyYAML. Which of several merged mappings wins depends on its version, so they
    /// must have no key in common. Source: `SafeConstructor.flatten_mapping`.
    fn entries(
        &mut self,
        pairs: &'l [Pair<'t>],
        depth: usize,
    ) -> Result<Vec<Entry<'t>>, Wrong<'l, 't>> {
        if let Some(key) = given_twice(pairs) {
            let name = rehull_shared::text::bounded(&key.text, 80);
            return Err((Some(key), format!("the key {name:?} is given twice")));
        }
        let mut merged = Vec::new();
        let mut own = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let key = &pair.key;
            let here = |(at, why): Wrong<'l, 't>| (at.or(Some(key)), why);
            let value = self.tree(pair.value, depth + 1).map_err(here)?;
            if key.merges {
                let more = mappings(value).ok_or_else(|| (Some(key), NO_MERGE.to_owned()))?;
                merged.extend(more);
            } else {
                let (line, column) = (key.line, key.column);
                own.push(Entry { key: key.text.clone(), line, column, value });
            }
        }
        if merged.is_empty() {
            return Ok(own);
        }
        let keys = merged
            .iter()
            .enumerate()
            .map(|(place, entry): (_, &Entry<'_>)| (entry.key.clone(), place));
        let places: HashMap<_, usize> = keys.collect();
        if places.len() < merged.len() {
            let merge = pairs.iter().find(|pair| pair.key.merges);
            return Err((merge.map(|pair| &pair.key), NO_MERGE.to_owned()));
        }
        for entry in own {
            match places.get(&entry.key) {
                Some(place) => merged[*place] = entry,
                None => merged.push(entry),
            }
        }
        Ok(merged)
    }
}

/// The entries of the mapping or mappings that a merge key takes in.
fn mappings(value: Tree<'_>) -> Option<Vec<Entry<'_>>> {
    let of_one = |value| match value {
        Tree::Map(entries) => Some(entries),
        _ => None,
    };
    match value {
        Tree::List(list) => {
            let lists: Option<Vec<_>> = list.into_iter().map(of_one).collect();
            lists.map(|lists| lists.into_iter().flatten().collect())
        }
        one => of_one(one),
    }
}

fn given_twice<'l, 't>(pairs: &'l [Pair<'t>]) -> Option<&'l Key<'t>> {
    let text = |pair: &'l Pair<'t>| pair.key.text.as_ref();
    let twice = if pairs.len() <= FEW {
        let is_again = |(place, pair)| pairs[..place].iter().any(|other| text(other) == text(pair));
        pairs
            .iter()
            .enumerate()
            .find(|(place, pair)| is_again((*place, pair)))
            .map(|(_, pair)| pair)
    } else {
        let mut seen = HashSet::with_capacity(pairs.len());
        pairs.iter().find(|pair| !seen.insert(text(pair)))
    };
    twice.map(|pair| &pair.key)
}

/// What a scalar is. Source: the core schema of YAML 1.2, chapter 10.3.
fn scalar<'t>(leaf: &Leaf<'t>) -> Tree<'t> {
    let text = leaf.text.as_ref();
    match text {
        _ if leaf.is_text => Tree::Text(leaf.text.clone()),
        "" | "~" | "null" | "Null" | "NULL" => Tree::Null,
        _ if is_value(text) => Tree::Plain(leaf.text.clone()),
        _ => Tree::Text(leaf.text.clone()),
    }
}

/// Whether a bare word is a number or a truth value.
fn is_value(word: &str) -> bool {
    let digits = |base| move |rest: &str| rest.chars().all(|c: char| c.is_digit(base));
    let begins = word.trim_start_matches(['+', '-', '.']).as_bytes().first();
    matches!(word, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
        || word.strip_prefix("0x").is_some_and(digits(16))
        || word.strip_prefix("0o").is_some_and(digits(8))
        || (begins.is_some_and(u8::is_ascii_digit) && word.parse::<f64>().is_ok())
        || matches!(word.trim_start_matches(['+', '-']), ".inf" | ".Inf" | ".INF")
        || matches!(word, ".nan" | ".NaN" | ".NAN")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `N` for nothing, `P` for a number or a truth value, `T` for a text.
    fn kind(text: &str) -> char {
        match Tree::parse(text).unwrap() {
            Tree::Null => 'N',
            Tree::Plain(_) => 'P',
            Tree::Text(_) => 'T',
            Tree::List(_) | Tree::Map(_) => 'C',
        }
    }

    #[test]
    fn a_bare_word_is_what_it_looks_like_and_a_quoted_one_is_a_text() {
        for (words, meant) in [
            ("--- ~|--- null|---|--- !!null ~", 'N'),
            ("1|-0.5|+1e3|.5|0x1F|0o17|true|FALSE|.inf|-.INF|.nan|!!int \"5\"", 'P'),
            (
                "'1'|\"true\"|'~'|inf|nan|1.2.3|10.0.0.1|v1.27|a|!!str 5|!vault 1|+|1_000|2026-01-31",
                'T',
            ),
        ] {
            for word in words.split('|') {
                assert_eq!(kind(word), meant, "{word:?}");
            }
        }
        assert_eq!(Tree::parse("1.30").unwrap().text(), Some("1.30"), "as it is written");
    }

    #[test]
    fn an_alias_within_its_own_anchor_ends() {
        for text in ["a: &x [*x, *x]\n", "a: &x {b: *x, c: *x}\n"] {
            assert_eq!(Tree::parse(text).err().unwrap().why, TOO_DEEP);
        }
    }

    #[test]
    fn a_merge_key_in_quotes_is_a_key_like_others() {
        let tree = Tree::parse("a: &x {b: 1}\nc: {'<<': *x}\nd: {<<: *x}\n").unwrap();
        let keys = |of: &str| tree.get(of).unwrap().entries()[0].key.clone();
        assert_eq!((keys("c").as_ref(), keys("d").as_ref()), ("<<", "b"));
    }

    #[test]
    fn a_key_that_is_given_twice_is_found_in_long_mappings_too() {
        let long: String = (0..40).map(|number| format!("k{number}: 1\n")).collect();
        let fault = Tree::parse(&format!("{long}k7: 2\n")).err().unwrap();
        assert!(fault.line == 41 && fault.why.contains("\"k7\" is given twice"), "{fault}");
    }
}
