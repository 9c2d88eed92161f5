//! Profiles: what a device is, which resources it has, and which of them may be written.
//!
//! Pure. Source: `resources.md` 3 and 5. Without a profile a device is a sensor and nothing of it is
//! writable. Absent: JSON, which callers turn into [`Value`] and back. Invariant: what
//! [`Lookup::check`] passes has the own name, unit, type, range and step of its resource.

mod lookup;
mod meet;

pub use lookup::Lookup;
pub use meet::read_value;

use crate::{
    fault::{Code, Fault},
    resource::{self, Canonical, Scale, Type, Value, format_converted},
};

/// Most resources of one device (`limits.resources_per_device_max`).
pub const RESOURCES_MAX: usize = 1_000;
/// Most bytes of one profile in memory.
pub const PROFILE_BYTES_MAX: usize = 256 << 10;
const NAME_BYTES_MAX: usize = 128;
const UNIT_BYTES_MAX: usize = 32;
const OPTIONS_MAX: usize = 100;
/// How many of them an error names.
const OPTIONS_SHOWN: usize = 8;

/// Name, type and range of a resource that a kind writes.
type Template = (&'static str, Type, Option<(f64, f64)>);

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Kind {
    /// A lamp.
    Light,
    /// A switched socket.
    Plug,
    /// A blind, a curtain, a gate.
    Cover,
    /// A door lock.
    Lock,
    /// A controller of heat.
    Thermostat,
    /// Something with buttons.
    Switch,
    /// Something that measures.
    #[default]
    Sensor,
    /// Something that speaks for others.
    Gateway,
    /// A machine.
    Machine,
    /// Anything else.
    Other,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 10] = [
        Self::Light,
        Self::Plug,
        Self::Cover,
        Self::Lock,
        Self::Thermostat,
        Self::Switch,
        Self::Sensor,
        Self::Gateway,
        Self::Machine,
        Self::Other,
    ];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Plug => "plug",
            Self::Cover => "cover",
            Self::Lock => "lock",
            Self::Thermostat => "thermostat",
            Self::Switch => "switch",
            Self::Sensor => "sensor",
            Self::Gateway => "gateway",
            Self::Machine => "machine",
            Self::Other => "other",
        }
    }

    /// The kind of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// What a device of this kind has that can be written, before it says more itself.
    #[must_use]
    pub fn template(self) -> Vec<Resource> {
        let names: &[Template] = match self {
            Self::Light => {
                &[("on", Type::Bool, None), ("brightness", Type::Number, Some((0.0, 1.0)))]
            }
            Self::Plug => &[("on", Type::Bool, None)],
            Self::Cover => &[("position", Type::Number, Some((0.0, 1.0)))],
            Self::Lock => &[("locked", Type::Bool, None)],
            Self::Thermostat => &[("target_temperature", Type::Number, Some((5.0, 35.0)))],
            Self::Switch | Self::Sensor | Self::Gateway | Self::Machine | Self::Other => &[],
        };
        let resource = |(name, value, range): &Template| Resource {
            name: (*name).to_owned(),
            value: *value,
            writable: true,
            min: range.map(|(min, _)| min),
            max: range.map(|(_, max)| max),
            ..Resource::default()
        };
        names.iter().map(resource).collect()
    }
}

/// One resource of a profile, in its own unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// The device's own name of it.
    pub name: String,
    /// The canonical name, where the own one is no alias.
    pub alias_of: Option<String>,
    /// The unit of its values.
    pub unit: Option<String>,
    /// What its values are.
    pub value: Type,
    /// Whether commands may set it.
    pub writable: bool,
    /// Least value.
    pub min: Option<f64>,
    /// Greatest value.
    pub max: Option<f64>,
    /// Values are multiples of it, counted from the least one.
    pub step: Option<f64>,
    /// The only texts that it takes; empty: any.
    pub options: Vec<String>,
}

impl Default for Resource {
    fn default() -> Self {
        Self {
            name: String::new(),
            alias_of: None,
            unit: None,
            value: Type::Number,
            writable: false,
            min: None,
            max: None,
            step: None,
            options: Vec::new(),
        }
    }
}

impl Resource {
    fn byte_len(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let options: usize = self.options.iter().map(|o| size_of::<String>() + o.len()).sum();
        let names = self.name.len() + optional(&self.alias_of) + optional(&self.unit);
        size_of::<Self>() + names + options
    }

    /// The canonical resource that it is, its instance, and the scale to it.
    #[must_use]
    pub fn canonical(&self) -> Option<(&'static Canonical, u8, Scale)> {
        let (_, instance) = resource::split_instance(&self.name);
        if let Some(named) = &self.alias_of {
            let row = resource::canonical(named)?;
            let bound = resource::bind(row.name, self.unit.as_deref(), self.sample())?;
            return Some((row, instance, bound.scale));
        }
        let bound = resource::bind(&self.name, self.unit.as_deref(), self.sample())?;
        Some((bound.row, bound.instance, bound.scale))
    }

    fn sample(&self) -> Value<'static> {
        match self.value {
            Type::Number | Type::Integer => Value::Number(1.0),
            Type::Bool => Value::Bool(true),
            Type::String => Value::Text("x"),
            Type::Json => Value::Other,
        }
    }

    fn validate(&self) -> Result<(), Fault> {
        let bad = |what: &str| Err(bad_value(format!("the resource {:?}: {what}", self.name)));
        if self.name.is_empty()
            || self.name.len() > NAME_BYTES_MAX
            || self.name.chars().any(char::is_control)
        {
            return Err(bad_value(
                "a resource's name is 1 to 128 bytes without control characters",
            ));
        }
        if self.unit.as_ref().is_some_and(|unit| unit.len() > UNIT_BYTES_MAX) {
            return bad("a unit has at most 32 bytes");
        }
        let numbers = [self.min, self.max, self.step];
        if numbers.iter().flatten().any(|number| !number.is_finite()) {
            return bad("min, max and step are finite numbers");
        }
        if numbers.iter().any(Option::is_some) && !self.is_number() {
            return bad("min, max and step belong to numbers");
        }
        if self.value == Type::Integer && numbers.iter().flatten().any(|n| n.fract() != 0.0) {
            return bad("min, max and step of an integer are whole numbers");
        }
        if self.min.zip(self.max).is_some_and(|(min, max)| min > max) {
            return bad("min is above max");
        }
        if self.step.is_some_and(|step| step <= 0.0) {
            return bad("step is above 0");
        }
        if !self.options.is_empty() && self.value != Type::String {
            return bad("options belong to texts");
        }
        if self.options.len() > OPTIONS_MAX {
            return bad("there are at most 100 options");
        }
        if self.options.iter().any(|option| !is_text(option)) {
            return bad("an option has at most 128 bytes and no control characters");
        }
        match &self.alias_of {
            Some(name) if self.canonical().is_none() => {
                bad(&format!("{name:?} is no canonical resource of this type and unit"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn is_number(&self) -> bool {
        matches!(self.value, Type::Number | Type::Integer)
    }

    /// The number that is set for `wanted`: in range, on a step.
    fn number(&self, wanted: f64, clamp: bool) -> Result<f64, Fault> {
        let (min, max) = (self.min.unwrap_or(f64::NEG_INFINITY), self.max.unwrap_or(f64::INFINITY));
        let wanted = if clamp { wanted.max(min).min(max) } else { wanted };
        if !wanted.is_finite() || wanted < min || wanted > max {
            return Err(self.out_of_range());
        }
        let step = if self.value == Type::Integer { self.step.or(Some(1.0)) } else { self.step };
        let Some(step) = step else { return Ok(wanted) };
        let base = if min.is_finite() { min } else { 0.0 };
        let stepped = ((wanted - base) / step).round().mul_add(step, base);
        Ok(if stepped > max { stepped - step } else { stepped })
    }

    fn out_of_range(&self) -> Fault {
        let bound = |number: Option<f64>| number.map_or("any".to_owned(), format_converted);
        let (min, max) = (bound(self.min), bound(self.max));
        let unit = self.unit.as_deref().unwrap_or_default();
        let text = format!("{} is a number from {min} to {max} {unit}", self.name);
        let fault = bad_value(text.trim_end().to_owned()).about(None, &self.name);
        fault.within(self.min, self.max)
    }
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Profile {
    /// What it is.
    pub kind: Kind,
    /// For people.
    pub name: String,
    /// Who made it.
    pub manufacturer: String,
    /// Which one it is.
    pub model: String,
    /// What runs on it.
    pub version: String,
    /// An address of eight bytes that other systems know it by.
    pub unique_id: Option<String>,
    /// Whether a reply alone is taken for the new state.
    pub is_assumed: bool,
    /// Its resources, in the order that it gave.
    pub resources: Vec<Resource>,
}

/// A value that may be sent to a device.
#[derive(Debug, Clone, PartialEq)]
pub enum Checked {
    /// As it was written.
    AsWritten,
    /// Another number: converted, clamped or rounded to a step.
    Number(f64),
    /// Another truth.
    Bool(bool),
}

impl Profile {
    /// Checks the bounds of the whole.
    ///
    /// # Errors
    ///
    /// [`Code::BadValue`] or [`Code::TooLarge`], with the resource that it is about.
    pub fn validate(&self) -> Result<(), Fault> {
        if self.resources.len() > RESOURCES_MAX {
            let text = format!("a profile has at most {RESOURCES_MAX} resources");
            return Err(Fault::new(Code::TooLarge, text));
        }
        let texts = [&self.name, &self.manufacturer, &self.model, &self.version];
        if texts.iter().any(|text| !is_text(text)) {
            return Err(bad_value("the texts of a profile have at most 128 bytes each"));
        }
        if self.unique_id.as_ref().is_some_and(|id| !is_unique_id(id)) {
            let text = "uniqueid is eight bytes in hex, as in 00:11:22:33:44:55:66:77";
            return Err(bad_value(text));
        }
        let byte_len = self.byte_len();
        if byte_len > PROFILE_BYTES_MAX {
            let text = format!("a profile of {byte_len} bytes exceeds {PROFILE_BYTES_MAX}");
            return Err(Fault::new(Code::TooLarge, text));
        }
        let mut names: Vec<&str> = self.resources.iter().map(|r| r.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(*one),
            _ => None,
        }) {
            return Err(bad_value(format!("the resource {twice:?} occurs twice")));
        }
        self.resources.iter().try_for_each(Resource::validate)
    }

    /// About what it costs in memory.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        let texts = [&self.name, &self.manufacturer, &self.model, &self.version];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        let unique_id = self.unique_id.as_ref().map_or(0, String::len);
        let resources: usize = self.resources.iter().map(Resource::byte_len).sum();
        size_of::<Self>() + texts + unique_id + resources
    }
}

impl Resource {
    fn check(&self, value: Value<'_>, scale: Scale, clamp: bool) -> Result<Checked, Fault> {
        let wrong = |what: &str| {
            let fault = bad_value(format!("{} takes {what}", self.name));
            Err(fault.about(None, &self.name).within(self.min, self.max))
        };
        match (self.value, value) {
            (Type::Number | Type::Integer, Value::Number(wanted)) => {
                let own = scale.undo(wanted).ok_or_else(|| self.out_of_range())?;
                let set = self.number(own, clamp)?;
                // The digits stay the sender's where nothing changed.
                let same = scale == Scale::Same && set.to_bits() == wanted.to_bits();
                Ok(if same { Checked::AsWritten } else { Checked::Number(set) })
            }
            (Type::Number | Type::Integer, _) => wrong("a number"),
            (Type::Bool, Value::Bool(truth)) if scale == Scale::Not => Ok(Checked::Bool(!truth)),
            (Type::Bool, Value::Bool(_)) | (Type::Json, _) => Ok(Checked::AsWritten),
            (Type::Bool, _) => wrong("true or false"),
            (Type::String, Value::Text(text)) => {
                if self.options.is_empty() || self.options.iter().any(|option| option == text) {
                    return Ok(Checked::AsWritten);
                }
                let shown: Vec<&str> =
                    self.options.iter().take(OPTIONS_SHOWN).map(|o| &**o).collect();
                let more = if self.options.len() > OPTIONS_SHOWN { " and others" } else { "" };
                wrong(&format!("one of {}{more}", shown.join(", ")))
            }
            (Type::String, _) => wrong("a text"),
        }
    }
}

fn is_text(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}

/// Eight bytes in hex, with a colon between.
fn is_unique_id(id: &str) -> bool {
    let is_byte = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
    id.split(':').count() == 8 && id.split(':').all(is_byte)
}

fn bad_value(text: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(Code::BadValue, text)
}

#[cfg(test)]
mod tests;
