//! Parts: what kinds of lights and sensors apps see of devices, and their addresses.
//!
//! Pure. Source: `resources.md` 2 and 3, `wire.md` 2.6. Invariant: the word of a part never changes,
//! since it is stored; two parts of one device never have the same address.

use fieldgate_core::{
    profile::{Kind, Profile},
    resource::Scale,
};

/// What one light or sensor is, in the order in which new ones get their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A lamp, a plug, a cover or a lock.
    Light,
    /// How warm it is.
    Temperature,
    /// How humid it is.
    Humidity,
    /// How light it is.
    LightLevel,
    /// The pressure of the air.
    Pressure,
    /// How full a battery is.
    Battery,
    /// What is in the air.
    AirQuality,
    /// Whether somebody is there.
    Presence,
    /// Whether a door or a window is open.
    OpenClose,
    /// Whether something shakes.
    Vibration,
    /// Whether there is water.
    Water,
    /// Whether there is fire.
    Fire,
    /// Whether there is carbon monoxide.
    CarbonMonoxide,
    /// Whether there is alarm.
    Alarm,
    /// Buttons.
    Switch,
    /// A controller of heat.
    Thermostat,
    /// Power, voltage and current.
    Power,
    /// Energy.
    Consumption,
}

impl Part {
    /// Every part, in order.
    pub const ALL: [Self; 18] = [
        Self::Light,
        Self::Temperature,
        Self::Humidity,
        Self::LightLevel,
        Self::Pressure,
        Self::Battery,
        Self::AirQuality,
        Self::Presence,
        Self::OpenClose,
        Self::Vibration,
        Self::Water,
        Self::Fire,
        Self::CarbonMonoxide,
        Self::Alarm,
        Self::Switch,
        Self::Thermostat,
        Self::Power,
        Self::Consumption,
    ];

    /// The word by which it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::LightLevel => "lightlevel",
            Self::Pressure => "pressure",
            Self::Battery => "battery",
            Self::AirQuality => "airquality",
            Self::Presence => "presence",
            Self::OpenClose => "openclose",
            Self::Vibration => "vibration",
            Self::Water => "water",
            Self::Fire => "fire",
            Self::CarbonMonoxide => "carbonmonoxide",
            Self::Alarm => "alarm",
            Self::Switch => "switch",
            Self::Thermostat => "thermostat",
            Self::Power => "power",
            Self::Consumption => "consumption",
        }
    }

    /// The part of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.as_str() == word)
    }

    /// Whether apps find it among the lights; else among the sensors.
    #[must_use]
    pub const fn is_light(self) -> bool {
        matches!(self, Self::Light)
    }

    /// The cluster that ends the address of a sensor.
    const fn cluster(self) -> Option<&'static str> {
        Some(match self {
            Self::Light => return None,
            Self::Temperature => "0402",
            Self::Humidity => "0405",
            Self::LightLevel => "0400",
            Self::Pressure => "0403",
            Self::Battery => "0001",
            Self::AirQuality => "fdef",
            Self::Presence => "0406",
            Self::OpenClose => "0006",
            Self::Vibration | Self::Water | Self::Fire | Self::CarbonMonoxide | Self::Alarm => {
                "0500"
            }
            Self::Switch => "1000",
            Self::Thermostat => "0201",
            Self::Power => "0b04",
            Self::Consumption => "0702",
        })
    }

    /// The endpoint of an instance: types that share a cluster stand apart by it.
    #[must_use]
    pub const fn endpoint(self, instance: u8) -> u8 {
        let offset = match self {
            Self::Water => 0x10,
            Self::Fire => 0x20,
            Self::CarbonMonoxide => 0x30,
            Self::Vibration => 0x40,
            Self::Light
            | Self::Temperature
            | Self::Humidity
            | Self::LightLevel
            | Self::Pressure
            | Self::Battery
            | Self::AirQuality
            | Self::Presence
            | Self::OpenClose
            | Self::Alarm
            | Self::Switch
            | Self::Thermostat
            | Self::Power
            | Self::Consumption => 0,
        };
        instance.wrapping_add(offset)
    }

    /// The address of an instance: `aa:bb:cc:dd:ee:ff:gg:hh-EP[-CCCC]`.
    #[must_use]
    pub fn unique_id(self, address: [u8; 8], instance: u8) -> String {
        let bytes = address.map(|byte| format!("{byte:02x}")).join(":");
        let endpoint = self.endpoint(instance);
        match self.cluster() {
            Some(cluster) => format!("{bytes}-{endpoint:02x}-{cluster}"),
            None => format!("{bytes}-{endpoint:02x}"),
        }
    }

    /// The type that apps see. A light is what its profile makes it; `is_clip`: an app made it.
    #[must_use]
    pub fn type_word(self, instance: u8, profile: Option<&Profile>, is_clip: bool) -> &'static str {
        match self {
            Self::Light => profile.map_or("On/Off light", |profile| light_type(profile, instance)),
            Self::Temperature => pick(is_clip, "CLIPTemperature", "ZHATemperature"),
            Self::Humidity => pick(is_clip, "CLIPHumidity", "ZHAHumidity"),
            Self::LightLevel => pick(is_clip, "CLIPLightLevel", "ZHALightLevel"),
            Self::Pressure => pick(is_clip, "CLIPPressure", "ZHAPressure"),
            Self::Battery => pick(is_clip, "CLIPBattery", "ZHABattery"),
            Self::AirQuality => pick(is_clip, "CLIPAirQuality", "ZHAAirQuality"),
            Self::Presence => pick(is_clip, "CLIPPresence", "ZHAPresence"),
            Self::OpenClose => pick(is_clip, "CLIPOpenClose", "ZHAOpenClose"),
            Self::Vibration => pick(is_clip, "CLIPVibration", "ZHAVibration"),
            Self::Water => pick(is_clip, "CLIPWater", "ZHAWater"),
            Self::Fire => pick(is_clip, "CLIPFire", "ZHAFire"),
            Self::CarbonMonoxide => pick(is_clip, "CLIPCarbonMonoxide", "ZHACarbonMonoxide"),
            Self::Alarm => pick(is_clip, "CLIPAlarm", "ZHAAlarm"),
            Self::Switch => pick(is_clip, "CLIPSwitch", "ZHASwitch"),
            Self::Thermostat => pick(is_clip, "CLIPThermostat", "ZHAThermostat"),
            Self::Power => pick(is_clip, "CLIPPower", "ZHAPower"),
            Self::Consumption => pick(is_clip, "CLIPConsumption", "ZHAConsumption"),
        }
    }
}

const fn pick(is_clip: bool, clip: &'static str, other: &'static str) -> &'static str {
    if is_clip { clip } else { other }
}

/// What a light of this profile is by what it can do.
fn light_type(profile: &Profile, instance: u8) -> &'static str {
    let (mut dims, mut has_temperature, mut has_color) = (false, false, false);
    let bound = profile.resources.iter().filter_map(|resource| resource.canonical());
    for (row, _, _) in bound.filter(|(_, of, _): &(_, u8, Scale)| *of == instance) {
        match row.name {
            "brightness" => dims = true,
            "color_temperature" => has_temperature = true,
            "hue" | "saturation" | "color_xy" => has_color = true,
            _ => (),
        }
    }
    match profile.kind {
        Kind::Cover => "Window covering device",
        Kind::Lock => "Door Lock",
        Kind::Plug if dims => "Dimmable plug-in unit",
        Kind::Plug => "On/Off plug-in unit",
        Kind::Light
        | Kind::Thermostat
        | Kind::Switch
        | Kind::Sensor
        | Kind::Gateway
        | Kind::Machine
        | Kind::Other => match (has_color, has_temperature, dims) {
            (true, true, _) => "Extended color light",
            (true, false, _) => "Color light",
            (false, true, _) => "Color temperature light",
            (false, false, true) => "Dimmable light",
            (false, false, false) => "On/Off light",
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use fieldgate_core::{
        profile::Resource,
        resource::{INSTANCE_MAX, Type},
    };

    use super::*;

    const ADDRESS: [u8; 8] = [0x0a, 0x20, 0x15, 0x96, 0xf3, 0xd2, 0x04, 0x29];

    #[test]
    fn words_read_back_and_the_order_is_that_of_the_list() {
        for part in Part::ALL {
            assert_eq!(Part::parse(part.as_str()), Some(part));
        }
        assert!(Part::ALL.is_sorted());
        assert_eq!(Part::parse("Light"), None);
    }

    #[test]
    fn an_address_has_the_endpoint_and_the_cluster() {
        for (part, instance, end) in [
            (Part::Temperature, 1, "-01-0402"),
            (Part::Light, 2, "-02"),
            (Part::Water, 1, "-11-0500"),
            (Part::Alarm, 15, "-0f-0500"),
            (Part::Vibration, 3, "-43-0500"),
            (Part::AirQuality, 10, "-0a-fdef"),
        ] {
            let id = part.unique_id(ADDRESS, instance);
            assert_eq!(id, format!("0a:20:15:96:f3:d2:04:29{end}"));
        }
    }

    #[test]
    fn no_two_parts_share_an_address() {
        let mut seen = HashSet::new();
        for part in Part::ALL {
            for instance in 1..=INSTANCE_MAX {
                assert!(seen.insert(part.unique_id(ADDRESS, instance)), "{part:?} {instance}");
            }
        }
    }

    #[test]
    fn a_light_is_what_it_can_do() {
        let of = |kind, names: &[&str]| {
            let resource = |name: &&str| Resource {
                name: (*name).to_owned(),
                value: match *name {
                    "on" => Type::Bool,
                    "color_xy" => Type::Json,
                    _ => Type::Number,
                },
                ..Resource::default()
            };
            let resources = names.iter().map(resource).collect();
            let profile = Profile { kind, resources, ..Profile::default() };
            Part::Light.type_word(1, Some(&profile), false)
        };
        assert_eq!(of(Kind::Light, &["on"]), "On/Off light");
        assert_eq!(of(Kind::Light, &["on", "level", "ct.2"]), "Dimmable light");
        assert_eq!(of(Kind::Light, &["on", "bri", "ct"]), "Color temperature light");
        assert_eq!(of(Kind::Light, &["on", "bri", "color_xy"]), "Color light");
        assert_eq!(of(Kind::Light, &["on", "bri", "hue", "sat", "ct"]), "Extended color light");
        assert_eq!(of(Kind::Plug, &["on"]), "On/Off plug-in unit");
        assert_eq!(of(Kind::Plug, &["on", "brightness"]), "Dimmable plug-in unit");
        assert_eq!(of(Kind::Cover, &["position"]), "Window covering device");
        assert_eq!(of(Kind::Lock, &["locked"]), "Door Lock");
        assert_eq!(Part::Water.type_word(1, None, false), "ZHAWater");
        assert_eq!(Part::Water.type_word(1, None, true), "CLIPWater");
    }
}
