//! How a YAML text is written: every part of it and where it stands, byte by byte, for edits that
//! leave all others as they are.
//!
//! What it means, aliases and merges resolved, is its [`Tree`](super::Tree).

use std::{borrow::Cow, collections::HashMap, ops::Range};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, StructureStyle, Tag};

use super::Fault;

/// The key that takes the entries of other mappings in.
const MERGE: &str = "<<";

/// The namespace of YAML's own tags.
const OWN_TAGS: &str = "tag:yaml.org,2002:";

/// How a text is written. Its parts are numbered in the order in which they begin.
pub struct Layout<'t> {
    parts: Vec<Part<'t>>,
}

/// Number of a part. An anchored part has one number, however many aliases stand for it.
pub type Number = usize;

/// One node, as it is written.
struct Part<'t> {
    shape: Shape<'t>,
    /// Just behind its last byte; `None` where nothing is written.
    end: Option<usize>,
}

pub(super) enum Shape<'t> {
    Leaf(Leaf<'t>),
    List(Vec<Number>),
    Map(Style, Vec<Pair<'t>>),
}

/// A scalar.
pub(super) struct Leaf<'t> {
    pub(super) text: Cow<'t, str>,
    /// Whether it is a text whatever stands in it: by quotes, or by a tag.
    pub(super) is_text: bool,
}

/// How a mapping is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// One key a line, indented.
    Block,
    /// In braces.
    Flow,
}

/// One key of a mapping, and what it holds.
pub struct Pair<'t> {
    /// The key.
    pub key: Key<'t>,
    /// What it holds.
    pub value: Number,
    /// Just behind the last byte of what it holds; of the key itself, if it holds nothing.
    pub end: usize,
}

/// A key, as it is written.
pub struct Key<'t> {
    /// Its text.
    pub text: Cow<'t, str>,
    /// Where it stands, quotes included.
    pub at: Range<usize>,
    /// Its line, from 1.
    pub line: usize,
    /// Its column, from 1.
    pub column: usize,
    /// Whether it takes the entries of what it holds in. In quotes, it is a key like others.
    pub merges: bool,
}

impl<'t> Layout<'t> {
    /// Finds every part of a text of one document.
    ///
    /// # Errors
    /// A [`Fault`] with the place, if it is no YAML, or has keys that are no words or types whose
    /// order is not that of the text.
    pub fn parse(text: &'t str) -> Result<Self, Fault> {
        let mut builder = Builder::default();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| unreadable(&error))?;
            builder
                .take(event, span)
                .map_err(|why| Fault::at(span.start.line(), span.start.col() + 1, why))?;
        }
        match builder.parts.is_empty() {
            true => Err(Fault::of("", "there is nothing")),
            false => Ok(Self { parts: builder.parts }),
        }
    }

    /// The whole text.
    pub fn root(&self) -> Number {
        0
    }

    /// Style and keys of a mapping; `None` for everything else.
    pub fn map(&self, part: Number) -> Option<(Style, &[Pair<'t>])> {
        match self.shape(part) {
            Shape::Map(style, pairs) => Some((*style, pairs)),
            Shape::Leaf(_) | Shape::List(_) => None,
        }
    }

    /// Whether a part is a sequence.
    pub fn is_list(&self, part: Number) -> bool {
        matches!(self.shape(part), Shape::List(_))
    }

    /// What a key of a mapping holds.
    pub fn get(&self, part: Number, key: &str) -> Option<&Pair<'t>> {
        self.map(part)?.1.iter().find(|pair| pair.key.text == key)
    }

    pub(super) fn shape(&self, part: Number) -> &Shape<'t> {
        &self.parts[part].shape
    }
}

/// What the parser says, without a word of the text: it may hold passwords.
fn unreadable(error: &ScanError) -> Fault {
    let why = match error.kind() {
        ErrorKind::UnknownAnchor => "an alias names an anchor that does not exist",
        _ => {
            "this is not YAML (tabs cannot indent, and quotes and brackets must close; an inventory \
              in ini form is not read)"
        }
    };
    let mark = error.marker();
    Fault::at(mark.line(), mark.col() + 1, why)
}

/// Puts the parts together as the parser meets them.
#[derive(Default)]
struct Builder<'t> {
    parts: Vec<Part<'t>>,
    /// Collections that are not closed yet.
    open: Vec<Open<'t>>,
    anchors: HashMap<usize, Number>,
}

struct Open<'t> {
    part: Number,
    /// A key whose value comes next.
    key: Option<Key<'t>>,
}

impl<'t> Builder<'t> {
    /// Takes the next event in; else says what is wrong there.
    fn take(&mut self, event: Event<'t>, span: Span) -> Result<(), &'static str> {
        let bytes = span.byte_range().unwrap_or_default();
        let end = (!bytes.is_empty()).then_some(bytes.end);
        match event {
            Event::DocumentStart(..) if !self.parts.is_empty() => {
                return Err("there is more than one document");
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                if self.wants_key() {
                    if anchor > 0 {
                        return Err(NO_KEY);
                    }
                    let merges = plain && text == MERGE;
                    let (line, column) = (span.start.line(), span.start.col() + 1);
                    let key = Some(Key { text, at: bytes, line, column, merges });
                    self.open.last_mut().expect("a mapping is open").key = key;
                } else {
                    let is_text = !plain && tag.is_none_or(|tag| !is_of_value(&tag));
                    let part = self.begin(Shape::Leaf(Leaf { text, is_text }), anchor, end);
                    self.place(part, end);
                }
            }
            _ if self.wants_key() && begins_node(&event) => return Err(NO_KEY),
            Event::Alias(anchor) => {
                let part = self.anchors.get(&anchor).copied().unwrap_or_default();
                self.place(part, end);
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.enter(Shape::List(Vec::new()), anchor, tag.as_deref())?;
            }
            Event::MappingStart(style, anchor, tag) => {
                let style = match style {
                    StructureStyle::Flow => Style::Flow,
                    _ => Style::Block,
                };
                self.enter(Shape::Map(style, Vec::new()), anchor, tag.as_deref())?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { part, .. }) = self.open.pop() else { return Ok(()) };
                // The end of a block is where the next part begins: its last pair knows better.
                let inner = match &self.parts[part].shape {
                    Shape::Map(_, pairs) => pairs.last().map(|pair| pair.end),
                    Shape::Leaf(_) | Shape::List(_) => self.parts[part].end,
                };
                let end = end.max(inner);
                self.parts[part].end = end;
                self.place(part, end);
            }
            _ => (),
        }
        Ok(())
    }

    /// Whether the next node is a key.
    fn wants_key(&self) -> bool {
        self.open.last().is_some_and(|open| {
            open.key.is_none() && matches!(self.parts[open.part].shape, Shape::Map(..))
        })
    }

    fn begin(&mut self, shape: Shape<'t>, anchor: usize, end: Option<usize>) -> Number {
        let part = self.parts.len();
        self.parts.push(Part { shape, end });
        if anchor > 0 {
            self.anchors.insert(anchor, part);
        }
        part
    }

    fn enter(
        &mut self,
        shape: Shape<'t>,
        anchor: usize,
        tag: Option<&Tag>,
    ) -> Result<(), &'static str> {
        let own = tag.and_then(|tag| tag.suffix_in_namespace(OWN_TAGS));
        if own.is_some_and(|name| name != "map" && name != "seq") {
            return Err("the order of such a type is not that of the text: leave the tag out");
        }
        let part = self.begin(shape, anchor, None);
        self.open.push(Open { part, key: None });
        Ok(())
    }

    /// Puts a part that is whole into the collection around it.
    fn place(&mut self, value: Number, end: Option<usize>) {
        let Some(open) = self.open.last_mut() else { return };
        let around = &mut self.parts[open.part];
        match &mut around.shape {
            Shape::Map(_, pairs) => {
                let key = open.key.take().expect("a node that is no key has one");
                let end = end.unwrap_or(key.at.end).max(key.at.end);
                pairs.push(Pair { key, value, end });
            }
            Shape::List(items) => {
                items.push(value);
                around.end = around.end.max(end);
            }
            Shape::Leaf(_) => (),
        }
    }
}

/// What is said of a key that is a collection, an alias or an anchor.
const NO_KEY: &str = "a key must be one word, written out";

fn begins_node(event: &Event<'_>) -> bool {
    matches!(event, Event::Alias(_) | Event::SequenceStart(..) | Event::MappingStart(..))
}

/// Whether a tag makes a number, a truth value or nothing of a scalar.
fn is_of_value(tag: &Tag) -> bool {
    matches!(tag.core_suffix(), Some("int" | "float" | "bool" | "null"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of each pair, from key to end, in the order of the text.
    fn pairs(text: &str) -> Vec<String> {
        let layout = Layout::parse(text).unwrap();
        let all = layout.parts.iter().filter_map(|part| match &part.shape {
            Shape::Map(_, pairs) => Some(pairs),
            Shape::Leaf(_) | Shape::List(_) => None,
        });
        all.flatten().map(|pair| text[pair.key.at.start..pair.end].to_owned()).collect()
    }

    #[test]
    fn a_pair_ends_with_what_it_holds() {
        for (text, found) in [
            ("a:\nb: 1 # one\n", vec!["a", "b: 1"]),
            (
                "a:\n  b: {c: , 'd': x}\n\n# end\n",
                vec!["a:\n  b: {c: , 'd': x}", "b: {c: , 'd': x}", "c", "'d': x"],
            ),
            (
                "a: &x {}\nb: *x\nc: [1, {d: 2}]\n",
                vec!["a: &x {}", "b: *x", "c: [1, {d: 2}]", "d: 2"],
            ),
            ("ä:\r\n  ö: \"ü\"\r\nb:\r\n", vec!["ä:\r\n  ö: \"ü\"", "b", "ö: \"ü\""]),
            ("a:\n- b\n- c: d\ne: !v |\n  f\n", vec!["a:\n- b\n- c: d", "e: !v |\n  f\n", "c: d"]),
            ("{a, b: }", vec!["a", "b"]),
            ("? a\n: b\n", vec!["a\n: b"]),
        ] {
            let mut seen = pairs(text);
            let mut found: Vec<String> = found.into_iter().map(str::to_owned).collect();
            seen.sort();
            found.sort();
            assert_eq!(seen, found, "{text:?}");
        }
    }

    #[test]
    fn an_alias_is_the_part_that_it_stands_for() {
        let layout = Layout::parse("a: &x {b: 1}\nc: {d: *x}\n").unwrap();
        let [a, c] = ["a", "c"].map(|key| layout.get(layout.root(), key).unwrap().value);
        assert_eq!(layout.get(c, "d").unwrap().value, a);
        assert_eq!(layout.map(a).unwrap().0, Style::Flow);
        assert!(Layout::parse("a: [").is_err());
    }
    #[test]
    fn what_is_no_plain_word_is_no_key_and_what_has_no_order_is_refused() {
        for (text, line, why) in [
            ("a: 1\n? [b]\n: 2\n", 2, NO_KEY),
            ("a: &x b\n*x : 2\n", 2, NO_KEY),
            ("&x a: 1\n", 1, NO_KEY),
            ("{{a: 1}: 2}\n", 1, NO_KEY),
            ("a:\n  b: !!set {c, d}\n", 2, "leave the tag out"),
            ("a: !!omap [b: 1]\n", 1, "leave the tag out"),
        ] {
            let fault = Layout::parse(text).err().unwrap_or_else(|| panic!("{text:?} was read"));
            assert!(fault.line == line && fault.why.contains(why), "{text:?}: {fault}");
        }
        assert!(Layout::parse("a: !!map {b: !!seq [c], d: !ours [e]}\n").is_ok());
    }
}
