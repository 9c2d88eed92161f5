//! What filters select, by the examples of MQTT 5.0 section 4.7.

use super::*;

fn matches(filter: &str, topic: &str) -> bool {
    filter.parse::<Filter>().unwrap().matches(&topic.parse().unwrap())
}

#[test]
fn filters_select_as_the_standard_says() {
    for (filter, topic, expected) in [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("#", "a", true),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$SYS/x", false),
        ("+/x", "$SYS/x", false),
        ("$SYS/#", "$SYS/x", true),
        ("a/+/c", "a/$b/c", true),
        ("a//c", "a//c", true),
        ("a/b", "a/b/c", false),
    ] {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
}

#[test]
fn malformed_names_are_refused() {
    for text in ["", "a/+b", "a#", "#/a", "a/#/b", "a\u{0}b", "a\u{fffe}", "a\u{7f}"] {
        assert!(text.parse::<Filter>().is_err(), "{text:?}");
    }
    assert_eq!("a/+".parse::<Topic>(), Err(InvalidTopic::Wildcard));
    assert!("x/".repeat(32).parse::<Topic>().is_err());
    assert!("x".repeat(513).parse::<Topic>().is_err());
}

#[test]
fn a_filter_covers_what_it_selects_whole() {
    let covers = |a: &str, b: &str| a.parse::<Filter>().unwrap().covers(&b.parse().unwrap());
    assert!(covers("devices/#", "devices/+/telemetry"));
    assert!(covers("devices/+/telemetry", "devices/a/telemetry"));
    assert!(covers("a/#", "a"));
    assert!(!covers("devices/+/telemetry", "devices/#"));
    assert!(!covers("+", "#"));
    assert!(!covers("#", "$SYS/a"));
    assert!(!covers("a/b", "a/+"));
}

#[test]
fn kinds_follow_from_topics() {
    let kind = |text: &str| text.parse::<Topic>().unwrap().kind();
    assert_eq!(kind("devices/a/telemetry"), Kind::Telemetry);
    assert_eq!(kind("devices/a/telemetry/x"), Kind::Application);
    assert_eq!(kind("things/a/telemetry"), Kind::Application);
    assert_eq!(kind("devices//state"), Kind::State);
    assert_eq!(kind("devices/a/state/reported"), Kind::Reported);
    assert_eq!(kind("devices/a/state/desired"), Kind::Desired);
    assert_eq!(kind("devices/a"), Kind::Application);
    assert_eq!(kind("devices"), Kind::Application);
    assert_eq!(kind("devices/telemetry"), Kind::Application);
}
