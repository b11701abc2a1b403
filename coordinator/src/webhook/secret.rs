//! What both sides know, and how a message is signed with it.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use ring::hmac;

/// How the text of a secret begins that others than we can use, too.
const PREFIX: &str = "whsec_";

/// Shortest secret, in bytes: less could be guessed.
const BYTES_MIN: usize = 16;

/// A key. It can neither be printed nor stored.
#[derive(Clone)]
pub struct Secret(hmac::Key);

/// A secret cannot be used. Nothing of it is said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its file cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What follows the prefix is no base64.
    #[error("what follows {PREFIX} is not base64")]
    Base64,
    /// It could be guessed.
    #[error("the secret has less than {BYTES_MIN} bytes")]
    Short,
}

impl Secret {
    /// From a file: `whsec_` and base64, or any other text, which is the key itself.
    ///
    /// # Errors
    /// If it cannot be read, or is too short.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::of(std::fs::read_to_string(path)?.trim())
    }

    /// From its text.
    ///
    /// # Errors
    /// If it is too short, or not base64 behind its prefix.
    pub fn of(text: &str) -> Result<Self, Error> {
        let key = match text.strip_prefix(PREFIX) {
            Some(base64) => BASE64.decode(base64).map_err(|_| Error::Base64)?,
            None => text.as_bytes().to_vec(),
        };
        match key.len() < BYTES_MIN {
            true => Err(Error::Short),
            false => Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key))),
        }
    }

    /// The value of the header `webhook-signature`: HMAC-SHA256 over id, time and body.
    pub(super) fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", BASE64.encode(context.sign()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn signatures_are_those_that_libraries_of_receivers_expect() {
        let secret = Secret::of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
        let signed = secret.sign(id, 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let same = Secret::of("a plain secret of enough bytes").unwrap();
        assert_ne!(same.sign(id, 1_614_265_330, body), signed);
    }

    #[test]
    fn what_can_be_guessed_or_is_broken_is_refused_without_a_word_of_it() {
        for (text, words) in [("", "less than"), ("hunter2", "less than"), ("whsec_hunter2!", "64")]
        {
            let Err(error) = Secret::of(text) else { panic!("{text:?} was taken") };
            let error = error.to_string();
            assert!(error.contains(words) && !error.contains("hunter"), "{error}");
        }
    }
}
