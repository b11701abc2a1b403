//! Texts as numbers: equal texts have equal symbols, so that labels are compared as integers.

use std::{collections::HashMap, num::NonZeroU32, sync::Arc};

/// One text of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Symbol(NonZeroU32);

/// Every text that was seen.
#[derive(Debug, Default)]
pub(super) struct Symbols {
    known: HashMap<Arc<str>, Symbol>,
    texts: Vec<Arc<str>>,
}

impl Symbols {
    /// The symbol of a text.
    pub(super) fn of(&mut self, text: &str) -> Symbol {
        if let Some(symbol) = self.known.get(text) {
            return *symbol;
        }
        let number = u32::try_from(self.texts.len() + 1).ok().and_then(NonZeroU32::new);
        let symbol = Symbol(number.expect("fewer than 2^32 texts fit into memory"));
        let text: Arc<str> = text.into();
        self.texts.push(Arc::clone(&text));
        self.known.insert(text, symbol);
        symbol
    }

    /// The symbol of a text that was seen.
    pub(super) fn find(&self, text: &str) -> Option<Symbol> {
        self.known.get(text).copied()
    }

    /// The text of a symbol.
    pub(super) fn text(&self, symbol: Symbol) -> &str {
        &self.texts[symbol.0.get() as usize - 1]
    }
}
