//! Publishing: a message is put together, buffered, and its receipt awaited.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use fieldgate_core::message::Qos;
use fieldgate_dialects::native::{client as wire, protobuf::IoTData};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::{buffer::Frame, error::SendError, payload::Payload, state::Shared};

/// What the server said when it took a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The message's number in the log; 0 at QoS 0, where nobody says.
    pub seq: u64,
    /// The id under which it was sent; empty at QoS 0.
    pub msgid: String,
    /// For a command: how many devices it is for.
    pub devices: Option<u64>,
    /// For a batch: how many elements were refused.
    pub refused_count: usize,
}

/// One element of a batch: telemetry of one device at one time.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Absent: the device of this client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// Unix milliseconds; absent: the arrival time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// One JSON object: each key a resource.
    pub data: serde_json::Value,
}

#[derive(Debug)]
enum What {
    Topic { topic: String, payload: Payload, retain: bool },
    Status(Payload),
    Event { name: String, data: Payload },
    Batch(Vec<Sample>),
    IoTData(IoTData),
}

/// A message on its way to be sent. QoS 0 unless told otherwise.
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `enqueue`"]
pub struct Publish {
    shared: Arc<Shared>,
    what: What,
    qos: Qos,
    msgid: Option<String>,
    timestamp: Option<u64>,
    patience: Duration,
}

impl Publish {
    fn new(shared: &Arc<Shared>, what: What) -> Self {
        let patience = shared.patience;
        let shared = Arc::clone(shared);
        Self { shared, what, qos: Qos::AtMostOnce, msgid: None, timestamp: None, patience }
    }

    pub(crate) fn topic(shared: &Arc<Shared>, topic: &str, payload: Payload) -> Self {
        Self::new(shared, What::Topic { topic: topic.to_owned(), payload, retain: false })
    }

    pub(crate) fn status(shared: &Arc<Shared>, data: Payload) -> Self {
        Self::new(shared, What::Status(data))
    }

    pub(crate) fn event(shared: &Arc<Shared>, name: &str, data: Payload) -> Self {
        Self::new(shared, What::Event { name: name.to_owned(), data })
    }

    pub(crate) fn batch(shared: &Arc<Shared>, samples: Vec<Sample>) -> Self {
        Self::new(shared, What::Batch(samples))
    }

    pub(crate) fn iot(shared: &Arc<Shared>, data: IoTData) -> Self {
        Self::new(shared, What::IoTData(data))
    }

    /// At least once: the receipt comes when the message is durable. Protobuf stays at QoS 0.
    pub fn qos1(mut self) -> Self {
        self.qos = Qos::AtLeastOnce;
        self
    }

    /// Keeps it as the topic's retained message; of topics only.
    pub fn retain(mut self) -> Self {
        if let What::Topic { retain, .. } = &mut self.what {
            *retain = true;
        }
        self
    }

    /// The id under which the server recognises repeats; else one is made. Implies QoS 1.
    pub fn msgid(mut self, msgid: impl Into<String>) -> Self {
        self.msgid = Some(msgid.into());
        self.qos1()
    }

    /// When it happened, in Unix ms; of `status` and `event`.
    pub const fn timestamp(mut self, unix_ms: u64) -> Self {
        self.timestamp = Some(unix_ms);
        self
    }

    /// How long [`Self::send`] waits, reconnects included; 30 s unless told otherwise.
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Buffers the message and waits: at QoS 1 for the acknowledgement, at QoS 0 for the socket.
    ///
    /// # Errors
    ///
    /// [`SendError`]; after [`SendError::Unacknowledged`] it is not repeated any more.
    pub async fn send(self) -> Result<Accepted, SendError> {
        let patience = self.patience;
        let shared = Arc::clone(&self.shared);
        let receipt = self.enqueue()?;
        let ticket = receipt.ticket;
        match tokio::time::timeout(patience, receipt).await {
            Ok(answer) => answer,
            Err(_) => {
                let last = shared.lock().outbox.withdraw(ticket);
                Err(SendError::Unacknowledged { last })
            }
        }
    }

    /// Buffers the message and returns at once. It is sent, and at QoS 1 repeated, as long as the
    /// client lives, whether the receipt is awaited or dropped.
    ///
    /// # Errors
    ///
    /// [`SendError::Full`], [`SendError::Payload`], [`SendError::Duplicate`], [`SendError::Ended`].
    pub fn enqueue(self) -> Result<Receipt, SendError> {
        if self.shared.signs && matches!(self.what, What::IoTData(_)) {
            let text = "Protobuf cannot be signed: send a status";
            return Err(SendError::Payload(text.to_owned()));
        }
        let qos = if matches!(self.what, What::IoTData(_)) { Qos::AtMostOnce } else { self.qos };
        let wants_ack = qos > Qos::AtMostOnce;
        let msgid = wants_ack.then(|| self.msgid.unwrap_or_else(|| self.shared.next_msgid()));
        let frame = encode(self.what, msgid.as_deref(), qos, self.timestamp)?;
        self.shared.enqueue(frame, msgid)
    }
}

fn encode(
    what: What,
    msgid: Option<&str>,
    qos: Qos,
    timestamp: Option<u64>,
) -> Result<Frame, SendError> {
    let json = |payload: Payload| payload.into_json().map_err(SendError::Payload);
    let object = |mut frame: serde_json::Map<String, serde_json::Value>| {
        if let Some(msgid) = msgid {
            frame.insert("msgid".into(), msgid.into());
        }
        if let Some(timestamp) = timestamp {
            frame.insert("timestamp".into(), timestamp.into());
        }
        Frame::text(serde_json::Value::Object(frame).to_string())
    };
    Ok(match what {
        What::Topic { topic, payload, retain } => {
            Frame::text(wire::encode_publish(&topic, &json(payload)?, qos, retain, msgid))
        }
        What::Status(data) => Frame::text(wire::encode_status(&json(data)?, timestamp, msgid)),
        What::Event { name, data } => {
            let data: serde_json::Value = serde_json::from_str(&json(data)?)
                .map_err(|e| SendError::Payload(e.to_string()))?;
            object(serde_json::Map::from_iter([
                ("type".into(), "event".into()),
                ("event".into(), name.into()),
                ("data".into(), data),
            ]))
        }
        What::Batch(samples) => {
            let data =
                serde_json::to_value(samples).map_err(|e| SendError::Payload(e.to_string()))?;
            object(serde_json::Map::from_iter([
                ("type".into(), "batch".into()),
                ("data".into(), data),
            ]))
        }
        What::IoTData(data) => Frame::Binary(Bytes::from(prost::Message::encode_to_vec(&data))),
    })
}

/// The acknowledgement to come. Dropping it does not take the message back.
#[derive(Debug)]
pub struct Receipt {
    pub(crate) ticket: u64,
    pub(crate) answer: oneshot::Receiver<Result<Accepted, SendError>>,
}

impl Future for Receipt {
    type Output = Result<Accepted, SendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer)
            .poll(cx)
            .map(|answer| answer.unwrap_or(Err(SendError::Ended(crate::error::End::Closed))))
    }
}
