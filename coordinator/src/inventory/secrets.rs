//! Passwords in texts of Kubean: found by path, kept from everything that is printed or stored.

use crate::yaml::{Fault, Tree};

/// Values that must not be repeated. They can neither be printed nor stored.
#[derive(Default)]
pub struct Secrets(Vec<String>);

/// Words that mark a key below which every text is a secret.
const SECRET_WORDS: [&str; 5] = ["pass", "secret", "token", "credential", "private_key"];

/// A word that marks a key whose own value may be one; lists of modes stand behind it, too.
const PERHAPS_SECRET: &str = "auth";

/// A shorter text is no secret that could be told from ordinary words.
const LENGTH_MIN: usize = 4;

/// A shorter number is none: ports and lifetimes stand behind such keys, too.
const DIGITS_MIN: usize = 6;

/// A shorter line of a longer text is none that could be told.
const LINE_MIN: usize = 8;

/// What a secret is replaced by.
const MASK: &str = "***";

/// A password of a host, by everything but its value.
#[derive(Debug, PartialEq, Eq)]
pub struct Password {
    /// The variable that it is the value of.
    pub variable: String,
    /// Path and line of it.
    pub place: String,
}

/// The passwords of hosts that stand in a text as they are (F67). Values that
/// Kubean or Ansible decrypts (`VAULT;`, `!vault`) and expressions are none.
///
/// # Errors
/// A [`Fault`] if the text is not YAML.
pub fn passwords(text: &str) -> Result<Vec<Password>, Fault> {
    let mut found = Vec::new();
    Tree::parse(text)?.walk("", &mut |path, entry| {
        let key = entry.key.to_lowercase();
        let of_host = key.starts_with("ansible_") && key.contains("pass");
        if of_host && entry.value.text().is_some_and(is_plain) {
            let (variable, line) = (entry.key.clone().into_owned(), entry.line);
            found.push(Password { variable, place: format!("{path} (line {line})") });
        }
    });
    Ok(found)
}

fn is_plain(value: &str) -> bool {
    let value = value.trim();
    !(value.is_empty()
        || value.starts_with("VAULT;")
        || value.starts_with("$ANSIBLE_VAULT;")
        || (value.starts_with("{{") && value.ends_with("}}")))
}

impl Secrets {
    /// Adds what looks like a secret in a text; one that is not YAML has none that could be told.
    pub fn learn(&mut self, text: &str) {
        let Ok(tree) = Tree::parse(text) else { return };
        let lines: Vec<&str> = text.lines().collect();
        tree.walk("", &mut |_, entry| {
            let key = entry.key.to_lowercase();
            let value = &entry.value;
            if SECRET_WORDS.iter().any(|word| key.contains(word)) {
                self.learn_all(value);
            } else if key.contains(PERHAPS_SECRET)
                && let Tree::Text(value) = value
            {
                self.learn_text(value);
            } else {
                return;
            }
            if let (Tree::Text(_), Some(line)) = (value, lines.get(entry.line.saturating_sub(1))) {
                self.learn_written(line, entry.column);
            }
        });
        // The longest first, so that none is left in halves.
        self.0.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.0.dedup();
    }

    fn learn_all(&mut self, tree: &Tree<'_>) {
        match tree {
            Tree::Text(value) => self.learn_text(value),
            Tree::Plain(value) => {
                let digits = value.bytes().filter(u8::is_ascii_digit).count();
                if digits >= DIGITS_MIN {
                    self.0.push(value.clone().into_owned());
                }
            }
            Tree::List(list) => list.iter().for_each(|item| self.learn_all(item)),
            Tree::Map(entries) => entries.iter().for_each(|entry| self.learn_all(&entry.value)),
            Tree::Null => (),
        }
    }

    /// A text of several lines (a key, a certificate) may be printed one by one, and any text as it has to
    /// be written between quotes.
    fn learn_text(&mut self, value: &str) {
        if value.len() >= LENGTH_MIN {
            self.0.push(value.to_owned());
            self.0.push(value.replace('\'', "''"));
            let quoted = serde_json::Value::from(value).to_string();
            self.0.push(quoted[1..quoted.len() - 1].to_owned());
        }
        let lines = value.lines().map(str::trim).filter(|line| line.len() >= LINE_MIN);
        self.0.extend(lines.map(str::to_owned));
    }

    /// What stands between the quotes behind a key at a column of a line: it may be written in yet another
    /// way.
    fn learn_written(&mut self, line: &str, column: usize) {
        let key = line.chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
        let Some((_, value)) = line[key..].split_once(':') else { return };
        let (Some(quote), written) = opened(value.trim_start()) else { return };
        let written = &written[..closing(written, quote)];
        if written.len() >= LENGTH_MIN {
            self.0.push(written.to_owned());
        }
    }

    /// `text` with every known secret masked, and what stands behind a key for a password.
    pub fn redact(&self, text: &str) -> String {
        let known = self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, MASK));
        known.split_inclusive('\n').map(mask_after_key).collect()
    }
}

/// Masks the word, or what stands between quotes, behind `password=`, `"ansible_become_pass": ` and the
/// like in one line.
fn mask_after_key(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = value_of_secret(rest) {
        let (before, value) = rest.split_at(start);
        let (quote, value) = opened(value);
        let end = match quote {
            Some(quote) => closing(value, quote),
            None => {
                let end = value.find([' ', ',', '"', '\'', '\n', '\r', '}', ';', '&']);
                end.unwrap_or(value.len())
            }
        };
        out.push_str(before);
        out.extend(quote);
        out.push_str(if end == 0 { "" } else { MASK });
        rest = &value[end..];
    }
    out + rest
}

/// The quote that a value begins with, and what stands behind that.
fn opened(value: &str) -> (Option<char>, &str) {
    let quote = value.chars().next().filter(|first| matches!(first, '"' | '\''));
    (quote, &value[quote.map_or(0, char::len_utf8)..])
}

/// Where the quote is that closes what stands before it; the end of the line if none does. A quote behind
/// a backslash and a double one belong to the text, in YAML, JSON or a shell: rather too much is masked.
fn closing(text: &str, quote: char) -> usize {
    let line = text.trim_end_matches(['\n', '\r']);
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let doubled = c == quote && chars.peek().is_some_and(|(_, next)| *next == quote);
        if c == '\\' || doubled {
            chars.next();
        } else if c == quote {
            return at;
        }
    }
    line.len()
}

/// Where the value of the first key for a password begins, with its quote.
fn value_of_secret(text: &str) -> Option<usize> {
    let lower = text.to_ascii_lowercase();
    let mut from = 0;
    while let Some(found) = lower[from..].find("pass") {
        let start = from + found;
        let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let key_end = start + lower[start..].find(|c| !name(c)).unwrap_or(lower.len() - start);
        let tail = &lower[key_end..];
        let quote = tail.strip_prefix(['"', '\'']).unwrap_or(tail);
        if let Some(value) = quote.trim_start().strip_prefix([':', '=']) {
            return Some(lower.len() - value.trim_start_matches(' ').len());
        }
        from = key_end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_named_by_path_and_encrypted_ones_are_none() {
        let text = "all:\n  hosts:\n    n1:\n      ansible_password: hunter2\n      \
                    ansible_become_password: VAULT;abc\n      ansible_ssh_pass: 12345\n      \
                    ansible_become_pass: \"{{ lookup('env', 'P') }}\"\n      \
                    ansible_user: root\n  vars:\n    ansible_ssh_password: !vault |\n      \
                    $ANSIBLE_VAULT;1.1\n";
        let found = passwords(text).unwrap();
        let meant =
            ["all.hosts.n1.ansible_password (line 4)", "all.hosts.n1.ansible_ssh_pass (line 6)"];
        assert_eq!(found.iter().map(|it| it.place.as_str()).collect::<Vec<_>>(), meant);
        assert_eq!(found[1].variable, "ansible_ssh_pass");
    }

    #[test]
    fn a_secret_is_learned_in_whatever_form_it_is_written() {
        let mut secrets = Secrets::default();
        secrets.learn(
            "ansible_password: 12345678\nregistry_secrets: [first-one, {user: second-one}]\n\
             ssl_private_key: |\n  line-of-a-key-1\n  line-of-a-key-2\ntoken_ttl: 3600\n\
             authorization_modes: [Node, RBAC]\nkube_webhook_token_auth: true\n",
        );
        let log = "12345678 first-one second-one\nline-of-a-key-2\nline-of-a-key-1\n";
        assert_eq!(secrets.redact(log), "*** *** ***\n***\n***\n");
        let plain = "3600 s, Node and RBAC, true\n";
        assert_eq!(secrets.redact(plain), plain);
    }

    #[test]
    fn a_secret_with_quotes_is_known_however_it_is_written_again() {
        let mut secrets = Secrets::default();
        let written = "a: {oidc_secret: 'it''s-1'}\nb_token: \"pa\\\"ss\"\n\
                       c_secrets: [\"it's-2\"]\nd_token: \"\\x68unter2\"\n";
        secrets.learn(written);
        let masked = "a: {oidc_secret: '***'}\nb_token: \"***\"\n\
                      c_secrets: [\"***\"]\nd_token: \"***\"\n";
        assert_eq!(secrets.redact(written), masked);
        assert_eq!(secrets.redact("it's-1 it''s-2 pa\"ss hunter2"), "*** *** *** ***");
        assert_eq!(secrets.redact(r#"{"b": "pa\"ss"}"#), r#"{"b": "***"}"#);
        secrets.learn("e_token: '\"q-3\"'\n");
        assert_eq!(secrets.redact(r#"{"b": "\"q-3\""}"#), r#"{"b": "***"}"#);
    }

    #[test]
    fn known_secrets_and_words_behind_keys_are_masked() {
        let mut secrets = Secrets::default();
        secrets
            .learn("a:\n  registry_password: hunter2hunter\n  oidc_secret: hunter2\n  b: plain\n");
        let cases = [
            ("login hunter2hunter plain hunter2", "login *** plain ***"),
            ("ansible_password=abc, x", "ansible_password=***, x"),
            (
                "{\"ansible_become_pass\": \"abc\", \"a\": 1}",
                "{\"ansible_become_pass\": \"***\", \"a\": 1}",
            ),
            ("x --password=abc --passphrase 'q'", "x --password=*** --passphrase 'q'"),
            ("ok: [n1] => passed\nPassword: abc\n", "ok: [n1] => passed\nPassword: ***\n"),
            ("password:", "password:"),
            ("ansible_password: 'it''s-secret'\n", "ansible_password: '***'\n"),
            (r#"{"password": "pa\"ss", "a": "b"}"#, r#"{"password": "***", "a": "b"}"#),
            (r#"{"password": "", "a": "b"}"#, r#"{"password": "", "a": "b"}"#),
            (r#"password: "pa\\", a: "b""#, r#"password: "***", a: "b""#),
            ("password='correct horse' user=x", "password='***' user=x"),
            ("password: '''quoted'''", "password: '***'"),
            ("password: \"goes on\n", "password: \"***\n"),
            ("p\u{e4}ss passwort: \u{e4}b", "p\u{e4}ss passwort: ***"),
        ];
        for (text, masked) in cases {
            assert_eq!(secrets.redact(text), masked);
        }
    }
}
