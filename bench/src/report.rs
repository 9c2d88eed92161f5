//! What was measured, as a Markdown table with the budget beside each figure.
//!
//! Invariant: a figure without a budget never counts as met or missed.

use std::io::Write as _;

/// A bound from `architecture.md`, "Performance is designed in".
#[derive(Debug, Clone, Copy)]
pub(crate) enum Budget {
    /// Only stated.
    None,
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

/// Collects rows and prints each as it comes.
#[derive(Debug, Default)]
pub(crate) struct Report {
    text: String,
    missed_count: usize,
}

impl Report {
    /// Starts a section with a table of its own.
    pub(crate) fn section(&mut self, title: &str) {
        self.line(&format!(
            "\n### {title}\n\n| what | figure | unit | budget | |\n| --- | ---: | --- | --- | --- |"
        ));
    }

    /// Adds one figure.
    pub(crate) fn row(&mut self, what: &str, figure: f64, unit: &str, budget: Budget) {
        let (bound, met) = match budget {
            Budget::None => (String::new(), None),
            Budget::AtMost(max) => (format!("≤ {max}"), Some(figure <= max)),
            Budget::AtLeast(min) => (format!("≥ {min}"), Some(figure >= min)),
        };
        self.missed_count += usize::from(met == Some(false));
        let verdict = match met {
            None => "",
            Some(true) => "met",
            Some(false) => "**missed**",
        };
        let figure = match figure.abs() {
            size if size >= 1_000.0 => format!("{figure:.0}"),
            size if size >= 10.0 => format!("{figure:.1}"),
            _ => format!("{figure:.3}"),
        };
        self.line(&format!("| {what} | {figure} | {unit} | {bound} | {verdict} |"));
    }

    /// Adds a sentence.
    pub(crate) fn note(&mut self, text: &str) {
        self.line(&format!("\n{text}"));
    }

    /// Ends with the number of budgets missed.
    pub(crate) fn finish(mut self) -> String {
        self.note(&format!("Budgets missed: {}.", self.missed_count));
        self.text
    }

    fn line(&mut self, line: &str) {
        // A closed pipe must not end the measurement; the text is kept.
        drop(writeln!(std::io::stdout().lock(), "{line}"));
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// The value below which `share` of the sorted `values` lie.
pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// The middle value.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    percentile(&values, 0.5)
}
