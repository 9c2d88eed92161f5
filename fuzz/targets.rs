//! What is fuzzed: one function per decoder, any bytes in, a panic where a promise is broken.
//!
//! Included by the targets in `fuzz_targets` and by the test that replays the corpora, so that a
//! finding once stored is checked by every ordinary test run.

use std::ops::ControlFlow;

use fieldgate_dialects::{
    deconz, kamea,
    native::{self, Limits, MacKey, Merge, client},
    socketio, thethings, thingsee,
    ws::{self, Decoder, Event},
};
use serde_json::value::RawValue;

/// Takes any bytes.
pub(crate) type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub(crate) const ALL: &[(&str, Target)] = &[
    ("ws_server", ws_server),
    ("ws_client", ws_client),
    ("ws_handshake", ws_handshake),
    ("native_text", native_text),
    ("native_binary", native_binary),
    ("native_server_frame", native_server_frame),
    ("native_merge", native_merge),
    ("native_profile", native_profile),
    ("native_command", native_command),
    ("native_signed", native_signed),
    ("thethings_write", thethings_write),
    ("thingsee_text", thingsee_text),
    ("thingsee_binary", thingsee_binary),
    ("socketio_packet", socketio_packet),
    ("socketio_payload", socketio_payload),
    ("deconz_body", deconz_body),
    ("kamea_request", kamea_request),
    ("kamea_answer", kamea_answer),
];

const LIMITS: ws::Limits =
    ws::Limits { frame_bytes_max: 4_096, message_bytes_max: 8_192, fragment_count_max: 16 };

/// Events and the end, as text to compare.
fn events(mut decoder: Decoder, data: &[u8], chunk_len: usize) -> Vec<String> {
    let mut seen = Vec::new();
    for chunk in data.chunks(chunk_len.max(1)) {
        let fed = decoder.feed(&mut chunk.to_vec(), &mut |event: Event<'_>| {
            seen.push(format!("{event:?}"));
            ControlFlow::Continue(())
        });
        let kept = decoder.buffered_bytes();
        assert!(kept <= 2 * LIMITS.message_bytes_max + 512, "{kept} bytes are kept");
        if let Err(error) = fed {
            seen.push(format!("{error:?}"));
            break;
        }
    }
    seen
}

/// Chunking never changes what a server reads.
pub(crate) fn ws_server(data: &[u8]) {
    let whole = events(Decoder::server(LIMITS), data, usize::MAX);
    for chunk_len in [1, 7] {
        assert_eq!(whole, events(Decoder::server(LIMITS), data, chunk_len));
    }
}

/// Chunking never changes what a client reads.
pub(crate) fn ws_client(data: &[u8]) {
    let whole = events(Decoder::client(LIMITS), data, usize::MAX);
    for chunk_len in [1, 7] {
        assert_eq!(whole, events(Decoder::client(LIMITS), data, chunk_len));
    }
}

/// Seven lines: method, version, then the headers; what is missing is an empty line. An upgrade is
/// taken under its own key alone, and a subprotocol only if it was offered and is served.
pub(crate) fn ws_handshake(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut line = || lines.next().filter(|line| !line.is_empty());
    let headers = ws::UpgradeHeaders {
        method: line().unwrap_or_default(),
        http11: line() == Some("1.1"),
        host: line(),
        upgrade: line(),
        connection: line(),
        key: line(),
        version: line(),
    };
    match ws::check_upgrade(&headers) {
        Ok(accept) => {
            assert_eq!(accept.len(), 28);
            assert_eq!(Some(accept), headers.key.map(|key| ws::accept_key(key.trim())));
        }
        Err(error) => assert!((400..500).contains(&error.http_status())),
    }
    let offered = line();
    let served = ["fieldgate.v1.json", "fieldgate.v1.protobuf"];
    if let Some(chosen) = ws::choose_subprotocol(offered, &served) {
        assert!(served.contains(&chosen) && offered.is_some_and(|list| list.contains(chosen)));
    }
}

/// Any text is an ask or a refusal with a bounded message.
pub(crate) fn native_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = native::decode_first(text, &Limits::default());
    if let Err(refusal) = native::decode_text(text, &Limits::default()) {
        assert!(refusal.fault.message.len() < 2_048, "{}", refusal.fault.message.len());
    }
}

/// Any bytes are an ask or a refusal.
pub(crate) fn native_binary(data: &[u8]) {
    if let Err(refusal) = native::decode_binary(data, &Limits::default()) {
        assert!(refusal.fault.message.len() < 2_048, "{}", refusal.fault.message.len());
    }
}

/// Any text is a server frame or an error.
pub(crate) fn native_server_frame(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = client::decode_server_frame(text);
    }
}

/// Two payloads, cut at the first line end. What is merged is an object again, and still says more
/// than the newer one alone.
pub(crate) fn native_merge(data: &[u8]) {
    let cut = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (older, newer) = data.split_at(cut);
    if let Merge::Merged(merged) = native::merge_latest(older, newer) {
        assert!(matches!(native::merge_latest(&merged, newer), Merge::Merged(_)));
        assert_eq!(native::merge_latest(newer, &merged), Merge::Newer);
    }
}

/// What is shown of a profile reads back as the same.
pub(crate) fn native_profile(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match native::decode_profile(text) {
        Ok(profile) => {
            let shown = native::encode_profile(&profile);
            assert_eq!(native::decode_profile(&shown), Ok(profile));
        }
        Err(fault) => assert!(fault.message.len() < 2_048, "{}", fault.message.len()),
    }
}

/// The payload of a command and the profile of its device, cut at the first line end. What was fitted
/// to a device goes to it as it is.
pub(crate) fn native_command(data: &[u8]) {
    let cut = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (payload, profile) = data.split_at(cut);
    let profile = std::str::from_utf8(profile).ok().and_then(|p| native::decode_profile(p).ok());
    let Ok(Some(read)) = native::canonical(payload) else { return };
    match read.fit(profile.as_ref(), None) {
        Ok(fitted) => {
            let sent = fitted.unwrap_or_else(|| payload.to_vec());
            let again = native::canonical(&sent);
            let Ok(Some(again)) = again else { panic!("{again:?}") };
            assert_eq!(again.still_fits(profile.as_ref()), Ok(()));
        }
        Err(fault) => assert!(fault.message.len() < 2_048, "{}", fault.message.len()),
    }
}

/// A frame where each must be signed: it is refused, or signed by the key of the test vectors. What can
/// be sent signed is taken, and says what it says unsigned.
pub(crate) fn native_signed(data: &[u8]) {
    const SECRET: &str = "fg_h_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(tenant) = "default".parse() else { return };
    let (limits, key) = (Limits::default(), MacKey::new(SECRET.as_bytes()));
    let signed = |text: &str| native::decode_signed(text, &limits, (&tenant, &key), true);
    match signed(text) {
        Ok((_, seal)) => {
            assert!(seal.is_some_and(|seal| seal.nonce.len() <= native::NONCE_BYTES_MAX))
        }
        Err(refusal) => assert!(refusal.fault.message.len() < 2_048),
    }
    let signer = client::Signer::new("default", "lamp", SECRET);
    if let Ok(envelope) = signer.envelope(text, 7, "n") {
        let forged =
            signed(&envelope).is_err_and(|refusal| refusal.fault.code.as_str() == "bad_mac");
        assert!(!forged, "{envelope}");
    }
}

/// Any text is values or a refusal, as JSON and as a form. A value is as it was written, and what
/// becomes of values is an object.
pub(crate) fn thethings_write(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let limits = thethings::Limits { json_depth_max: 16, values_max: 100 };
    let form = thethings::form_to_json(text, 100);
    if let Ok(form) = &form {
        assert!(serde_json::from_str::<serde_json::Value>(form).is_ok(), "{form}");
    }
    for json in form.iter().map(String::as_str).chain([text]) {
        for key in [None, Some("k")] {
            match thethings::read_values(json, key, &limits) {
                Ok(values) => {
                    assert!(values.iter().all(|value| json.contains(value.text)));
                    let messages = thethings::messages(&values);
                    assert!((1..=values.len()).contains(&messages.len()));
                    for message in messages {
                        let read = serde_json::from_slice::<serde_json::Value>(&message.payload);
                        assert!(read.is_ok_and(|read| read.is_object()));
                    }
                }
                Err(fault) => assert!(fault.message.len() < 2_048, "{}", fault.message.len()),
            }
        }
    }
}

/// Any text is elements or a refusal. Of an element that stands the original is in the text, and reads
/// as the same again.
pub(crate) fn thingsee_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let limits = thingsee::Limits::default();
    match thingsee::decode_text(text, &limits) {
        Ok(all) => standing(all, &limits, |original| assert!(text.contains(original))),
        Err(fault) => assert!(fault.message.len() < 2_048, "{}", fault.message.len()),
    }
}

/// Any bytes are elements or a refusal. What an element became is bounded, and reads as the same again.
pub(crate) fn thingsee_binary(data: &[u8]) {
    let limits = thingsee::Limits { frame_bytes_max: 16_384, ..thingsee::Limits::default() };
    let bytes_max = limits.frame_bytes_max + 6 * data.len().max(limits.frame_bytes_max);
    match thingsee::decode_binary(data, &limits) {
        Ok(all) => standing(all, &limits, |original| assert!(original.len() <= bytes_max)),
        Err(fault) => assert!(fault.message.len() < 2_048, "{}", fault.message.len()),
    }
}

/// Looks at the elements that stand; what is refused has a bounded message.
fn standing(all: thingsee::Elements, limits: &thingsee::Limits, check: impl Fn(&str)) {
    for element in all {
        let element = match element {
            Ok(element) => element,
            Err(fault) => {
                assert!(fault.message.len() < 2_048, "{}", fault.message.len());
                continue;
            }
        };
        let original = element.draft.original.as_deref().unwrap_or_default();
        let Ok(original) = std::str::from_utf8(original) else { panic!("an original is text") };
        check(original);
        let payload = std::str::from_utf8(&element.draft.payload).unwrap_or_default();
        assert!(thingsee::decode_text(payload, limits).is_ok(), "{payload} is no object");
        assert_eq!(thingsee::decode_text(original, limits), Ok(vec![Ok(element)]));
    }
}

/// Engine.IO and Socket.IO packets: what stands is of its form, and its arguments are of what came. The
/// first byte says how much of what follows is binary data that belongs to it.
pub(crate) fn socketio_packet(data: &[u8]) {
    use socketio::{Attaching, Engine, Kind, Part};

    let Some((split, rest)) = data.split_first() else { return };
    let (text, bytes) = rest.split_at(usize::from(*split).min(rest.len()));
    for engine in [Engine::V3, Engine::V4] {
        if let Ok(Part::Binary(data)) = engine.read_binary(bytes) {
            let mut written = Vec::new();
            socketio::write_binary(&mut written, engine, data);
            assert_eq!(written, bytes);
        }
    }
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(Part::Message(message)) = Engine::V4.read_text(text) else { return };
    let Ok(packet) = socketio::read(message, 16) else { return };
    if packet.head.kind == Kind::Event {
        let named = socketio::arguments(packet.data);
        assert!(named.is_some(), "an event without a name: {message}");
        for argument in named.into_iter().flat_map(|(_, arguments)| arguments) {
            // Its numbers may be larger than any that is computed with.
            assert!(serde_json::from_str::<&RawValue>(argument).is_ok(), "{argument}");
        }
    }
    if packet.head.attachment_count > 0
        && let Ok(attaching) = Attaching::begin(&packet, message, 4_096)
    {
        let mut attaching = Some(attaching);
        let mut pushed = 0;
        while let Some(waiting) = attaching.take() {
            pushed += 1;
            match waiting.push(bytes) {
                Ok(Ok(whole)) => {
                    assert_eq!(whole.attachment_count, packet.head.attachment_count);
                    assert_eq!(pushed, packet.head.attachment_count);
                }
                Ok(Err(waiting)) => attaching = Some(waiting),
                Err(_) => (),
            }
        }
    }
}

/// Bodies of polling requests: what is read is what is read of it written again.
pub(crate) fn socketio_payload(data: &[u8]) {
    use socketio::{Encoding, Engine};

    for (engine, encoding) in
        [(Engine::V3, Encoding::Text), (Engine::V3, Encoding::Bytes), (Engine::V4, Encoding::Text)]
    {
        let Ok(packets) = socketio::read_payload(engine, encoding, data) else { continue };
        let (encoding, body) =
            socketio::write_payload(engine, encoding == Encoding::Bytes, &packets);
        assert_eq!(socketio::read_payload(engine, encoding, &body), Ok(packets));
    }
}

/// A body and the profile of its device, cut at the first line end. Whatever an app sends is answered,
/// and what it comes to fits its device; what is put into a sensor is an object.
pub(crate) fn deconz_body(data: &[u8]) {
    use deconz::{Part, clip, gateway, put};

    let cut = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (body, profile) = data.split_at(cut);
    let device = deconz_device_of(profile);
    let profile = device.facts().profile.as_deref();
    let is_object = |text: &str| {
        serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| value.is_object())
    };
    for asked in [
        put::light_state("/lights/1/state", body, &device, 1),
        put::sensor_config("/sensors/1/config", body, &device, Part::Thermostat, 1),
    ] {
        check_answers(&asked.answers);
        if let Some(payload) = asked.payload() {
            let Ok(Some(canonical)) = native::canonical(payload.as_bytes()) else {
                panic!("{payload}")
            };
            assert!(canonical.fit(profile, None).is_ok(), "{payload}");
        }
    }
    check_answers(&put::group_action("/groups/1/action", body, &[(&device, 1)]).answers);
    check_answers(&put::rename("/lights/1", body, &deconz::Map::new()).answers);
    check_answers(&put::group("/groups", body, true).answers);
    check_answers(&put::scene("/groups/1/scenes", body, true).answers);
    check_answers(&put::config("/config", body, &deconz::Map::new()));
    if let Ok(name) = gateway::device_type(body) {
        assert!((1..=40).contains(&name.chars().count()), "{name}");
    }
    if let Ok(made) = clip::create("/sensors", body) {
        assert_eq!(made.profile.validate(), Ok(()));
        assert_eq!(deconz::Clip::parse(&made.clip.to_text()), Some(made.clip));
        assert!(made.told.telemetry.as_deref().is_none_or(is_object));
    }
    for part in Part::ALL {
        let (told, answers) = clip::state("/s", body, &deconz::Clip { part, unique_id: None });
        check_answers(&answers);
        assert!(told.telemetry.iter().chain(&told.event).all(|told| is_object(told)));
    }
}

/// Answers are at least one, bounded, and have what apps need of each.
fn check_answers(answers: &[deconz::Answer]) {
    let text = deconz::write_answers(answers);
    let Ok(serde_json::Value::Array(list)) = serde_json::from_str(&text) else { panic!("{text}") };
    assert!(!list.is_empty());
    for error in list.iter().filter_map(|answer| answer.get("error")) {
        assert!(["type", "address", "description"].iter().all(|key| error.get(key).is_some()));
        assert!(error.to_string().len() < 2_048, "{error}");
    }
}

fn deconz_device_of(profile: &[u8]) -> deconz::Device {
    let text = std::str::from_utf8(profile).unwrap_or_default();
    let profile = native::decode_profile(text).ok().map(std::sync::Arc::new);
    let facts = deconz::Facts { name: "a".to_owned(), profile, clip: None };
    deconz::Device::new(facts, Default::default(), Default::default())
}

/// What a client asks for is a device of a tenant, or a refusal; what is asked about it elsewhere is JSON,
/// and a path that it cannot leave. Any text is a template that stays what it is, or none.
pub(crate) fn kamea_request(data: &[u8]) {
    use kamea::{Body, Question, QuestionBody, QuestionPath};

    let Ok(text) = std::str::from_utf8(data) else { return };
    match kamea::request(text) {
        Ok(request) => {
            assert!(kamea::is_uuid(&request.tenant));
            let names: Vec<_> = request.devices().collect();
            assert!((1..=3).contains(&names.len()) && names.first() == Some(&request.device));
            let device_id = request.device.as_str();
            assert!(!matches!(device_id, "." | ".."));
            let (tenant_id, permission) = (request.tenant.as_str(), "read.telemetry");
            let question = Question { tenant_id, device_id, permission };
            let body = QuestionBody::default().body(&question);
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            assert_eq!(body["entityId"], device_id);
            let path: QuestionPath = "/{deviceId}/of".parse().unwrap_or_default();
            let path = path.path(&question);
            assert!(path.ends_with("/of") && path.split('/').count() == 3, "{path}");
            assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?'), "{path}");
        }
        Err(why) => assert!(why.len() < 2_048, "{}", why.len()),
    }
    if let Ok(body) = text.parse::<Body>() {
        let written = serde_json::to_value(&body).unwrap_or_default();
        assert_eq!(serde_json::from_value::<Body>(written).ok(), Some(body));
    }
}

/// Whatever a service answers, only a good status allows, and only where nothing in the body says
/// otherwise. The first byte chooses the status.
pub(crate) fn kamea_answer(data: &[u8]) {
    use kamea::{Answer, Place, answer};

    let Some((status, body)) = data.split_first() else { return };
    let status = 100 + 2 * u16::from(*status);
    for place in ["", "authorized", "/data/allowed", "/", "/a~1b/~0"] {
        match answer(status, body, Place(place)) {
            Answer::Allowed => {
                assert!((200..300).contains(&status), "{status}");
                // Where it is named, true stands there.
                let says = |word| String::from_utf8_lossy(body).contains(word);
                assert!(place.is_empty() || says("true"), "{place}");
            }
            Answer::Denied => (),
            Answer::Unclear(why) => assert!(why.len() < 2_048, "{}", why.len()),
        }
    }
}
