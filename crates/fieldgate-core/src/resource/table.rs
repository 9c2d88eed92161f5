//! The rows, in the order of `resources.md` 2.

use super::{
    Type, Value,
    unit::{Scale, between},
};

/// One canonical resource.
#[derive(Debug, PartialEq)]
pub struct Canonical {
    /// Its name.
    pub name: &'static str,
    /// Its unit; empty: none.
    pub unit: &'static str,
    /// What its values are.
    pub value: Type,
    aliases: &'static [Alias],
}

/// Another name. It fits where the reading has its unit, or none.
#[derive(Debug, PartialEq)]
struct Alias {
    name: &'static str,
    /// The unit that a value has under this name; empty: the canonical one.
    unit: &'static str,
    /// The name alone says nothing: the unit has to be there.
    needs_unit: bool,
    not: bool,
}

const fn alias(name: &'static str) -> Alias {
    in_unit(name, "")
}

const fn in_unit(name: &'static str, unit: &'static str) -> Alias {
    Alias { name, unit, needs_unit: false, not: false }
}

const fn row(
    name: &'static str,
    unit: &'static str,
    value: Type,
    aliases: &'static [Alias],
) -> Canonical {
    Canonical { name, unit, value, aliases }
}

const HALL: Alias = Alias { name: "hall", unit: "", needs_unit: false, not: true };
const VIBRATION: Alias = Alias { name: "vibration", unit: "mm/s", needs_unit: true, not: false };

pub(super) const ROWS: &[Canonical] = &[
    row("temperature", "Cel", Type::Number, &[alias("temp")]),
    row("humidity", "%", Type::Number, &[alias("rh"), alias("humid"), alias("humd")]),
    row("illuminance", "lx", Type::Number, &[alias("lght"), alias("lux")]),
    row("pressure", "Pa", Type::Number, &[alias("airp")]),
    row("battery", "%", Type::Number, &[alias("batl"), alias("bat")]),
    row("co2", "ppm", Type::Number, &[alias("carbonDioxide")]),
    row("tvoc", "ppb", Type::Number, &[alias("voc")]),
    row("pm25", "ug/m3", Type::Number, &[]),
    row("presence", "", Type::Bool, &[alias("occupancy"), alias("motion"), alias("state.2100")]),
    row("move_count", "", Type::Integer, &[]),
    row("open", "", Type::Bool, &[alias("door"), alias("window"), HALL]),
    row("vibration", "", Type::Bool, &[]),
    row("vibration_velocity", "mm/s", Type::Number, &[VIBRATION]),
    row("water", "", Type::Bool, &[alias("leak")]),
    row("fire", "", Type::Bool, &[alias("smoke")]),
    row("carbon_monoxide", "", Type::Bool, &[]),
    row("alarm", "", Type::Bool, &[]),
    row("button", "", Type::Integer, &[alias("buttonevent")]),
    row("on", "", Type::Bool, &[alias("switch"), alias("relay")]),
    row("brightness", "", Type::Number, &[alias("level"), in_unit("bri", "1/255")]),
    row("hue", "deg", Type::Number, &[]),
    row("saturation", "", Type::Number, &[in_unit("sat", "1/255")]),
    row("color_xy", "", Type::Json, &[alias("xy")]),
    row("color_temperature", "K", Type::Number, &[in_unit("ct", "mired")]),
    row("position", "", Type::Number, &[]),
    row("tilt", "", Type::Number, &[]),
    row("locked", "", Type::Bool, &[alias("lock")]),
    row("target_temperature", "Cel", Type::Number, &[alias("setpoint")]),
    row("valve", "", Type::Number, &[]),
    row("voltage", "V", Type::Number, &[]),
    row("current", "A", Type::Number, &[]),
    row("power", "W", Type::Number, &[]),
    row("energy", "Wh", Type::Number, &[alias("consumption")]),
    row("distance", "m", Type::Number, &[in_unit("dist", "mm")]),
    row("angle", "deg", Type::Number, &[]),
    row("acceleration_x", "m/s2", Type::Number, &[in_unit("accx", "mG")]),
    row("acceleration_y", "m/s2", Type::Number, &[in_unit("accy", "mG")]),
    row("acceleration_z", "m/s2", Type::Number, &[in_unit("accz", "mG")]),
    row("location", "", Type::Json, &[alias("geo")]),
    row("rotation", "1/min", Type::Number, &[alias("rpm")]),
    row("speed", "m/s", Type::Number, &[]),
    row("signal", "dBm", Type::Number, &[alias("rssiDbm"), alias("cellRssi")]),
];

/// The row that a name, a unit and a value fit, and the scale to it.
pub(super) fn find(
    name: &str,
    unit: Option<&str>,
    value: Value<'_>,
) -> Option<(&'static Canonical, Scale)> {
    ROWS.iter().filter(|row| value.fits(row.value)).find_map(|row| {
        let own = same(name, row.name).then(|| between(unit.unwrap_or(row.unit), row.unit));
        let own = own.flatten();
        own.or_else(|| row.aliases.iter().find_map(|alias| alias.scale(row, name, unit)))
            .map(|scale| (row, scale))
    })
}

impl Alias {
    fn scale(&self, row: &Canonical, name: &str, unit: Option<&str>) -> Option<Scale> {
        if !same(name, self.name) || (self.needs_unit && unit != Some(self.unit)) {
            return None;
        }
        if self.not {
            return unit.is_none().then_some(Scale::Not);
        }
        let implied = if self.unit.is_empty() { row.unit } else { self.unit };
        between(unit.unwrap_or(implied), row.unit)
    }
}

/// Tells whether two names are the same but for case, `_` and `-`.
fn same(left: &str, right: &str) -> bool {
    left.len().abs_diff(right.len()) <= right.len() && plain(left).eq(plain(right))
}

/// The bytes of a name that tell it from others.
fn plain(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|byte| !matches!(byte, b'_' | b'-')).map(|byte| byte.to_ascii_lowercase())
}
