//! Where a canonical resource is seen: in which part, and which of several.
//!
//! Pure. Source: `resources.md` 2 and 3. A lamp, a cover, a lock and a thermostat are what their
//! profile says they are; every other resource makes a sensor of any device.

use std::collections::BTreeSet;

use fieldgate_core::profile::{Kind, Profile};

use super::super::Part;

/// What of a profile decides where resources are seen.
#[derive(Debug, Default)]
pub(super) struct Places {
    kind: Kind,
    /// The instances that are thermostats: they hold the temperature too.
    thermostats: BTreeSet<u8>,
}

impl Places {
    pub(super) fn new(profile: Option<&Profile>) -> Self {
        let kind = profile.map(|profile| profile.kind).unwrap_or_default();
        let mut thermostats = BTreeSet::new();
        if let (Kind::Thermostat, Some(profile)) = (kind, profile) {
            let bound = profile.resources.iter().filter_map(|resource| resource.canonical());
            let targets = bound.filter(|(row, _, _)| row.name == "target_temperature");
            thermostats = targets.map(|(_, instance, _)| instance).collect();
            if thermostats.is_empty() {
                thermostats.insert(1);
            }
        }
        Self { kind, thermostats }
    }

    /// The parts that there are before anything is known of a resource.
    pub(super) fn given(&self) -> impl Iterator<Item = (Part, u8)> + '_ {
        let switch = (self.kind == Kind::Switch).then_some((Part::Switch, 1));
        let thermostats = self.thermostats.iter().map(|instance| (Part::Thermostat, *instance));
        switch.into_iter().chain(thermostats)
    }

    /// The part that a resource is seen in.
    pub(super) fn find(&self, canonical: &str, instance: u8) -> Option<Part> {
        let is_thermostat = self.thermostats.contains(&instance);
        Some(match canonical {
            "temperature" if is_thermostat => Part::Thermostat,
            "temperature" => Part::Temperature,
            "target_temperature" if is_thermostat => Part::Thermostat,
            "humidity" => Part::Humidity,
            "illuminance" => Part::LightLevel,
            "pressure" => Part::Pressure,
            "battery" => Part::Battery,
            "co2" | "tvoc" | "pm25" => Part::AirQuality,
            "presence" | "move_count" => Part::Presence,
            "open" => Part::OpenClose,
            "vibration" => Part::Vibration,
            "water" => Part::Water,
            "fire" => Part::Fire,
            "carbon_monoxide" => Part::CarbonMonoxide,
            "alarm" => Part::Alarm,
            "button" => Part::Switch,
            "voltage" | "current" | "power" => Part::Power,
            "energy" => Part::Consumption,
            other if self.is_light(other) => Part::Light,
            _ => return None,
        })
    }

    fn is_light(&self, canonical: &str) -> bool {
        match self.kind {
            Kind::Light => matches!(
                canonical,
                "on" | "brightness" | "hue" | "saturation" | "color_xy" | "color_temperature"
            ),
            Kind::Plug => matches!(canonical, "on" | "brightness"),
            Kind::Cover => matches!(canonical, "position" | "tilt"),
            Kind::Lock => canonical == "locked",
            Kind::Thermostat
            | Kind::Switch
            | Kind::Sensor
            | Kind::Gateway
            | Kind::Machine
            | Kind::Other => false,
        }
    }
}
