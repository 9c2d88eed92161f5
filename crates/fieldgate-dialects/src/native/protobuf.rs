//! `IoTData` of `proto/fieldgate.proto`: telemetry in Protobuf, as the lesson's devices send it.
//!
//! Pure. A `float` becomes its shortest decimal: 45.2, not 45.2000008.

use bytes::Bytes;
use fieldgate_core::{
    dialect::{Ask, Draft, Target},
    fault::{Code, Fault},
    id::UnixMs,
    message::{Content, Priority, Qos},
};
use prost::Message as _;

use super::{Limits, json};

/// Telemetry of one device. Source of the numbers: seed 004.
#[derive(Clone, PartialEq, prost::Message)]
pub struct IoTData {
    /// Empty: the device of this connection.
    #[prost(string, tag = "1")]
    pub device_id: String,
    /// Unix milliseconds; 0: the arrival time.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
    /// What was measured.
    #[prost(message, repeated, tag = "3")]
    pub readings: Vec<SensorReading>,
}

/// One measurement.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SensorReading {
    /// The resource.
    #[prost(string, tag = "1")]
    pub sensor_id: String,
    /// Its value.
    #[prost(float, tag = "2")]
    pub value: f32,
    /// Its unit; may be empty.
    #[prost(string, tag = "3")]
    pub unit: String,
}

pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Ask, Fault> {
    let data = IoTData::decode(bytes)
        .map_err(|e| Fault::new(Code::BadValue, format!("the frame is no IoTData: {e}")))?;
    if data.readings.len() > limits.resources_max {
        return Err(Fault::new(Code::TooLarge, "too many readings in one IoTData"));
    }
    let device = match data.device_id.as_str() {
        "" => None,
        id => Some(id.parse().map_err(|e: fieldgate_core::id::InvalidId| {
            Fault::new(Code::BadValue, e.to_string())
        })?),
    };
    let mut payload = b"{\"values\":[".to_vec();
    let mut items = Vec::new();
    let mut good_count = 0_usize;
    for reading in &data.readings {
        match check(reading) {
            Ok(()) => {
                if good_count > 0 {
                    payload.push(b',');
                }
                write_reading(&mut payload, reading);
                good_count += 1;
            }
            Err(fault) => items.push(Err(fault)),
        }
    }
    payload.extend_from_slice(b"]}");
    if good_count == 0 {
        let fallback = || Fault::new(Code::MissingField, "an IoTData needs at least one reading");
        return Err(items.into_iter().find_map(Result::err).unwrap_or_else(fallback));
    }
    let timestamp = u64::try_from(data.timestamp).ok().filter(|ms| *ms > 0).map(UnixMs);
    let draft = Draft {
        target: Target::Telemetry(device),
        timestamp,
        reference: None,
        qos: Qos::AtMostOnce,
        retain: false,
        priority: Priority::Normal,
        expires: None,
        content: Content::Json,
        payload: Bytes::from(payload),
    };
    if items.is_empty() {
        return Ok(Ask::Publish(Box::new(draft)));
    }
    items.push(Ok(draft));
    Ok(Ask::Batch { reference: None, qos: Qos::AtMostOnce, items })
}

fn check(reading: &SensorReading) -> Result<(), Fault> {
    if reading.sensor_id.is_empty() {
        let text =
            "a reading has no sensor_id (protobufjs renames fields unless it is told keepCase)";
        return Err(Fault::new(Code::MissingField, text));
    }
    if reading.sensor_id.len() > 128 || reading.sensor_id.chars().any(char::is_control) {
        let text = "a sensor_id is 1 to 128 bytes without control characters";
        return Err(Fault::new(Code::BadValue, text));
    }
    if !reading.value.is_finite() || reading.unit.len() > 32 {
        let text =
            format!("the reading of {:?} is not finite, or its unit too long", reading.sensor_id);
        return Err(Fault::new(Code::BadValue, text));
    }
    Ok(())
}

fn write_reading(out: &mut Vec<u8>, reading: &SensorReading) {
    out.extend_from_slice(b"{\"tag\":");
    json::write_string(out, &reading.sensor_id);
    out.extend_from_slice(format!(",\"value\":{}", reading.value).as_bytes());
    if !reading.unit.is_empty() {
        out.extend_from_slice(b",\"unit\":");
        json::write_string(out, &reading.unit);
    }
    out.push(b'}');
}
