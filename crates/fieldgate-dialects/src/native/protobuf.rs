//! `IoTData` of `proto/fieldgate.proto`: telemetry in Protobuf, as the lesson's devices send it.
//!
//! Pure. A `float` becomes its shortest decimal: 45.2, not 45.2000008.

use std::io::Write as _;

use bytes::Bytes;
use fieldgate_core::{
    dialect::{Ask, Draft, Target},
    fault::{Code, Fault},
    id::UnixMs,
    message::{Content, Priority, Qos},
};
use prost::{Message as _, encoding::decode_varint};

use super::{
    Limits, json,
    telemetry::{check_name, check_unit},
};

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
    let reading_count = count_readings(bytes).unwrap_or(0);
    if reading_count > limits.resources_max {
        let text = format!("{reading_count} readings exceed the limit of {}", limits.resources_max);
        return Err(Fault::new(Code::TooLarge, text));
    }
    let data = IoTData::decode(bytes)
        .map_err(|e| Fault::new(Code::BadValue, format!("the frame is no IoTData: {e}")))?;
    let device = match data.device_id.as_str() {
        "" => None,
        id => Some(id.parse().map_err(|e: fieldgate_core::id::InvalidId| {
            Fault::new(Code::BadValue, e.to_string())
        })?),
    };
    let mut payload = b"{\"values\":[".to_vec();
    let mut items = Vec::new();
    let mut good_count = 0_usize;
    for (index, reading) in data.readings.iter().enumerate() {
        match check(reading) {
            Ok(()) => {
                if good_count > 0 {
                    payload.push(b',');
                }
                write_reading(&mut payload, reading);
                good_count += 1;
            }
            Err(fault) => items.push(Err(fault.about(Some(index), json::clip(&reading.sensor_id)))),
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
        original: None,
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
    check_name(&reading.sensor_id)?;
    check_unit(&reading.unit)?;
    if !reading.value.is_finite() {
        let text = format!("the value of {:?} is not a finite number", reading.sensor_id);
        return Err(Fault::new(Code::BadValue, text));
    }
    Ok(())
}

/// Counts the readings before any is decoded: an empty one takes two bytes on the wire and sixty in
/// memory. Nothing where the bytes are no Protobuf, which decoding will say better.
fn count_readings(mut bytes: &[u8]) -> Option<usize> {
    let mut count = 0;
    while !bytes.is_empty() {
        let key = decode_varint(&mut bytes).ok()?;
        let skip = match key & 7 {
            0 => decode_varint(&mut bytes).map(|_| 0).ok()?,
            1 => 8,
            2 => usize::try_from(decode_varint(&mut bytes).ok()?).ok()?,
            5 => 4,
            _ => return None,
        };
        bytes = bytes.get(skip..)?;
        count += usize::from(key >> 3 == 3);
    }
    Some(count)
}

fn write_reading(out: &mut Vec<u8>, reading: &SensorReading) {
    out.extend_from_slice(b"{\"tag\":");
    json::write_string(out, &reading.sensor_id);
    // Writing to a Vec cannot fail; Display of f32 is the shortest decimal that reads back the same.
    let _ = write!(out, ",\"value\":{}", reading.value);
    if !reading.unit.is_empty() {
        out.extend_from_slice(b",\"unit\":");
        json::write_string(out, &reading.unit);
    }
    out.push(b'}');
}
