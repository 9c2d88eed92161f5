//! Data to stdout, and what a terminal makes nicer: colours, a table that redraws itself.
//!
//! Invariant: nothing here prints an escape sequence unless stdout is a terminal.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;

/// Whether a person watches.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether colours are wanted (`NO_COLOR`, <https://no-color.org>).
pub(crate) fn has_color() -> bool {
    is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes one line of data.
pub(crate) fn line(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.write_all(b"\n")?;
    stdout.flush()
}

/// Writes one line for people beside the data.
pub(crate) fn note(text: &str) {
    // Nothing is left to tell a failure of stderr to.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes rows under their headings, each column as wide as its widest cell.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    for row in aligned(headings, rows) {
        line(&row)?;
    }
    Ok(())
}

/// The lines of a table.
pub(crate) fn aligned(headings: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|h| h.len())).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..headings.len()).map(width).collect();
    let render = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<_> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let head = render(&mut headings.iter().copied());
    let body = rows.iter().map(|row| render(&mut row.iter().map(String::as_str)));
    std::iter::once(head).chain(body).collect()
}

/// Lines that are drawn over themselves.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    drawn_count: usize,
}

impl Screen {
    /// Replaces what was drawn before. Lines longer than the terminal is wide are cut by it.
    pub(crate) fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let mut out = String::new();
        if self.drawn_count > 0 {
            out.push_str(&format!("\x1b[{}A", self.drawn_count));
        }
        // No wrapping meanwhile: a wrapped line would shift everything that is drawn later.
        out.push_str("\r\x1b[J\x1b[?7l");
        for line in lines {
            out.push_str(line);
            out.push('\n');
        }
        out.push_str("\x1b[?7h");
        self.drawn_count = lines.len();
        let mut stdout = io::stdout().lock();
        stdout.write_all(out.as_bytes())?;
        stdout.flush()
    }
}

/// A text field of a JSON object, for a table.
pub(crate) fn cell(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let words: Vec<_> = items
                .iter()
                .map(|i| i.as_str().map_or_else(|| i.to_string(), str::to_owned))
                .collect();
            words.join(" ")
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["sensor-001".to_owned(), "x".to_owned()]];
        assert_eq!(aligned(&["ID", "KIND"], &rows), ["ID          KIND", "sensor-001  x"]);
    }
}
