//! The client: how it is built, and what can be asked of it.

use std::{fmt, sync::Arc, time::Duration};

use fieldgate_dialects::native::protobuf::IoTData;
use serde::Serialize;
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    Backoff,
    buffer::{BufferLimits, Outbox},
    command::{CommandRequest, Commands},
    endpoint::{Credential, Endpoint, Socket, Trust},
    error::{ConnectError, End},
    http::Answer,
    link::{Habits, Runner},
    payload::Payload,
    publish::{Publish, Sample},
    state::Shared,
    subscribe::SubscribeRequest,
};

/// How the connection stands.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Link {
    /// It is being made for the first time.
    Connecting,
    /// It stands.
    Online {
        /// The life of the server's log.
        epoch: String,
    },
    /// It does not, and will be tried again.
    Offline {
        /// Why.
        reason: String,
        /// When.
        retry_in: Duration,
    },
    /// The client is over.
    Ended(End),
}

/// A client that is being put together.
#[derive(Clone)]
#[must_use = "nothing happens before `connect` or `start`"]
pub struct Builder {
    url: String,
    credential: Credential,
    trust: Trust,
    buffer: BufferLimits,
    connect_timeout: Duration,
    ack_timeout: Duration,
    patience: Duration,
    habits: Habits,
}

/// Never prints the token.
impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Builder {
    /// An API key or a device's token.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.credential.token = Some(token.into());
        self
    }

    /// The device that this client is; its token then goes in the `auth` frame.
    pub fn device(mut self, id: impl Into<String>) -> Self {
        self.credential.device = Some(id.into());
        self
    }

    /// The device's secret of type `hmac`, in place of a token: it is never sent. Every frame goes as a
    /// signed envelope, which is what a device with `integrity = required` must send; Protobuf cannot
    /// be signed. The clock must be right to 60 s.
    pub fn hmac(mut self, secret: impl Into<String>) -> Self {
        self.credential.hmac = Some(secret.into());
        self
    }

    /// The tenant of a device that signs, if it is not `default`.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.credential.tenant = Some(tenant.into());
        self
    }

    /// Trusts these certificates (PEM) in place of the system's.
    pub fn roots_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.trust = Trust::Pem(pem.into());
        self
    }

    /// Uses this TLS configuration: own roots, a client certificate.
    pub fn tls(mut self, config: Arc<rustls::ClientConfig>) -> Self {
        self.trust = Trust::Config(config);
        self
    }

    /// How much may wait to be sent or acknowledged.
    pub const fn buffer(mut self, limits: BufferLimits) -> Self {
        self.buffer = limits;
        self
    }

    /// How long one attempt to connect may take; 10 s unless told otherwise.
    pub const fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// After how long a message is repeated; 5 s unless told otherwise.
    pub const fn ack_timeout(mut self, limit: Duration) -> Self {
        self.ack_timeout = limit;
        self
    }

    /// How long a send waits by default; 30 s unless told otherwise.
    pub const fn patience(mut self, limit: Duration) -> Self {
        self.patience = limit;
        self
    }

    /// How long to wait between attempts to connect.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.habits.backoff = backoff;
        self
    }

    /// A ping this often (25 s), and dead after this much silence (75 s), or where what is written to
    /// the socket takes as long to go out.
    pub const fn heartbeat(mut self, ping: Duration, silence: Duration) -> Self {
        self.habits.ping = ping;
        self.habits.silence = silence;
        self
    }

    /// How long [`Client::close`] waits for what is not acknowledged yet; 5 s.
    pub const fn drain(mut self, limit: Duration) -> Self {
        self.habits.drain = limit;
        self
    }

    /// Connects. Later losses are repaired; this first attempt is not repeated.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let endpoint = self.endpoint()?;
        let connected = endpoint.connect().await?;
        Ok(self.spawn(endpoint, Some(connected)))
    }

    /// Starts without waiting for a connection, for a device that may boot before its network does.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Address`].
    pub fn start(self) -> Result<Client, ConnectError> {
        let endpoint = self.endpoint()?;
        Ok(self.spawn(endpoint, None))
    }

    /// Asks the server for `path` over HTTP, with the same address, trust and credential; the token
    /// goes as `Authorization: Bearer`. Any status is an answer.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: there is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer, ConnectError> {
        self.request("GET", path, None).await
    }

    /// As [`Builder::get`], with any method and a body of JSON.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: there is no answer. The request may have been carried out all the same.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        json: Option<&str>,
    ) -> Result<Answer, ConnectError> {
        self.endpoint()?.request(method, path, json).await
    }

    fn endpoint(&self) -> Result<Endpoint, ConnectError> {
        Endpoint::new(&self.url, self.credential.clone(), &self.trust, self.connect_timeout)
    }

    fn spawn(self, endpoint: Endpoint, first: Option<(Socket, String)>) -> Client {
        let outbox = Outbox::new(self.buffer, self.ack_timeout);
        let shared = Arc::new(Shared::new(outbox, self.patience, endpoint.signs()));
        let (sender, link) = watch::channel(match &first {
            Some((_, epoch)) => Link::Online { epoch: epoch.clone() },
            None => Link::Connecting,
        });
        let runner = Runner::new(Arc::clone(&shared), endpoint, self.habits, sender);
        let task = tokio::spawn(runner.run(first));
        Client { owner: Arc::new(Owner { shared, task }), link }
    }
}

/// Ends the task once the last clone of the client is gone.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.task.abort();
        self.shared.finish(End::Closed);
    }
}

/// A connection that keeps itself alive. Cheap to clone; the last clone dropped ends it at once,
/// [`Client::close`] ends it gracefully.
#[derive(Debug, Clone)]
pub struct Client {
    owner: Arc<Owner>,
    link: watch::Receiver<Link>,
}

impl Client {
    /// Begins a client of the server at `url`: `ws://`, `wss://`, `http://` or `https://`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder {
            url: url.into(),
            credential: Credential::default(),
            trust: Trust::System,
            buffer: BufferLimits::default(),
            connect_timeout: Duration::from_secs(10),
            ack_timeout: Duration::from_secs(5),
            patience: Duration::from_secs(30),
            habits: Habits {
                backoff: Backoff::default(),
                ping: Duration::from_secs(25),
                silence: Duration::from_secs(75),
                drain: Duration::from_secs(5),
            },
        }
    }

    /// A message to a topic.
    pub fn publish(&self, topic: &str, payload: impl Into<Payload>) -> Publish {
        Publish::topic(&self.owner.shared, topic, payload.into())
    }

    /// Telemetry of this device: one object, each key a resource.
    pub fn status<T: Serialize + ?Sized>(&self, data: &T) -> Publish {
        Publish::status(&self.owner.shared, Payload::json(data))
    }

    /// Something happened at this device.
    pub fn event<T: Serialize + ?Sized>(&self, name: &str, data: &T) -> Publish {
        Publish::event(&self.owner.shared, name, Payload::json(data))
    }

    /// Telemetry of several times or devices in one frame.
    pub fn batch(&self, samples: Vec<Sample>) -> Publish {
        Publish::batch(&self.owner.shared, samples)
    }

    /// Telemetry in Protobuf, at QoS 0. A client that signs refuses it.
    pub fn iot_data(&self, data: IoTData) -> Publish {
        Publish::iot(&self.owner.shared, data)
    }

    /// A subscription to the topics of a filter.
    pub fn subscribe(&self, filter: &str) -> SubscribeRequest {
        SubscribeRequest::new(&self.owner.shared, filter)
    }

    /// A command to a device, `group:NAME`, or a filter `devices/+`.
    pub fn command(&self, to: &str, payload: impl Into<Payload>) -> CommandRequest {
        CommandRequest::new(&self.owner.shared, to, payload.into())
    }

    /// The commands for this device. A second call takes over from the first.
    #[must_use]
    pub fn commands(&self) -> Commands {
        Commands::open(&self.owner.shared)
    }

    /// How the connection stands, now and from now on.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Waits until the client is over, and says why. Cancel safe.
    pub async fn ended(&self) -> End {
        let mut link = self.link.clone();
        let ended = link.wait_for(|link| matches!(link, Link::Ended(_))).await;
        match ended.as_deref() {
            Ok(Link::Ended(end)) => end.clone(),
            _ => End::Closed,
        }
    }

    /// Sends what waits, waits for what is not acknowledged, says goodbye, and ends.
    pub async fn close(self) -> End {
        self.owner.shared.lock().closing = true;
        self.owner.shared.wake();
        self.ended().await
    }
}
