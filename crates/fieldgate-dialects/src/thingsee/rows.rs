//! Which canonical resource is which field of which Thingsee message.
//!
//! Pure. Source: `resources.md` 2, the column "Thingsee". In the order in which an object has them.

use fieldgate_core::resource::Scale;

/// One field of a message.
#[derive(Debug)]
pub(super) struct Row {
    /// The canonical resource.
    pub(super) canonical: &'static str,
    /// The message.
    pub(super) id: u32,
    /// The field.
    pub(super) field: &'static str,
    /// How its value is written.
    pub(super) column: Column,
}

/// How a value is written.
#[derive(Debug)]
pub(super) enum Column {
    /// A number; `scale` leads from the field to the canonical one.
    Number { scale: Scale, whole: bool },
    /// 1 for the truth, or 0 for it.
    Truth { is_one: bool },
    /// A member of an object, by one of these names.
    Member(&'static [&'static str]),
}

const SAME: Column = Column::Number { scale: Scale::Same, whole: false };
const MILLI_G: Column =
    Column::Number { scale: Scale::Linear { factor: 0.009_806_65, offset: 0.0 }, whole: false };
const MILLIMETRES: Column =
    Column::Number { scale: Scale::Linear { factor: 0.001, offset: 0.0 }, whole: true };

const fn row(canonical: &'static str, id: u32, field: &'static str, column: Column) -> Row {
    Row { canonical, id, field, column }
}

pub(super) const ROWS: &[Row] = &[
    row("battery", 1_110, "batl", SAME),
    row("acceleration_x", 1_111, "accx", MILLI_G),
    row("acceleration_y", 1_111, "accy", MILLI_G),
    row("acceleration_z", 1_111, "accz", MILLI_G),
    row("location", 1_210, "lat", Column::Member(&["lat"])),
    row("location", 1_210, "lon", Column::Member(&["lon", "long"])),
    row("presence", 2_100, "state", Column::Truth { is_one: true }),
    row("pressure", 12_100, "airp", SAME),
    row("illuminance", 12_100, "lght", SAME),
    row("temperature", 12_100, "temp", SAME),
    row("humidity", 12_100, "humd", SAME),
    row("open", 12_101, "hall", Column::Truth { is_one: false }),
    row("move_count", 13_100, "moveCount", Column::Number { scale: Scale::Same, whole: true }),
    row("distance", 17_100, "dist", MILLIMETRES),
    row("angle", 18_100, "angle", SAME),
    row("co2", 24_100, "carbonDioxide", SAME),
    row("tvoc", 24_101, "tvoc", SAME),
];
