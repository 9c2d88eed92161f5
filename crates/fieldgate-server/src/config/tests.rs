//! Reading configurations, and what is said of them.

use std::{num::NonZeroU16, path::Path};

use super::*;

fn set(pairs: &[&str]) -> Result<Config, Vec<ConfigError>> {
    let set = pairs.iter().map(|pair| (*pair).to_owned()).collect();
    load(&Sources { set, ..Sources::default() })
}

#[test]
fn later_sources_win() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.toml");
    std::fs::write(&file, "[limits]\nauth_ms = 1\nbatch_len_max = 2\n").unwrap();
    let sources = Sources {
        file: Some(file),
        environment: vec![("FIELDGATE__LIMITS__AUTH_MS".to_owned(), "3".to_owned())],
        set: vec!["listen.http=127.0.0.1:0".to_owned()],
        ..Sources::default()
    };
    let config = load(&sources).unwrap();
    assert_eq!((config.limits.auth_ms, config.limits.batch_len_max), (3, 2));
    assert_eq!(config.listen.http, ["127.0.0.1:0"]);
}

#[test]
fn an_unknown_key_names_the_nearest_and_its_place() {
    let told = errors_of("[limits]\nauht_ms = 1\nping_ms = 3\n[drian]\ngrace_ms = 1\n");
    let expected = [
        "f.toml:2:1: there is no key `limits.auht_ms`; did you mean `limits.auth_ms`?",
        "f.toml:3:1: there is no key `limits.ping_ms`; did you mean `heartbeat.ping_ms`?",
        "f.toml:4:2: there is no key `drian`; did you mean `drain`?",
    ];
    assert_eq!(told, expected);
    let text = set(&["limits.connection_max=1"]).unwrap_err()[0].to_string();
    let expected = "--set: there is no key `limits.connection_max`; did you mean \
                    `limits.connections_max`?";
    assert_eq!(text, expected);
    // What is near to nothing is not told to be something.
    for far in ["limits.nope", "nope", "x.y.z"] {
        let text = set(&[&format!("{far}=1")]).unwrap_err()[0].to_string();
        assert!(text.ends_with(": `fieldgate config template` lists all that there are"), "{text}");
    }
    let text = set(&["limits=1"]).unwrap_err()[0].to_string();
    assert!(text.contains("`limits` is a section"), "{text}");
    let environment = vec![("FIELDGATE__LIMITS__AUTHMS".to_owned(), "3".to_owned())];
    let text = load(&Sources { environment, ..Sources::default() }).unwrap_err()[0].to_string();
    assert!(text.starts_with("FIELDGATE__LIMITS__AUTHMS: ") && text.contains("auth_ms"), "{text}");
}

#[test]
fn every_error_is_told_at_once() {
    assert_eq!(set(&["limits.x=1", "heartbeat.y=2", "nonsense"]).unwrap_err().len(), 3);
}

/// What loading a file with this text tells, its folder left out.
fn errors_of(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.toml");
    std::fs::write(&file, text).unwrap();
    let errors = load(&Sources { file: Some(file), ..Sources::default() }).unwrap_err();
    let path = format!("{}/", folder.path().display());
    errors.iter().map(|error| error.to_string().replace(&path, "")).collect()
}

#[test]
fn every_wrong_value_of_a_file_is_told_with_its_place_and_what_to_write() {
    let told = errors_of(
        "[limits]\nbatch_len_max = \"x\"\nauth_ms = -1\n\n[retention]\nage = \"7w\"\n\
         [listen]\nhttp = 8080\nhosts = [\n  1,\n]\ntls.cert = \"a.pem\"\n\
         [store]\ndurability = \"maybe\"\n[heartbeat]\nping_ms = 9\nsilence_ms = 5\n",
    );
    let expected = [
        "f.toml:2:17: `limits.batch_len_max` cannot be \"x\": write a whole number of 0 or more",
        "f.toml:3:11: `limits.auth_ms` cannot be -1: write a whole number of 0 or more",
        "f.toml:6:7: `retention.age` cannot be \"7w\": write milliseconds, or a time such as \"7d\"",
        "f.toml:8:8: `listen.http` cannot be 8080: write a list of texts",
        "f.toml:9:9: `listen.hosts` cannot be [1]: write a list of texts",
        "f.toml:14:14: `store.durability` cannot be \"maybe\": write one of \"fsync\", \"os\"",
        "f.toml:12:12: `listen.tls.cert` needs `listen.tls.key` beside it",
        "f.toml:17:14: `heartbeat.silence_ms` must be more than `heartbeat.ping_ms`",
    ];
    let (mut told, mut expected) = (told, expected.map(str::to_owned).to_vec());
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_place() {
    let told = errors_of("[limits]\nauth_ms = = 1\n");
    assert!(told[0].starts_with("f.toml:2:11: this is no TOML: "), "{told:?}");
    let told = errors_of("[limits]\nauth_ms = 1\nauth_ms = 2\n");
    assert!(told[0].starts_with("f.toml:3:1: this is no TOML: "), "{told:?}");
    let missing = Sources { file: Some("/nowhere/f.toml".into()), ..Sources::default() };
    assert!(load(&missing).unwrap_err()[0].to_string().starts_with("/nowhere/f.toml: "));
}

#[test]
fn a_flag_and_a_setting_of_the_same_are_refused() {
    let told = |set: &str| {
        let flags = vec![("--listen", "listen.http=[\"127.0.0.1:2\"]".to_owned())];
        load(&Sources { set: vec![set.to_owned()], flags, ..Sources::default() })
    };
    let errors = told("listen.http = 127.0.0.1:1").unwrap_err();
    let expected = "--listen: this and --set both set `listen.http`: give one";
    assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    assert_eq!(told("drain.grace_ms=4").unwrap().listen.http, ["127.0.0.1:2"]);
}

#[test]
fn each_value_is_told_with_where_it_was_set() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.toml");
    std::fs::write(&file, "[limits]\nauth_ms = 1\nbatch_len_max = 2\n").unwrap();
    let sources = Sources {
        file: Some(file.clone()),
        environment: vec![("FIELDGATE__LIMITS__AUTH_MS".to_owned(), "3".to_owned())],
        set: vec!["drain.grace_ms=4".to_owned()],
        flags: vec![("--listen", "listen.http=[\"127.0.0.1:2\"]".to_owned())],
    };
    let rows = load_all(&sources).unwrap().rows();
    let of = |path: &str| {
        let (_, value, from) = rows.iter().find(|(key, _, _)| key == path).unwrap();
        (value.as_ref().map(ToString::to_string).unwrap_or_default(), from.clone())
    };
    assert_eq!(of("limits.auth_ms"), ("3".into(), "FIELDGATE__LIMITS__AUTH_MS".into()));
    assert_eq!(of("limits.batch_len_max"), ("2".into(), format!("{}:3:17", file.display())));
    assert_eq!(of("drain.grace_ms"), ("4".into(), "--set".into()));
    assert_eq!(of("listen.http"), ("[\"127.0.0.1:2\"]".into(), "--listen".into()));
    assert_eq!(of("limits.handshake_ms"), ("5000".into(), "default".into()));
    assert_eq!(of("listen.tls.key"), (String::new(), "default".into()));
}

#[test]
fn sizes_and_durations_are_written_as_people_do() {
    let config = set(&["retention.age=2d", "retention.bytes=\"1GiB\""]).unwrap();
    assert_eq!((config.retention.age_ms, config.retention.bytes), (172_800_000, 1 << 30));
}

#[test]
fn what_nothing_would_work_with_is_refused() {
    let told = |pair: &str| match set(&[pair]) {
        Ok(_) => panic!("{pair} is taken"),
        Err(errors) => errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
    };
    let address = "write HOST:PORT such as \"127.0.0.1:8080\" or \"[::1]:8080\", with a port of 0 \
                   to 65535";
    for (pair, expected) in [
        ("listen.http=[\"nonsense\"]", format!("cannot have \"nonsense\": {address}")),
        ("listen.http=127.0.0.1:99999", format!("cannot have \"127.0.0.1:99999\": {address}")),
        ("listen.deconz=::1:80", format!("cannot have \"::1:80\": {address}")),
        ("listen.metrics=:80", format!("cannot have \":80\": {address}")),
        (
            "listen.plaintext=[\"htt\"]",
            "cannot have \"htt\": there are \"http\", \"deconz\", \"metrics\"".to_owned(),
        ),
        ("retention.bytes=1", "must be 64MiB or more".to_owned()),
        ("retention.age=0", "must be 1m or more".to_owned()),
        ("limits.input_total_bytes_max=0", "must be 1B or more".to_owned()),
        ("limits.handshake_ms=0", "must be 1 or more".to_owned()),
    ] {
        let key = pair.split('=').next().unwrap();
        assert_eq!(told(pair), [format!("--set: `{key}` {expected}")]);
    }
    let zeros = least::LEAST.map(|(key, _)| format!("{key}=0"));
    for pair in &zeros {
        assert_eq!(told(pair).len(), 1, "{pair}");
    }
    let least = least::LEAST.map(|(key, least)| format!("{key}={least}"));
    let least: Vec<_> = least.iter().map(String::as_str).collect();
    assert!(set(&least).is_ok());
    assert!(set(&["limits.connections_per_address_max=0", "drain.grace_ms=0"]).is_ok());
    let schema = schema();
    assert_eq!(schema["properties"]["limits"]["properties"]["auth_ms"]["minimum"], 1);
    assert_eq!(schema["properties"]["drain"]["properties"]["grace_ms"]["minimum"], 0);
}

/// Every leaf of a table, with its path.
fn leaves(prefix: &str, table: &toml::Table, found: &mut Vec<(String, toml::Value)>) {
    for (name, value) in table {
        let path = format!("{prefix}{name}");
        match value.as_table() {
            // A table that is one key, not a section.
            _ if ["thingsee.paths", "thethings.apps", "kamea.tenants"].contains(&path.as_str()) => {
                found.push((path, value.clone()));
            }
            Some(inner) => leaves(&format!("{path}."), inner, found),
            None => found.push((path, value.clone())),
        }
    }
}

#[test]
fn every_key_is_known_with_its_default_and_says_what_it_is_for() {
    let mut defaults = Vec::new();
    leaves("", &about::table_of(&Config::default()), &mut defaults);
    defaults.sort_by(|a, b| a.0.cmp(&b.0));
    let mut known: Vec<_> = about::keys()
        .into_iter()
        .filter_map(|key| {
            assert!(!key.doc.is_empty(), "{}", key.path);
            Some((key.path, key.default?))
        })
        .collect();
    known.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(known, defaults);
    let unset: Vec<_> = about::keys().into_iter().filter(|key| key.default.is_none()).collect();
    assert_eq!(
        unset.iter().map(|key| key.path.as_str()).collect::<Vec<_>>(),
        ["listen.tls.cert", "listen.tls.key", "auth.issuers", "security.master_key_file"]
    );
}

#[test]
fn what_is_said_of_a_key_is_said_of_one_that_there_is() {
    let keys = about::keys();
    let live = keys.iter().filter(|key| key.is_live()).count();
    assert_eq!(live, about::LIVE.len());
    let choices = keys.iter().filter(|key| matches!(key.kind, about::Kind::Choice(_))).count();
    assert_eq!(choices, about::CHOICES.len());
}

/// Files of sources below a folder, with their text.
fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// Where the value of a start is wanted, or is followed by other means.
const READ_ELSEWHERE: [(&str, &str); 2] = [
    // The names in a certificate that is made at the start.
    ("fieldgate-server/src/tls.rs", "listen.hosts"),
    // A reload sets it anew.
    ("fieldgate/src/serve.rs", "log.level"),
];

#[test]
fn a_live_key_is_read_from_the_configuration_in_force() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    sources(&crates.join("fieldgate-server/src"), &mut files);
    sources(&crates.join("fieldgate/src"), &mut files);
    let mut wrong = Vec::new();
    for (path, text) in &files {
        let path = path.strip_prefix(&crates).unwrap().to_str().unwrap();
        // Here the keys are made; tests and the demo write them.
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        if ["server/src/config", "server/src/testing", "src/demo"].iter().any(|p| path.contains(p))
        {
            continue;
        }
        // In words for people a key may stand anywhere.
        let is_code = |line: &&str| !line.trim_start().starts_with("//");
        let code: Vec<&str> = code.lines().filter(is_code).collect();
        for function in code.join("\n").split("fn ") {
            let code: String = function.split('"').step_by(2).collect();
            for key in about::LIVE {
                let reads = code.match_indices(key).any(|(at, _)| {
                    !code[at + key.len()..].starts_with(|c: char| c == '_' || c.is_alphanumeric())
                });
                let from_the_one_in_force = code.contains("shared.config");
                if reads && !from_the_one_in_force && !READ_ELSEWHERE.contains(&(path, key)) {
                    wrong.push((path, key));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "no restart is said to be needed for {wrong:?}");
}

#[test]
fn the_operators_page_names_the_live_keys_and_no_others() {
    let page = include_str!("../../../../docs/operate/running.md");
    let sighup = page.lines().find(|line| line.starts_with("**SIGHUP**")).unwrap();
    let named = sighup.split('`').skip(1).step_by(2).filter(|word| word.contains('.'));
    let live: Vec<_> = about::LIVE.into();
    assert_eq!(named.collect::<Vec<_>>(), live);
}

#[test]
fn the_example_file_is_the_template_and_says_the_defaults() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fieldgate.example.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, template(), "write it anew: fieldgate config template");
    let loaded = load_all(&Sources { file: Some(file), ..Sources::default() }).unwrap();
    assert_eq!(loaded.config, Config::default());
    for key in about::keys() {
        let is_there = loaded.origins.contains_key(&key.path);
        let name = key.path.rsplit('.').next().unwrap();
        assert!(is_there || text.contains(&format!("\n# {name} = ")), "{}", key.path);
    }
}

#[test]
fn the_schema_describes_every_key_with_its_default() {
    let schema = schema();
    for key in about::keys() {
        let pointer = format!("/properties/{}", key.path.replace('.', "/properties/"));
        let property = schema.pointer(&pointer).unwrap_or_else(|| panic!("{}", key.path));
        assert_eq!(property["description"], key.doc);
        let default = key.default.map(|value| serde_json::to_value(value).unwrap());
        assert_eq!(property.get("default"), default.as_ref());
    }
    assert_eq!(schema["properties"]["limits"]["additionalProperties"], false);
    assert_eq!(schema["properties"]["store"]["properties"]["durability"]["enum"][1], "os");
}

#[test]
fn issuers_are_tables_of_their_own_and_each_mistake_is_told_with_its_place() {
    let good = "[[auth.issuers]]\nname = \"corp\"\nissuer = \"https://id.example.com\"\n\
                algorithm = \"ES256\"\naudience = \"fieldgate\"\nrole_claim = \"roles\"\n\
                rights = { staff = [\"viewer\", \"!subscribe:private/#\"] }\n";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.toml");
    std::fs::write(&file, good).unwrap();
    let config = load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
    let issuer = &config.auth.issuers[0];
    assert_eq!((issuer.algorithm, issuer.leeway_ms), (Algorithm::ES256, 30_000));
    // What is in force is written down and read back when it changes.
    let told = LiveConfig::from(Config::default()).reload(&config);
    assert_eq!(told.needs_restart, ["auth.issuers"]);

    let told = errors_of(&good.replace("name =", "nmae ="));
    assert!(told[0].starts_with("f.toml:1:") && told[0].contains("nmae"), "{told:?}");
    let told = errors_of(&good.replace("ES256", "none"));
    assert!(told[0].contains("none") && told[0].contains("RS256"), "{told:?}");
    let told = errors_of(&good.replace("https://", "http://"));
    assert!(told[0].contains("`auth.issuers` of \"corp\": without `jwks_url`"), "{told:?}");
    let told = errors_of("[auth]\nissuers = 3\n");
    assert!(told[0].contains("`auth.issuers` cannot be 3: write a list of tables"), "{told:?}");
}

#[test]
fn paths_are_a_table_in_every_source_and_no_address_of_ours() {
    let paths = |pair: &str| set(&[pair]).map(|config| config.thingsee.paths);
    let one = [("/socket".to_owned(), "cloud".to_owned())].into();
    assert_eq!(paths(r#"thingsee.paths={"/socket"="cloud"}"#), Ok(one));
    let told = errors_of("[thingsee]\npaths = { \"/ws\" = \"cloud\", \"/a\" = \"\" }\n");
    let expected = [
        "f.toml:2:9: `thingsee.paths` cannot have \"/a\": it means no source",
        "f.toml:2:9: `thingsee.paths` cannot have \"/ws\": it is an address of the gateway's own",
    ];
    assert_eq!(told, expected);
    let told = errors_of("[thingsee.paths]\n\"/socket\" = 7\n");
    assert!(told[0].contains("`thingsee.paths` cannot be") && told.len() == 1, "{told:?}");
}

#[test]
fn a_template_that_is_none_is_told_with_what_is_wrong_about_it() {
    let told = errors_of("[kamea]\nbody = '{\"a\":\"{telemetry}\"}'\nevent = \"connect\"\n");
    assert!(told[0].starts_with("f.toml:2:8: `kamea.body`: {telemetry} is none of"), "{told:?}");
    let told = errors_of("[kamea]\nbody = 7\n");
    assert!(told[0].contains("cannot be 7: write a template"), "{told:?}");
    let told = errors_of("[kamea.authorization]\nmode = \"http\"\npath = \"x\"\n");
    assert!(told[0].contains("`kamea.authorization.path`: a path begins with"), "{told:?}");
    let told = errors_of("[kamea.authorization]\nmode = \"http\"\n");
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("`kamea.authorization.url` must be set"), "{told:?}");
    // On a command line JSON is no TOML, and is taken as it is.
    let body = r#"{"id":"{deviceId}","values":"{telemetries}"}"#;
    let config = set(&[&format!("kamea.body={body}")]).unwrap();
    assert_eq!(config.kamea.body, body.parse().unwrap());
}

#[test]
fn a_port_of_the_push_socket_is_a_number_or_a_word() {
    let port = |pair: &str| {
        let pair = format!("deconz.ws_port={pair}");
        set(&["listen.deconz=127.0.0.1:0", &pair]).map(|config| config.deconz.ws_port)
    };
    for (written, read) in [
        ("", WsPort::None),
        ("\"\"", WsPort::None),
        ("auto", WsPort::Auto),
        ("8088", WsPort::Port(NonZeroU16::new(8088).unwrap())),
    ] {
        assert_eq!(port(written), Ok(read), "{written}");
    }
    for written in ["some", "0", "65536", "-1", "8088,443", "true"] {
        let text = port(written).unwrap_err()[0].to_string();
        let expected = "write a port, 1 to 65535, \"auto\", or \"\" for none";
        assert!(text.contains("`deconz.ws_port` cannot be") && text.ends_with(expected), "{text}");
    }
    // What is in force is written down and read back when it changes.
    let config = set(&["deconz.ws_port=8088", "listen.deconz=127.0.0.1:0"]).unwrap();
    let told = LiveConfig::from(Config::default()).reload(&config);
    assert_eq!(told.needs_restart, ["listen.deconz", "deconz.ws_port"]);
}

#[test]
fn what_is_wrong_about_deconz_is_told_with_its_place() {
    let told = errors_of(
        "[deconz]\ntenant = \"A\"\npush = \"all\"\npush_allow = [\"x\"]\nname = \"\"\nnotify_al = true\n",
    );
    let expected = [
        "f.toml:3:8: `deconz.push` cannot be \"all\": write one of \"known\", \"open\"",
        "f.toml:6:1: there is no key `deconz.notify_al`; did you mean `deconz.notify_all`?",
        "f.toml:2:10: `deconz.tenant` cannot be \"A\": a tenant name is 1 to 64 of the characters a-z 0-9 -, not \"A\"",
        "f.toml:5:8: `deconz.name` is 1 to 64 bytes without control characters",
        "f.toml:4:14: `deconz.push_allow` is a list of addresses and networks such as \"10.0.0.0/8\"",
    ];
    assert_eq!(told, expected);
}
