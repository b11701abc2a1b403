//! How commands fail: words for a person, a code for a script.

use std::{fmt::Display, io, process::ExitCode};

use tonic::Code;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    words: String,
}

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const REFUSED: u8 = 3;
const UNREACHABLE: u8 = 4;

impl Failure {
    /// It failed.
    pub fn new(words: impl Display) -> Self {
        Self { code: FAILED, words: words.to_string() }
    }

    /// It was asked wrongly.
    pub(super) fn usage(words: impl Display) -> Self {
        Self { code: USAGE, words: words.to_string() }
    }

    /// Nobody is there to be asked.
    pub(super) fn unreachable(words: impl Display) -> Self {
        Self { code: UNREACHABLE, words: words.to_string() }
    }

    /// The same, with the file that it is about.
    pub(super) fn of(self, file: impl Display) -> Self {
        Self { words: format!("{file}: {}", self.words), ..self }
    }

    /// Tells the person at the terminal.
    pub fn tell(&self) {
        if !self.words.is_empty() {
            eprintln!("rehull: {}", self.words);
        }
    }

    /// The code for the shell.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl From<io::Error> for Failure {
    /// Who reads our output may stop reading: that is no failure, and nobody is left to be told.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { code: 0, words: String::new() },
            _ => Self::new(error),
        }
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let code = match status.code() {
            Code::FailedPrecondition | Code::InvalidArgument => REFUSED,
            Code::Unavailable => UNREACHABLE,
            _ => FAILED,
        };
        Self { code, words: status.message().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_goes_away_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.code, failure.words.as_str()), (0, ""));
        assert_eq!(Failure::from(tonic::Status::failed_precondition("no")).code, REFUSED);
        assert_eq!(Failure::from(tonic::Status::unavailable("gone")).code, UNREACHABLE);
    }
}
