//! Who may do what: tables, and the two forms of a right against each other.

use proptest::prelude::*;

use super::*;

fn key(grants: &[&str]) -> Principal {
    Principal {
        tenant: TenantId::default_tenant(),
        name: "k".into(),
        identity: Identity::Key,
        role: None,
        grants: grants.iter().map(|grant| grant.parse().unwrap()).collect(),
        only: None,
        proof: None,
        expires: None,
    }
}

#[test]
fn a_denial_wins_over_any_grant() {
    let key = key(&["subscribe:#", "!subscribe:devices/secret/#"]);
    let may = |filter: &str| key.may_subscribe(&filter.parse().unwrap());
    assert!(may("devices/a/telemetry"));
    assert!(!may("devices/secret/telemetry"));
    assert!(!may("devices/+/telemetry"));
    assert!(!may("#"));
}

#[test]
fn what_nothing_allows_is_refused() {
    let key = key(&["publish:app/#"]);
    let may = |topic: &str| key.may_publish(&topic.parse().unwrap());
    assert!(may("app/x"));
    assert!(!may("other"));
    assert!(!may("devices/a/telemetry"));
}

#[test]
fn a_device_writes_its_own_topics_alone() {
    let device = Principal {
        identity: Identity::Device {
            id: "a".parse().unwrap(),
            gateway_for: Some("child-1".parse().unwrap()),
        },
        ..key(&[])
    };
    let may = |topic: &str| device.may_publish(&topic.parse().unwrap());
    assert!(may("devices/a/telemetry"));
    assert!(may("devices/child-1/telemetry"));
    assert!(!may("devices/b/telemetry"));
    assert!(!may("devices/a/commands"));
    assert!(!may("app/x"));
    assert!(device.may_subscribe(&"devices/a/commands".parse().unwrap()));
    assert!(!device.may_subscribe(&"devices/+/commands".parse().unwrap()));
}

#[test]
fn a_source_brings_telemetry_and_events_of_devices_and_does_nothing_else() {
    let source = Principal { identity: Identity::Source { name: "cloud".into() }, ..key(&[]) };
    let may = |topic: &str| source.may_publish(&topic.parse().unwrap());
    assert!(may("devices/a/telemetry"));
    assert!(may("devices/a/events"));
    for topic in [
        "app/x",
        "devices/a/state/reported",
        "devices/a/commands",
        "devices/a/telemetry/more",
        "system/x",
    ] {
        assert!(!may(topic), "{topic}");
    }
    let (device, own) = ("a".parse().unwrap(), "devices/a/telemetry".parse().unwrap());
    assert!(!source.may_subscribe(&"devices/a/telemetry".parse().unwrap()));
    assert!(!source.may_receive(&own));
    assert!(!source.may_command(&device));
    assert!(!source.speaks_for(&device));
    assert!(!source.may_describe(&device));
    assert!(!source.may(Verb::Read, &"devices/a/telemetry".parse().unwrap()));
}

#[test]
fn grants_survive_the_round_trip() {
    for text in ["publish:devices/+/telemetry", "!read:#"] {
        assert_eq!(text.parse::<Grant>().unwrap().to_string(), text);
    }
    for text in ["", "publish", "fly:#", "publish:a/#/b", "publish:"] {
        assert!(text.parse::<Grant>().is_err(), "{text}");
    }
}

fn device(id: &str, gateway_for: Option<&str>, grants: &[&str]) -> Principal {
    let gateway_for = gateway_for.map(|filter| filter.parse().unwrap());
    let identity = Identity::Device { id: id.parse().unwrap(), gateway_for };
    Principal { identity, ..key(grants) }
}

#[test]
fn roles_permit_what_the_manual_says() {
    use Verb::{Admin, Command, Impersonate, Metrics, Profile, Publish, Read, Subscribe, Write};
    let all = [Publish, Subscribe, Command, Read, Write, Admin, Metrics, Impersonate, Profile];
    for (role, permitted) in [
        (Role::Admin, &all as &[Verb]),
        (Role::Operator, &[Publish, Subscribe, Command, Read, Write, Metrics]),
        (Role::Viewer, &[Subscribe, Read]),
    ] {
        for verb in all {
            let principal = Principal { role: Some(role), ..key(&[]) };
            assert_eq!(principal.may(verb, &"a/b".parse().unwrap()), permitted.contains(&verb));
            assert_eq!(verb.to_string().parse(), Ok(verb));
        }
        assert_eq!(role.to_string().parse(), Ok(role));
    }
}

#[test]
fn nobody_writes_what_is_the_gateways_own() {
    let admin = Principal { role: Some(Role::Admin), ..key(&[]) };
    let may = |topic: &str| admin.may_publish(&topic.parse().unwrap());
    assert!(may("app/x") && may("devices/a/telemetry") && may("devices/a/own/topic"));
    for topic in ["system/x", "$SYS/x", "devices/a/presence", "devices/a/commands"] {
        assert!(!may(topic), "{topic}");
    }
}

#[test]
fn writing_for_a_device_needs_both_rights() {
    let topic = "devices/a/telemetry".parse().unwrap();
    for (grants, expected) in [
        (&["publish:devices/#"] as &[&str], false),
        (&["impersonate:devices/#"], false),
        (&["publish:devices/#", "impersonate:devices/a/#"], true),
        (&["publish:devices/#", "impersonate:devices/b/#"], false),
        (&["publish:#", "impersonate:#", "!impersonate:devices/a/telemetry"], false),
    ] {
        assert_eq!(key(grants).may_publish(&topic), expected, "{grants:?}");
    }
}

#[test]
fn a_gateway_speaks_and_listens_for_its_devices_alone() {
    let gateway = device("gw", Some("+"), &[]);
    assert!(gateway.speaks_for(&"x".parse().unwrap()));
    assert!(gateway.may_subscribe(&"devices/x/commands".parse().unwrap()));
    assert!(!gateway.may_subscribe(&"devices/+/commands".parse().unwrap()));
    assert!(!gateway.may_subscribe(&"devices/#".parse().unwrap()));
    let lone = device("gw", None, &["impersonate:#", "publish:#"]);
    assert!(!lone.speaks_for(&"x".parse().unwrap()));
    assert!(!lone.may_publish(&"devices/x/telemetry".parse().unwrap()));
}

#[test]
fn a_denial_binds_a_device_too() {
    let device = device("a", None, &["!publish:devices/a/events", "!subscribe:devices/+/state"]);
    assert!(device.may_publish(&"devices/a/telemetry".parse().unwrap()));
    assert!(!device.may_publish(&"devices/a/events".parse().unwrap()));
    assert!(!device.may_receive(&"devices/a/state".parse().unwrap()));
    assert!(!device.may_subscribe(&"devices/a/#".parse().unwrap()));
    assert!(device.may_subscribe(&"devices/a/commands".parse().unwrap()));
}

#[test]
fn commands_need_the_right_for_their_device() {
    let key = key(&["command:devices/+/commands", "!command:devices/pump/#"]);
    assert!(key.may_command(&"lamp".parse().unwrap()));
    assert!(!key.may_command(&"pump".parse().unwrap()));
}

fn filters() -> impl Strategy<Value = Filter> {
    "(devices|\\+|[ab]|\\$s)(/(\\+|[ab])){0,3}(/#)?|#".prop_map(|text| text.parse().unwrap())
}

fn topics() -> impl Strategy<Value = Topic> {
    "(devices|[ab]|\\$s)(/[ab]){0,4}".prop_map(|text| text.parse().unwrap())
}

proptest! {
    #[test]
    fn a_permitted_subscription_receives_only_permitted_messages(
        grants in prop::collection::vec((any::<bool>(), filters()), 0..5),
        role in prop::option::of(Just(Role::Viewer)),
        is_device in any::<bool>(),
        filter in filters(),
        topic in topics(),
    ) {
        let grants = grants.into_iter();
        let grants = grants.map(|(deny, filter)| Grant { deny, verb: Verb::Subscribe, filter });
        let of = if is_device { device("a", Some("b"), &[]) } else { key(&[]) };
        let principal = Principal { grants: grants.collect(), role, ..of };
        if principal.may_subscribe(&filter) && filter.matches(&topic) {
            prop_assert!(principal.may_receive(&topic));
        }
        let exact = Filter::from(&topic);
        if principal.may_subscribe(&exact) {
            prop_assert!(principal.may_receive(&topic));
        }
        let denials = principal.grants.iter().filter(|grant| grant.deny);
        for denial in denials {
            prop_assert!(!denial.filter.matches(&topic) || !principal.may_receive(&topic));
        }
    }

    #[test]
    fn what_a_ticket_leaves_is_what_both_it_and_its_maker_may(
        grants in prop::collection::vec((any::<bool>(), filters()), 0..4),
        left in prop::collection::vec((any::<bool>(), filters()), 0..4),
        role in prop::option::of(Just(Role::Viewer)),
        filter in filters(),
        topic in topics(),
    ) {
        let of = |grants: Vec<(bool, Filter)>| -> Vec<Grant> {
            let grant = |(deny, filter)| Grant { deny, verb: Verb::Subscribe, filter };
            grants.into_iter().map(grant).collect()
        };
        let maker = Principal { grants: of(grants), role, ..key(&[]) };
        let left = of(left);
        let ticket = Principal { grants: left.clone(), ..key(&[]) };
        let both = Principal { only: Some(left.into()), ..maker.clone() };
        let at = |principal: &Principal| principal.may_receive(&topic);
        let over = |principal: &Principal| principal.may_subscribe(&filter);
        prop_assert_eq!(at(&both), at(&maker) && at(&ticket));
        prop_assert_eq!(over(&both), over(&maker) && over(&ticket));
        prop_assert!(!both.may(Verb::Admin, &filter) && !both.may(Verb::Read, &filter));
    }

    #[test]
    fn covering_and_overlapping_agree_with_matching(a in filters(), b in filters(), t in topics()) {
        if a.covers(&b) && b.matches(&t) {
            prop_assert!(a.matches(&t));
        }
        if a.matches(&t) && b.matches(&t) {
            prop_assert!(a.overlaps(&b) && b.overlaps(&a));
        }
    }
}

#[test]
fn who_says_what_a_device_is_speaks_for_it_and_has_the_right() {
    let right = ["profile:devices/#"];
    for (principal, own, other) in [
        (device("a", None, &[]), false, false),
        (device("a", None, &right), true, false),
        (device("a", Some("+"), &right), true, true),
        (device("a", Some("+"), &[]), false, false),
        (key(&right), false, false),
        (key(&["profile:devices/b/#", "impersonate:#"]), false, true),
        (Principal { role: Some(Role::Admin), ..key(&[]) }, true, true),
    ] {
        let may = |id: &str| principal.may_describe(&id.parse().unwrap());
        assert_eq!((may("a"), may("b")), (own, other), "{principal:?}");
    }
}
