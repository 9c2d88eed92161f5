//! The ids of Thingsee messages, with their fields and units: data, and how to find in it.
//!
//! Pure. Source: `wire.md` 4.3 and 4.4. Absent: fields without a published name. Nothing here decides
//! what is taken: ids and fields that are not listed are kept as they came. Invariant: in the order of
//! ids, each once.

/// One id.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// `tsmId`: the profile times 1000, and the number of the data in it.
    pub id: u32,
    /// What it is about.
    pub about: &'static str,
    /// Its own fields, without the header.
    pub fields: &'static [Field],
}

/// One field of an id.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// Its key.
    pub name: &'static str,
    /// The unit of its value; empty: none.
    pub unit: &'static str,
}

const fn kind(id: u32, about: &'static str, fields: &'static [Field]) -> Kind {
    Kind { id, about, fields }
}

const fn of(name: &'static str) -> Field {
    Field { name, unit: "" }
}

const fn in_unit(name: &'static str, unit: &'static str) -> Field {
    Field { name, unit }
}

impl Kind {
    /// Its field of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// The kind of messages that has this id.
#[must_use]
pub fn find(id: u32) -> Option<&'static Kind> {
    KINDS.binary_search_by_key(&id, |kind| kind.id).ok().and_then(|at| KINDS.get(at))
}

/// What the number in `tsmEv` stands for.
#[must_use]
pub fn event(number: i32) -> Option<&'static str> {
    EVENTS.iter().find(|(known, _)| *known == number).map(|(_, about)| *about)
}

/// Every number of `tsmEv`, and why a message was sent.
pub const EVENTS: &[(i32, &str)] = &[
    (0, "none"),
    (7, "state change"),
    (8, "key, or a reactive event"),
    (9, "threshold"),
    (10, "timed"),
    (11, "power on"),
    (12, "power off"),
    (13, "controlled reset"),
    (14, "uncontrolled reset"),
    (15, "firmware updated"),
    (16, "configuration changed"),
    (17, "network connected"),
    (18, "network disconnected"),
    (19, "request for assistance"),
    (20, "answer to a request for assistance"),
    (21, "power on requested"),
    (22, "power off requested"),
    (23, "reset requested"),
    (25, "firmware update requested"),
    (26, "configuration update requested"),
    (27, "diagnostics requested"),
    (28, "diagnostics"),
    (29, "error diagnostics"),
    (30, "configuration request"),
    (31, "configuration response"),
    (32, "information request"),
    (33, "information response"),
    (34, "timed diagnostics"),
    (35, "command request"),
    (36, "command response"),
];

/// Every id.
pub const KINDS: &[Kind] = &[
    kind(1100, "system information", &[of("swVersion"), of("modelCode"), of("psn")]),
    kind(1101, "request for information", &[of("requestTsmId")]),
    kind(1102, "information unavailable", &[of("requestTsmId")]),
    kind(1110, "battery", &[in_unit("batl", "%"), of("chrg")]),
    kind(
        1111,
        "orientation",
        &[in_unit("accx", "mG"), in_unit("accy", "mG"), in_unit("accz", "mG")],
    ),
    kind(1112, "uptime", &[in_unit("uptime", "s")]),
    kind(
        1200,
        "neighbour, by its number in the mesh",
        &[
            of("wpnode"),
            of("rssi"),
            in_unit("rssiDbm", "dBm"),
            of("neighNodeInfo"),
            of("neighRadioPower"),
            in_unit("neighRadioPowerDbm", "dBm"),
        ],
    ),
    kind(1201, "request for the tuid of a node", &[of("wpnode")]),
    kind(
        1202,
        "neighbour, by its tuid",
        &[
            of("tuid"),
            of("rssi"),
            in_unit("rssiDbm", "dBm"),
            of("neighNodeInfo"),
            of("neighRadioPower"),
            in_unit("neighRadioPowerDbm", "dBm"),
        ],
    ),
    kind(1203, "request for the tuid of a Bluetooth id", &[of("btid")]),
    kind(1205, "request for the Bluetooth id of a tuid", &[of("tuid")]),
    kind(1206, "beacon configuration", &[]),
    kind(1207, "beacon configuration", &[]),
    kind(1208, "beacon configuration", &[]),
    kind(1210, "location by cell", &[in_unit("lat", "deg"), in_unit("lon", "deg"), of("lacr")]),
    kind(
        1211,
        "cell",
        &[
            in_unit("cellRsrp", "dBm"),
            in_unit("cellRsrq", "dB"),
            in_unit("cellSinr", "dB"),
            in_unit("cellRssi", "dBm"),
            in_unit("cellRscp", "dBm"),
            in_unit("cellEcn0", "dB"),
            of("cellLac"),
            of("cellId"),
            of("cellTac"),
            of("cellRat"),
        ],
    ),
    kind(
        1212,
        "subscriber and operator",
        &[of("imei"), of("imsi"), of("mcc_mnc"), of("operatorName")],
    ),
    kind(
        1220,
        "mesh node",
        &[
            of("nodeAccessCycle"),
            of("nodeRole"),
            of("nodeVoltage"),
            of("nodeMaxBufferUsage"),
            of("nodeAverageBufferUsage"),
            of("nodeMemAllocFails"),
            of("nodeScannings"),
            of("nodeDroppedPackets"),
            of("nodeDutyCycle"),
            of("nodeCurrentAntenna"),
        ],
    ),
    kind(1221, "scratchpad", &[of("scratchpadSeqNumber")]),
    kind(
        1222,
        "mesh traffic",
        &[
            of("nodeClusterChannel"),
            of("nodeChannelReliability"),
            of("nodeRxAmount"),
            of("nodeTxAmount"),
            of("nodeAlohaRxRatio"),
            of("nodeReservedRxSuccessRatio"),
        ],
    ),
    kind(1300, "firmware update", &[]),
    kind(1301, "firmware update", &[]),
    kind(1302, "firmware update over the mesh", &[]),
    kind(1303, "status of a firmware update", &[of("result"), of("resultReason")]),
    kind(1312, "binary", &[of("binaryType"), of("binaryVersion")]),
    kind(1313, "hardware", &[of("hwid")]),
    kind(1400, "diagnostics", &[of("diagGroup"), of("diagType"), of("diagData")]),
    kind(
        1401,
        "request for diagnostics",
        &[of("diagGroup"), of("diagLevel"), of("diagExpiry"), of("diagInterval")],
    ),
    kind(1402, "remote command", &[of("command"), of("payload"), of("result")]),
    kind(1403, "error", &[of("errorType"), of("errorCause")]),
    kind(1404, "request for a reset", &[]),
    kind(
        1500,
        "measurement and report intervals",
        &[in_unit("measurementInterval", "s"), in_unit("reportInterval", "s")],
    ),
    kind(1501, "node role", &[of("nodeRole")]),
    kind(1502, "access cycle", &[of("nodeAccessCycle")]),
    kind(1503, "battery profile", &[of("profileId")]),
    kind(1504, "storage mode", &[of("mode")]),
    kind(1505, "LED", &[of("profileId"), in_unit("duration", "s")]),
    kind(1600, "ping", &[of("wpnode")]),
    kind(2100, "occupancy", &[of("state")]),
    kind(2101, "jam", &[of("state")]),
    kind(3100, "edge core state", &[of("state")]),
    kind(3200, "edge core synchronisation", &[]),
    kind(3300, "edge core statistics", &[]),
    kind(3400, "part of something binary", &[of("index"), of("count"), of("checksum")]),
    kind(
        11200,
        "heartbeats, summary",
        &[in_unit("slotInterval", "s"), of("slotBitCount"), of("heartbeats")],
    ),
    kind(
        11201,
        "heartbeat, change of one device",
        &[of("tuid"), in_unit("slotInterval", "s"), of("slotBitCount"), of("slotBits")],
    ),
    kind(11210, "heartbeat configuration", &[of("instantMode"), of("updateSinkCost")]),
    kind(11211, "request for a summary of heartbeats", &[]),
    kind(11310, "raw packet of the mesh", &[]),
    kind(11311, "raw packet of the mesh", &[]),
    kind(11312, "raw packet of the mesh", &[]),
    kind(11320, "configuration of an application", &[]),
    kind(11500, "second MQTT link", &[]),
    kind(11501, "second MQTT link", &[]),
    kind(
        12100,
        "environment",
        &[
            in_unit("airp", "Pa"),
            in_unit("lght", "lx"),
            in_unit("temp", "Cel"),
            in_unit("humd", "%"),
        ],
    ),
    kind(12101, "magnetic switch", &[of("hall"), of("hallCount")]),
    kind(12102, "resistance", &[of("resistance")]),
    kind(12200, "environment configuration", &[of("mode")]),
    kind(12210, "environment hysteresis", &[]),
    kind(12211, "environment hysteresis", &[]),
    kind(12212, "environment hysteresis", &[]),
    kind(13100, "movement", &[of("moveCount")]),
    kind(13101, "temperature of a presence sensor", &[in_unit("temp", "Cel")]),
    kind(13102, "occupancies", &[of("count"), in_unit("duration", "s")]),
    kind(13103, "people counter", &[of("in"), of("out"), of("totalIn"), of("totalOut")]),
    kind(
        13200,
        "presence configuration",
        &[of("threshold"), of("enableLed"), of("mode"), in_unit("passiveReportInterval", "s")],
    ),
    kind(13210, "light configuration of a presence sensor", &[]),
    kind(13211, "light configuration of a presence sensor", &[]),
    kind(
        16100,
        "vibration",
        &[
            in_unit("activityLevel", "%"),
            of("energyLevel"),
            of("histogram0"),
            of("histogram1"),
            of("histogram2"),
            of("histogram3"),
            of("histogram4"),
            of("histogram5"),
            of("histogram6"),
            of("histogram7"),
            of("histogram8"),
            of("histogram9"),
        ],
    ),
    kind(16200, "vibration configuration", &[]),
    kind(17100, "distance", &[in_unit("dist", "mm")]),
    kind(17110, "distance configuration", &[]),
    kind(
        17200,
        "distance with its quality",
        &[
            in_unit("dist", "mm"),
            of("status"),
            of("ambientRate"),
            of("numberOfSPADs"),
            of("signalPerSPAD"),
        ],
    ),
    kind(17201, "distance in a field of four by four", &[in_unit("dist", "mm")]),
    kind(17210, "temperature of a distance sensor", &[in_unit("temp", "Cel")]),
    kind(17220, "distance configuration", &[]),
    kind(18100, "angle", &[in_unit("angle", "deg")]),
    kind(18101, "temperature of an angle sensor", &[in_unit("temp", "Cel")]),
    kind(18200, "LED of an angle sensor", &[]),
    kind(24100, "carbon dioxide", &[in_unit("carbonDioxide", "ppm"), of("status")]),
    kind(24101, "volatile organic compounds", &[in_unit("tvoc", "ppb")]),
    kind(24200, "air quality configuration", &[]),
    kind(24201, "calibration by hand", &[]),
    kind(28009, "radar", &[of("state"), in_unit("dist", "mm"), of("echo")]),
];

#[cfg(test)]
mod tests {
    use fieldgate_core::resource::{Value, bind};

    use super::*;

    #[test]
    fn ids_and_events_rise_and_fields_occur_once() {
        assert!(KINDS.is_sorted_by(|a, b| a.id < b.id));
        assert!(EVENTS.is_sorted_by(|a, b| a.0 < b.0));
        for kind in KINDS {
            for field in kind.fields {
                let same = kind.fields.iter().filter(|other| other.name == field.name);
                assert_eq!(same.count(), 1, "{} {}", kind.id, field.name);
            }
        }
    }

    #[test]
    fn what_there_is_is_found() {
        let environment = find(12_100).unwrap();
        assert_eq!(environment.field("airp").map(|field| field.unit), Some("Pa"));
        assert_eq!(environment.field("temperature"), None);
        assert!(KINDS.iter().all(|kind| find(kind.id) == Some(kind)));
        assert_eq!((find(0), find(12_103), find(u32::MAX)), (None, None, None));
        assert_eq!((event(10), event(24)), (Some("timed"), None));
    }

    /// A field with a unit that stands for a canonical resource has the unit that the resource's table
    /// takes it to have where a reading says none.
    #[test]
    fn units_are_those_that_readings_are_taken_to_have() {
        let mut bound_count = 0;
        for field in KINDS.iter().flat_map(|kind| kind.fields) {
            let bind = |unit| {
                bind(field.name, unit, Value::Number(1.0))
                    .map(|bound| (bound.row.name, bound.scale))
            };
            if let (Some(silent), false) = (bind(None), field.unit.is_empty()) {
                assert_eq!(bind(Some(field.unit)), Some(silent), "{}", field.name);
                bound_count += 1;
            }
        }
        assert!(bound_count > 10, "{bound_count}");
    }
}
