//! Asking a person: yes or no, or for a secret that the terminal does not show.
//!
//! Without a terminal nothing is asked: a flag says it instead. Invariant: the terminal is left as it
//! was found, also when the answer is Ctrl-C.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::failure::{Exit, Failure};

/// Longest secret that is read, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Asks before something is destroyed. Without a terminal only `--yes` will do.
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage(format!("{question} There is no terminal to ask on"))
            .hint("--yes answers it"));
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, "cancelled", "nothing was changed"))
}

/// Reads a secret from stdin; one final newline does not belong to it.
pub(crate) fn secret_from_stdin() -> Result<String, Failure> {
    let mut secret = String::new();
    let read = io::stdin().lock().take(SECRET_BYTES_MAX).read_to_string(&mut secret);
    read.map_err(|error| Failure::usage(format!("stdin holds no secret: {error}")))?;
    if secret.ends_with('\n') {
        secret.pop();
        if secret.ends_with('\r') {
            secret.pop();
        }
    }
    Ok(secret)
}

/// A new password: from stdin, or asked for twice on a terminal.
pub(crate) fn new_password(from_stdin: bool) -> Result<String, Failure> {
    if from_stdin {
        return secret_from_stdin();
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("a password is needed, and there is no terminal to ask on")
            .hint("--password-stdin takes it from stdin"));
    }
    let password = hidden("Password: ")?;
    if password == hidden("Once more: ")? {
        return Ok(password);
    }
    Err(Failure::usage("the two passwords differ: nothing was changed"))
}

/// The terminal's modes as they were found; restored when dropped.
struct Modes(Termios);

impl Drop for Modes {
    fn drop(&mut self) {
        // The terminal is gone if this fails; then there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Reads one line that is not shown. Ctrl-C ends it as a signal would, but only after the terminal is
/// itself again.
fn hidden(question: &str) -> Result<String, Failure> {
    let found = tcgetattr(io::stdin()).map_err(io::Error::from)?;
    let mut quiet = found.clone();
    quiet.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    let restored = Modes(found);
    tcsetattr(io::stdin(), OptionalActions::Flush, &quiet).map_err(io::Error::from)?;
    let mut stderr = io::stderr().lock();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let typed = typed_line(io::stdin().lock());
    drop(restored);
    writeln!(stderr)?;
    typed
}

/// What a person typed up to Enter, with backspace obeyed. Ctrl-C, or Ctrl-D before anything, ends.
fn typed_line(input: impl BufRead) -> Result<String, Failure> {
    let mut line = Vec::new();
    for byte in input.bytes().take(1_024) {
        match byte? {
            b'\r' | b'\n' => break,
            3 => return Err(Failure::interrupted()),
            4 if line.is_empty() => return Err(Failure::interrupted()),
            8 | 127 => {
                // A character may be several bytes; those that continue one go with it.
                while line.pop().is_some_and(|byte: u8| byte & 0xC0 == 0x80) {}
            }
            byte => line.push(byte),
        }
    }
    String::from_utf8(line).map_err(|_| Failure::usage("a password is UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backspace_takes_a_character_and_ctrl_c_everything() {
        let typed = |bytes: &[u8]| typed_line(bytes);
        assert_eq!(typed(b"secret\r").unwrap(), "secret");
        assert_eq!(typed("ab\u{e4}\u{7f}c\n".as_bytes()).unwrap(), "abc");
        assert_eq!(typed(b"\x7fa\n").unwrap(), "a");
        assert_eq!(typed(b"abc\x03").unwrap_err(), Failure::interrupted());
        assert_eq!(typed(b"\x04").unwrap_err(), Failure::interrupted());
    }
}
