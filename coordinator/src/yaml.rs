//! YAML as a tree that keeps order and places, for texts whose order is data.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_saphyr::Error;

pub mod layout;
mod meaning;

/// What is wrong with a text, where, and what to do about it. Never holds a value of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{path}{}{why}", place(*.line, *.column), if .path.is_empty() { "" } else { ": " })]
pub struct Fault {
    /// Line from 1; 0 if the fault has no place.
    pub line: usize,
    /// Column from 1; 0 if the fault has no place.
    pub column: usize,
    /// Path of the field, as in `spec.nodes.include`; may be empty.
    pub path: String,
    /// What is wrong, and what to do.
    pub why: String,
}

fn place(line: usize, column: usize) -> String {
    if line == 0 { String::new() } else { format!("line {line}, column {column}: ") }
}

impl Fault {
    /// A fault of a field, wherever it stands.
    pub fn of(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self { line: 0, column: 0, path: path.into(), why: why.into() }
    }

    /// A fault of a place, without a path.
    fn at(line: usize, column: usize, why: &str) -> Self {
        Self { line, column, path: String::new(), why: why.to_owned() }
    }

    /// The same with the place of its field in `text`, if it had none: of the field itself, or of
    /// the nearest one around it that is there.
    #[must_use]
    pub fn placed(mut self, text: &str) -> Self {
        if self.line > 0 {
            return self;
        }
        let Ok(tree) = Tree::parse(text) else { return self };
        let mut nearest = 0;
        tree.walk("", &mut |path, entry| {
            let rest = self.path.strip_prefix(path);
            let is_around =
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
            if is_around && path.len() > nearest {
                nearest = path.len();
                (self.line, self.column) = (entry.line, entry.column);
            }
        });
        self
    }
}

/// A node of a YAML text. It may hold secrets, so it cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Tree<'t> {
    /// Nothing.
    Null,
    /// A text.
    Text(Cow<'t, str>),
    /// A number or a truth value, as it is written.
    Plain(Cow<'t, str>),
    /// A sequence.
    List(Vec<Tree<'t>>),
    /// A mapping, in the order of the text.
    Map(Vec<Entry<'t>>),
}

/// One key of a mapping and what it holds.
#[derive(Clone)]
pub struct Entry<'t> {
    /// The key.
    pub key: Cow<'t, str>,
    /// Line of the key, from 1.
    pub line: usize,
    /// Column of the key, from 1.
    pub column: usize,
    /// What it holds.
    pub value: Tree<'t>,
}

impl PartialEq for Entry<'_> {
    /// Places are not part of the meaning.
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.value == other.value
    }
}

impl Eq for Entry<'_> {}

impl<'t> Tree<'t> {
    /// Reads one document.
    ///
    /// # Errors
    /// A [`Fault`] with the place; a key that is given twice is one.
    pub fn parse(text: &'t str) -> Result<Self, Fault> {
        layout::Layout::parse(text)?.meaning()
    }

    /// What a key of a mapping holds.
    pub fn get(&self, key: &str) -> Option<&Tree<'t>> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The entries of a mapping; none for everything else.
    pub fn entries(&self) -> &[Entry<'t>] {
        match self {
            Tree::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The text of a leaf, numbers included.
    pub fn text(&self) -> Option<&str> {
        match self {
            Tree::Text(text) | Tree::Plain(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it holds nothing: no value, or a collection without any.
    pub fn is_empty(&self) -> bool {
        match self {
            Tree::Null => true,
            Tree::List(list) => list.is_empty(),
            Tree::Map(entries) => entries.is_empty(),
            Tree::Text(_) | Tree::Plain(_) => false,
        }
    }

    /// Calls `see` with the path of every key, and its entry, in the order of the text.
    pub fn walk<'a>(&'a self, path: &str, see: &mut impl FnMut(&str, &'a Entry<'t>)) {
        match self {
            Tree::Map(entries) => {
                for entry in entries {
                    let dot = if path.is_empty() { "" } else { "." };
                    let path = format!("{path}{dot}{}", entry.key);
                    see(&path, entry);
                    entry.value.walk(&path, see);
                }
            }
            Tree::List(list) => {
                for (number, item) in list.iter().enumerate() {
                    item.walk(&format!("{path}[{number}]"), see);
                }
            }
            Tree::Null | Tree::Text(_) | Tree::Plain(_) => (),
        }
    }
}

/// Reads a text as one of our types.
///
/// # Errors
/// A [`Fault`] with the place and the path of the field: one that the type does not know is one.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Fault> {
    let tree = Tree::parse(text)?;
    serde_saphyr::from_str(text).map_err(|error| fault_of_field(&tree, &error))
}

/// What the parser says of a field, with the path that stands at its place.
fn fault_of_field(tree: &Tree<'_>, error: &Error) -> Fault {
    let (line, column) = location(error);
    let mut path = String::new();
    tree.walk("", &mut |here, entry| {
        if (entry.line, entry.column) <= (line, column) {
            path = here.to_owned();
        }
    });
    if matches!(error.without_snippet(), Error::SerdeMissingField { .. }) {
        // It is reported at the last field of the mapping that lacks it.
        path.truncate(path.rfind('.').unwrap_or(0));
    }
    // The place is said by the fault itself.
    let words = error.without_snippet().to_string();
    let why = words.split(" at line ").next().unwrap_or(&words).trim_end_matches(':').to_owned();
    Fault { line, column, path, why }
}

/// Line and column of an error of the parser; zeros if it has none.
fn location(error: &Error) -> (usize, usize) {
    let place = error.without_snippet().location();
    place.map_or((0, 0), |place| (index(place.line()), index(place.column())))
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_places_are_kept() {
        let text = "b: 1\na:\n  z: {y: x}\n  'q r': [null, true]\n7: ~\n";
        let tree = Tree::parse(text).unwrap();
        let mut seen = Vec::new();
        tree.walk("", &mut |path, entry| {
            seen.push(format!("{path}@{}:{}", entry.line, entry.column));
        });
        assert_eq!(seen, ["b@1:1", "a@2:1", "a.z@3:3", "a.z.y@3:7", "a.q r@4:3", "7@5:1"]);
    }

    #[test]
    fn a_fault_says_where_and_never_quotes_the_text() {
        let cases = [
            ("a: 1\na: hunter2\n", 2, "given twice"),
            ("a:\n\tb: hunter2\n", 0, "not YAML"),
            ("a: \"hunter2\n", 0, "not YAML"),
            ("a: *hunter\n", 1, "anchor"),
            ("a: 1\n---\nb: hunter2\n", 0, "more than one document"),
        ];
        for (text, line, why) in cases {
            let fault = Tree::parse(text).err().unwrap_or_else(|| panic!("{text:?} was read"));
            let words = fault.to_string();
            assert!(words.contains(why) && !words.contains("hunter"), "{text:?}: {words}");
            assert!(line == 0 || fault.line == line, "{text:?}: {words}");
        }
    }

    #[test]
    fn a_text_that_grows_without_end_is_refused_and_not_stored() {
        let mut bomb = "l0: &l0 [hunter2, hunter2]\n".to_owned();
        for level in 1..40 {
            let below = level - 1;
            bomb += &format!("l{level}: &l{level} [*l{below}, *l{below}]\n");
        }
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), "*a, ".repeat(10_000));
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        for (text, why) in [(bomb, "aliases"), (long, "aliases"), (deep, "too deep")] {
            let fault = Tree::parse(&text).err().unwrap_or_else(|| panic!("{why} was read"));
            assert!(fault.why.contains(why), "{fault}");
        }
    }

    #[test]
    fn a_fault_of_a_field_finds_the_place_of_it_or_of_what_is_around_it() {
        let text = "spec:\n  nodes:\n    order: [a]\n  repos: [x, {y: 1}]\nspecial: 1\n";
        for (path, line, column) in [
            ("spec.nodes.order", 3, 5),
            ("spec.nodes.include", 2, 3),
            ("spec.repos[1]", 4, 3),
            ("spec.missing.deeper", 1, 1),
            ("metadata.name", 0, 0),
        ] {
            let fault = Fault::of(path, "why").placed(text);
            assert_eq!((fault.line, fault.column), (line, column), "{path}");
        }
        let placed = Fault { line: 9, ..Fault::of("spec.nodes", "why") };
        assert_eq!(placed.placed(text).line, 9);
    }

    #[test]
    fn aliases_merges_and_tags_are_what_they_stand_for() {
        let text = "x: &x {a: 1}\ny: *x\nz:\n  <<: *x\n  b: !vault |\n    $ANSIBLE_VAULT;1.1\n";
        let tree = Tree::parse(text).unwrap();
        assert!(tree.get("x") == tree.get("y"));
        let z = tree.get("z").unwrap();
        assert_eq!(z.get("a").and_then(Tree::text), Some("1"));
        assert_eq!(z.get("b").and_then(Tree::text), Some("$ANSIBLE_VAULT;1.1\n"));
    }

    #[test]
    fn what_is_merged_comes_first_as_it_does_for_ansible() {
        let text = "a: &a {m1: 1, m2: 1}\nb: &b {m3: 2, m4: 2}\n\
                    one: {m0: 0, m2: 0, <<: *a}\nmany: {m1: 0, <<: [*a, *b]}\n";
        let tree = Tree::parse(text).unwrap();
        let seen = |key: &str| {
            let entries = tree.get(key).unwrap().entries().iter();
            entries
                .map(|one| format!("{}={}", one.key, one.value.text().unwrap()))
                .collect::<Vec<_>>()
        };
        assert_eq!(seen("one"), ["m1=1", "m2=0", "m0=0"]);
        assert_eq!(seen("many"), ["m1=0", "m2=1", "m3=2", "m4=2"]);
        for text in ["<<: a\nb: 1\n", "<<: [a]\nb: 1\n", "<<: [{a: 1}, {a: 2}]\n"] {
            let why = Tree::parse(text).err().unwrap().why;
            assert!(why.contains("takes a mapping"), "{why}");
        }
    }
}
