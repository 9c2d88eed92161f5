//! Units: from one that a device may use to the canonical one of a row, and numbers that were
//! converted.

/// How a value becomes the canonical one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// It is the canonical one: its digits stay the sender's.
    Same,
    /// Times `factor`, plus `offset`.
    Linear {
        /// What one unit is in canonical ones.
        factor: f64,
        /// What zero is.
        offset: f64,
    },
    /// This divided by it (mired).
    Inverse(f64),
    /// The other truth (`hall`: 0 is open).
    Not,
}

impl Scale {
    pub(super) const fn factor(factor: f64) -> Self {
        Self::Linear { factor, offset: 0.0 }
    }

    /// To the canonical number; nothing where there is none.
    #[must_use]
    pub fn apply(self, number: f64) -> Option<f64> {
        let converted = match self {
            Self::Same => number,
            Self::Linear { factor, offset } => number.mul_add(factor, offset),
            Self::Inverse(of) => of / number,
            Self::Not => return None,
        };
        converted.is_finite().then_some(converted)
    }

    /// Back from the canonical number.
    #[must_use]
    pub fn undo(self, number: f64) -> Option<f64> {
        let own = match self {
            Self::Same => number,
            Self::Linear { factor, offset } => (number - offset) / factor,
            Self::Inverse(of) => of / number,
            Self::Not => return None,
        };
        own.is_finite().then_some(own)
    }
}

/// The scale from `unit` to the canonical unit `to`; nothing where the two do not fit.
pub(super) fn between(unit: &str, to: &str) -> Option<Scale> {
    if unit == to {
        return Some(Scale::Same);
    }
    Some(match (unit, to) {
        ("C" | "°C" | "degC", "Cel") | ("%RH" | "%EL", "%") => Scale::Same,
        ("F" | "°F", "Cel") => Scale::Linear { factor: 5.0 / 9.0, offset: -160.0 / 9.0 },
        ("K", "Cel") => Scale::Linear { factor: 1.0, offset: -273.15 },
        ("hPa" | "mbar", "Pa") => Scale::factor(100.0),
        ("kPa", "Pa") | ("kW", "W") | ("kWh", "Wh") => Scale::factor(1_000.0),
        ("bar", "Pa") => Scale::factor(100_000.0),
        ("mV", "V") | ("mA", "A") | ("mm", "m") => Scale::factor(0.001),
        ("cm", "m") => Scale::factor(0.01),
        ("mG", "m/s2") => Scale::factor(0.009_806_65),
        ("mired", "K") => Scale::Inverse(1e6),
        ("1/255", "") => Scale::factor(1.0 / 255.0),
        _ => return None,
    })
}

/// A converted number as text: nine significant digits, no `.0`, no exponent within sight.
#[must_use]
pub fn format_converted(number: f64) -> String {
    let rounded: f64 = format!("{number:.8e}").parse().unwrap_or(number);
    // No minus in front of nothing.
    let rounded = if rounded == 0.0 { 0.0 } else { rounded };
    format!("{rounded}")
}
