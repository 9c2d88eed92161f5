//! Tests of `downlink`: the pair of `wire.md` 6, and what is refused.

use proptest::prelude::*;

use super::*;

fn written(payload: &str, device: &str, transaction: u64) -> String {
    let mut out = Vec::new();
    request(payload.as_bytes()).unwrap().write(&mut out, device, transaction);
    String::from_utf8(out).unwrap()
}

fn answered(payload: &str, echo: &str) -> Option<Outcome> {
    request(payload.as_bytes()).unwrap().answered(&Echo::of(echo)?)
}

const SET: &str = r#"{"set":{"measurementInterval":10,"reportInterval":60}}"#;

#[test]
fn the_pair_of_the_vendor() {
    let asked = r#"[{"tsmId":1500,"tsmEv":30,"tsmDstTuid":"TSPR04E2O90201558","measurementInterval":10,"reportInterval":60,"transactionId":1}]"#;
    assert_eq!(written(SET, "TSPR04E2O90201558", 1), asked);
    let wished = SET.replacen('{', "{\"reason\":\"desired\",", 1);
    assert_eq!(written(&wished, "TSPR04E2O90201558", 1), asked);
    let vendors = r#"{"tsmId":1500,"tsmEv":30,"tsmDstTuid":"other","measurementInterval":10,"reportInterval":60,"transactionId":99}"#;
    assert_eq!(written(vendors, "TSPR04E2O90201558", 1), asked, "whom and which is ours to say");
    let echo = r#"{"tsmId":1500,"tsmEv":31,"measurementInterval":10,"reportInterval":60.0,"transactionId":1,"tsmTs":1503714007,"tsmTuid":"TSPR04E2O90201558"}"#;
    assert_eq!(answered(SET, echo), Some(Outcome::Done));
    assert_eq!(Echo::of(echo).unwrap().transaction, 1);
}

#[test]
fn an_echo_of_other_values_says_which() {
    let echo = r#"{"tsmId":1500,"tsmEv":31,"measurementInterval":10,"reportInterval":30,"transactionId":1}"#;
    let Some(Outcome::Other(told)) = answered(SET, echo) else { panic!("it is done") };
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let other = serde_json::json!({"reportInterval": {"wanted": 60, "got": 30}});
    assert_eq!((&told["error"]["code"], &told["other"]), (&"conflict".into(), &other));
    let missing = r#"{"tsmId":1500,"tsmEv":31,"reportInterval":60,"transactionId":1}"#;
    let Some(Outcome::Other(told)) = answered(SET, missing) else { panic!("it is done") };
    assert!(told.contains(r#""measurementInterval":{"wanted":10,"got":null}"#), "{told}");
    // Another id, the request itself, and a report are no answers.
    for other in [
        r#"{"tsmId":1501,"tsmEv":31,"transactionId":1}"#,
        r#"{"tsmId":1500,"tsmEv":30,"transactionId":1}"#,
        r#"{"tsmId":1500,"tsmEv":10,"transactionId":1}"#,
        r#"{"tsmId":1500,"tsmEv":31}"#,
        r#"{"tsmId":1500,"tsmEv":31,"transactionId":-1}"#,
    ] {
        assert_eq!(answered(SET, other), None, "{other}");
    }
}

#[test]
fn a_request_of_a_header_reads_the_settings_and_a_command_ends_with_its_result() {
    let read = r#"{"tsmId":1500}"#;
    let asked = r#"[{"tsmId":1500,"tsmEv":30,"tsmDstTuid":"a","transactionId":7}]"#;
    assert_eq!(written(read, "a", 7), asked);
    let echo = r#"{"tsmId":1500,"tsmEv":31,"measurementInterval":5,"transactionId":7}"#;
    assert_eq!(answered(read, echo), Some(Outcome::Done));
    let command = r#"{"tsmId":1402,"command":"REBOOT","payload":""}"#;
    let asked = r#"[{"tsmId":1402,"tsmEv":35,"tsmDstTuid":"a","command":"REBOOT","payload":"","transactionId":7}]"#;
    assert_eq!(written(command, "a", 7), asked);
    let done = r#"{"tsmId":1402,"tsmEv":36,"result":0,"payload":"ok","transactionId":7}"#;
    assert_eq!(answered(command, done), Some(Outcome::Done));
    let failed = done.replace(":0,", ":-1,");
    assert!(
        matches!(answered(command, &failed), Some(Outcome::Other(told)) if told.contains("-1"))
    );
}

#[test]
fn what_no_device_takes_is_refused_with_what_it_takes() {
    for (payload, told) in [
        ("{}", "a Thingsee device takes"),
        ("7", "a Thingsee device takes"),
        (r#"{"blink":true}"#, "a Thingsee device takes"),
        (r#"{"set":{}}"#, "names no resource"),
        (r#"{"set":{"on":true}}"#, "\"on\" is no setting"),
        (r#"{"set":{"reportInterval":"x"}}"#, "takes a number"),
        (r#"{"set":{"reportInterval":-1}}"#, "takes a number"),
        (r#"{"set":{"reportInterval":1,"nodeRole":2}}"#, "of several configurations"),
        (r#"{"set":{"reportInterval":1,"reportInterval":2}}"#, "twice"),
        (r#"{"set":{"reportInterval":1},"transition":2}"#, "nothing beside"),
        (r#"{"tsmId":"x"}"#, "tsmId is a number"),
        (r#"{"tsmId":1500,"tsmEv":31}"#, "tsmEv of a command"),
    ] {
        let refused = request(payload.as_bytes()).unwrap_err();
        assert!(refused.message.contains(told), "{payload}: {}", refused.message);
    }
    let long = format!(r#"{{"tsmId":1402,"payload":"{}"}}"#, "x".repeat(BYTES_MAX));
    assert_eq!(request(long.as_bytes()).unwrap_err().code, Code::TooLarge);
    assert_eq!(transaction_of(Seq((1 << 31) + 5)), 5);
}

proptest! {
    #[test]
    fn no_bytes_panic(payload: Vec<u8>, element in "[{\\[\"a-z:,0-9}]{0,20}transactionId.{0,20}") {
        let echo = Echo::of(&element);
        if let (Ok(request), Some(echo)) = (request(&payload), echo) {
            let _ = request.answered(&echo);
        }
    }
}
