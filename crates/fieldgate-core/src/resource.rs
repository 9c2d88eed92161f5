//! Resources: the canonical names, their units, and how a device's own name and unit map to them.
//!
//! Pure. Source: `resources.md` 1 and 2. A device's own name, unit and value are stored untouched;
//! this table serves whoever asks by a canonical name, and the vocabularies of other systems.
//! Absent: the columns of a dialect, which its own folder has. Invariant: a canonical name is its own
//! binding.

mod table;
mod unit;

pub use table::Canonical;
pub use unit::{Scale, format_converted};

/// Highest instance that a name may end with (`on.15`).
pub const INSTANCE_MAX: u8 = 15;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// A finite number.
    Number,
    /// A whole number.
    Integer,
    /// True or false.
    Bool,
    /// Text.
    String,
    /// Any JSON value.
    Json,
}

impl Type {
    /// Every type, in the order of the documentation.
    pub const ALL: [Self; 5] = [Self::Number, Self::Integer, Self::Bool, Self::String, Self::Json];

    /// The word in a profile.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Bool => "bool",
            Self::String => "string",
            Self::Json => "json",
        }
    }

    /// The type of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.as_str() == word)
    }
}

/// A value, as far as a binding looks at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A finite number.
    Number(f64),
    /// True or false.
    Bool(bool),
    /// Text.
    Text(&'a str),
    /// An object, a list or null.
    Other,
}

impl Value<'_> {
    /// The value as a number: itself, or text that is one.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok().filter(|number: &f64| number.is_finite()),
            Self::Bool(_) | Self::Other => None,
        }
    }

    /// The value as a truth: itself, 0 and 1, or one of the words for them.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            Self::Number(number) if *number == 0.0 => Some(false),
            Self::Number(number) if *number == 1.0 => Some(true),
            Self::Text("on" | "true" | "1") => Some(true),
            Self::Text("off" | "false" | "0") => Some(false),
            Self::Number(_) | Self::Text(_) | Self::Other => None,
        }
    }

    fn fits(&self, wanted: Type) -> bool {
        match wanted {
            Type::Number | Type::Integer => self.as_number().is_some(),
            Type::Bool => self.as_bool().is_some(),
            Type::String => matches!(self, Self::Text(_)),
            Type::Json => matches!(self, Self::Other),
        }
    }
}

/// Which canonical resource a reading belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// The row of the table.
    pub row: &'static Canonical,
    /// Which of several: 1 unless the name says so.
    pub instance: u8,
    /// From the reading's value to the canonical one.
    pub scale: Scale,
}

/// Splits a final `.1` to `.15` off a name.
#[must_use]
pub fn split_instance(name: &str) -> (&str, u8) {
    let split = name.rsplit_once('.').filter(|(stem, digits)| {
        !stem.is_empty() && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
    });
    split
        .and_then(|(stem, digits)| Some((stem, digits.parse().ok()?)))
        .filter(|(_, instance)| (1..=INSTANCE_MAX).contains(instance))
        .unwrap_or((name, 1))
}

/// Finds the canonical resource of a reading: by its name and unit, where its value fits.
///
/// `unit` is the reading's, else its profile's.
#[must_use]
pub fn bind(name: &str, unit: Option<&str>, value: Value<'_>) -> Option<Bound> {
    let (stem, instance) = split_instance(name);
    // A field of a state reading (`state.2100`) ends like an instance, and is none.
    table::find(name, unit, value).map(|(row, scale)| Bound { row, instance: 1, scale }).or_else(
        || table::find(stem, unit, value).map(|(row, scale)| Bound { row, instance, scale }),
    )
}

/// Finds a canonical resource by its own name alone (the `as` of a profile).
#[must_use]
pub fn canonical(name: &str) -> Option<&'static Canonical> {
    table::ROWS.iter().find(|row| row.name == name)
}

impl Bound {
    /// The canonical number of a reading; nothing where the row holds none.
    #[must_use]
    pub fn number(&self, value: Value<'_>) -> Option<f64> {
        let numeric = matches!(self.row.value, Type::Number | Type::Integer);
        value.as_number().filter(|_| numeric).and_then(|number| self.scale.apply(number))
    }

    /// The canonical truth of a reading; nothing where the row holds none.
    #[must_use]
    pub fn truth(&self, value: Value<'_>) -> Option<bool> {
        let truth = value.as_bool().filter(|_| self.row.value == Type::Bool)?;
        Some(truth != (self.scale == Scale::Not))
    }
}

#[cfg(test)]
mod tests;
