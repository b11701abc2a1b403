//! Where the parts of a YAML text stand, byte by byte, for edits that leave all others as they are.
//!
//! A [`Tree`](super::Tree) says what a text means, aliases and merges resolved; a layout says how it
//! is written.

use std::{collections::HashMap, ops::Range};

use granit_parser::{Event, Parser, ScanError, Span, StructureStyle};

use super::Fault;

/// How a text is written. Its parts are numbered in the order in which they begin.
#[derive(Debug)]
pub struct Layout {
    parts: Vec<Part>,
}

/// Number of a part. An anchored part has one number, however many aliases stand for it.
pub type Number = usize;

/// One node, as it is written.
#[derive(Debug)]
struct Part {
    shape: Shape,
    /// Just behind its last byte; `None` where nothing is written.
    end: Option<usize>,
}

#[derive(Debug)]
enum Shape {
    Leaf,
    List,
    Map(Style, Vec<Pair>),
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
#[derive(Debug)]
pub struct Pair {
    /// The key.
    pub key: String,
    /// Where it stands, quotes included.
    pub at: Range<usize>,
    /// Its line, from 1.
    pub line: usize,
    /// What it holds.
    pub value: Number,
    /// Just behind the last byte of what it holds; of the key itself, if it holds nothing.
    pub end: usize,
}

impl Layout {
    /// Finds every part of a text.
    ///
    /// # Errors
    /// A [`Fault`] with the place, if it is no YAML.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut builder = Builder::default();
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| unreadable(&error))?;
            builder.take(event, span);
        }
        Ok(Self { parts: builder.parts })
    }

    /// The whole text.
    pub fn root(&self) -> Number {
        0
    }

    /// Style and keys of a mapping; `None` for everything else.
    pub fn map(&self, part: Number) -> Option<(Style, &[Pair])> {
        match &self.parts.get(part)?.shape {
            Shape::Map(style, pairs) => Some((*style, pairs)),
            Shape::Leaf | Shape::List => None,
        }
    }

    /// Whether a part is a sequence.
    pub fn is_list(&self, part: Number) -> bool {
        matches!(self.parts.get(part), Some(Part { shape: Shape::List, .. }))
    }

    /// What a key of a mapping holds.
    pub fn get(&self, part: Number, key: &str) -> Option<&Pair> {
        self.map(part)?.1.iter().find(|pair| pair.key == key)
    }
}

fn unreadable(error: &ScanError) -> Fault {
    let mark = error.marker();
    let why = "this is not YAML".to_owned();
    Fault { line: mark.line(), column: mark.col() + 1, path: String::new(), why }
}

/// Puts the parts together as the parser meets them.
#[derive(Default)]
struct Builder {
    parts: Vec<Part>,
    /// Collections that are not closed yet.
    open: Vec<Open>,
    anchors: HashMap<usize, Number>,
}

struct Open {
    part: Number,
    /// A key whose value comes next.
    key: Option<(String, Range<usize>, usize)>,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) {
        let bytes = span.byte_range().unwrap_or_default();
        let end = (!bytes.is_empty()).then_some(bytes.end);
        match event {
            Event::Scalar(text, _, anchor, _) => {
                let is_key = self.open.last().is_some_and(|open| {
                    open.key.is_none() && matches!(self.parts[open.part].shape, Shape::Map(..))
                });
                if is_key {
                    let key = Some((text.into_owned(), bytes, span.start.line()));
                    self.open.last_mut().expect("a mapping is open").key = key;
                } else {
                    let part = self.begin(Shape::Leaf, anchor, end);
                    self.place(part, end);
                }
            }
            Event::Alias(anchor) => {
                // Of an anchor that does not exist, the parser itself complains.
                let part = self.anchors.get(&anchor).copied().unwrap_or_default();
                self.place(part, end);
            }
            Event::SequenceStart(_, anchor, _) => self.enter(Shape::List, anchor),
            Event::MappingStart(style, anchor, _) => {
                let style = match style {
                    StructureStyle::Flow => Style::Flow,
                    _ => Style::Block,
                };
                self.enter(Shape::Map(style, Vec::new()), anchor);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { part, .. }) = self.open.pop() else { return };
                // The end of a block is where the next part begins: its last pair knows better.
                let inner = match &self.parts[part].shape {
                    Shape::Map(_, pairs) => pairs.last().map(|pair| pair.end),
                    Shape::Leaf | Shape::List => self.parts[part].end,
                };
                let end = end.max(inner);
                self.parts[part].end = end;
                self.place(part, end);
            }
            _ => (),
        }
    }

    fn begin(&mut self, shape: Shape, anchor: usize, end: Option<usize>) -> Number {
        let part = self.parts.len();
        self.parts.push(Part { shape, end });
        if anchor > 0 {
            self.anchors.insert(anchor, part);
        }
        part
    }

    fn enter(&mut self, shape: Shape, anchor: usize) {
        let part = self.begin(shape, anchor, None);
        self.open.push(Open { part, key: None });
    }

    /// Puts a part that is whole into the collection around it. A collection that is a key has none.
    fn place(&mut self, value: Number, end: Option<usize>) {
        let Some(open) = self.open.last_mut() else { return };
        let around = &mut self.parts[open.part];
        match &mut around.shape {
            Shape::Map(_, pairs) => {
                let Some((key, at, line)) = open.key.take() else {
                    open.key = Some((String::new(), 0..0, 0));
                    return;
                };
                let end = end.unwrap_or(at.end).max(at.end);
                pairs.push(Pair { key, at, line, value, end });
            }
            Shape::List => around.end = around.end.max(end),
            Shape::Leaf => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of each pair, from key to end, in the order of the text.
    fn pairs(text: &str) -> Vec<String> {
        let layout = Layout::parse(text).unwrap();
        let all = layout.parts.iter().filter_map(|part| match &part.shape {
            Shape::Map(_, pairs) => Some(pairs),
            Shape::Leaf | Shape::List => None,
        });
        all.flatten().map(|pair| text[pair.at.start..pair.end].to_owned()).collect()
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
}
