use std::collections::HashSet;
use std::path::Path;

use super::*;

/// A value for a key that is not its default, as plain text and as TOML.
fn other(key: &Key) -> (String, String) {
    let defaults = Config::of_binary();
    let quoted = |text: &str| (text.to_owned(), format!("{text:?}"));
    match key.path().as_str() {
        "data" => quoted("/srv/relay"),
        "demo" => quoted(concat!(env!("CARGO_MANIFEST_DIR"), "/../web-demo")),
        "listen" => quoted("0.0.0.0:4000"),
        "admin.listen" => quoted("127.0.0.1:4001"),
        "origins" | "auth.issuer" | "auth.audience" => {
            ("https://a.example,https://b.example".to_owned(), "['https://a.example', 'https://b.example']".to_owned())
        }
        "limits.trusted_proxies" => ("10.0.0.1, ::2".to_owned(), "['10.0.0.1', '::2']".to_owned()),
        "auth.keys" => {
            let keys = "[{ id = 'a', alg = 'EdDSA', file = 'a.pem' }]".to_owned();
            (keys.clone(), keys)
        }
        "log.format" => quoted("json"),
        "log.filter" => quoted("debug"),
        "log.otlp_endpoint" => quoted("https://127.0.0.1:4318"),
        _ if key.kind == "true or false" => {
            let flipped = if (key.show)(&defaults).as_deref() == Some("true") { "false" } else { "true" };
            (flipped.to_owned(), flipped.to_owned())
        }
        _ => match key.range {
            Some((least, most)) => {
                let is_default = |number: &u64| (key.show)(&defaults) == Some(number.to_string());
                let number =
                    [least, least + 1, most].into_iter().find(|number| !is_default(number)).expect("some other");
                (number.to_string(), number.to_string())
            }
            None => quoted("something"),
        },
    }
}

/// A file that holds one key, and whatever else that one needs to make sense.
fn file(directory: &Path, text: &str) -> PathBuf {
    let path = directory.join("relay.toml");
    std::fs::write(&path, text).expect("a writable directory");
    path
}

fn line(key: &Key, value: &str) -> String {
    let head = if key.section.is_empty() { String::new() } else { format!("[{}]\n", key.section) };
    format!("{head}{} = {value}\n", key.name)
}

/// What a value is taken as, whatever does not fit the rest of the configuration.
fn taken(raw: &RawConfig) -> Config {
    let reading = raw.read();
    let bad: Vec<_> = reading.errors.iter().filter(|error| !matches!(error, ConfigError::Together(_))).collect();
    assert!(bad.is_empty(), "{bad:?}");
    reading.config
}

#[test]
fn every_key_is_read_from_file_variable_and_argument_in_the_order_of_their_rank() {
    let directory = tempfile::tempdir().expect("a directory");
    let demo = directory.path().join("dist");
    std::fs::create_dir(&demo).expect("a directory");
    std::fs::write(demo.join("index.html"), "").expect("a file");
    for key in KEYS {
        let (text, toml) = other(key);
        let mut from_file = RawConfig { file: Some(file(directory.path(), &line(key, &toml))), ..RawConfig::default() };
        let from_variable = RawConfig { variables: vec![(key.variable(), text.clone())], ..RawConfig::default() };
        let mut from_argument = RawConfig::default();
        assert!(from_argument.set(&key.path(), &text));
        let defaults = Config::of_binary();
        for raw in [&from_file, &from_variable, &from_argument] {
            let config = taken(raw);
            assert_eq!(config.changed(&defaults).iter().map(|key| key.path()).collect::<Vec<_>>(), [key.path()]);
            let (reloaded, live) = (defaults.reloaded(&config), usize::from(key.is_live));
            assert_eq!(reloaded.changed(&defaults).len(), live, "{}", key.path());
        }
        // The variable beats the file, and the argument both.
        let shown = (key.show)(&defaults).unwrap_or_else(|| "\"\"".to_owned());
        from_file.file = Some(file(directory.path(), &line(key, &shown)));
        from_file.variables = from_variable.variables;
        assert_eq!(taken(&from_file).changed(&defaults).len(), 1, "{}", key.path());
        from_file.variables = vec![(key.variable(), "neither here nor there \u{1}".to_owned())];
        assert!(from_file.set(&key.path(), &text));
        let config = from_file.read().config;
        assert_eq!(config.changed(&defaults).len(), 1, "{}", key.path());
    }
}

#[test]
fn shown_configuration_is_a_file_that_means_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut raw = RawConfig::default();
    for key in KEYS {
        assert!(raw.set(&key.path(), &other(key).0));
    }
    let config = taken(&raw);
    let again = RawConfig { file: Some(file(directory.path(), &config.to_toml())), ..RawConfig::default() };
    assert_eq!(taken(&again).changed(&config).len(), 0);
    let json = config.to_json();
    assert_eq!(json["limits"]["connections_max"], 1);
    assert_eq!(json["auth"]["keys"][0]["alg"], "EdDSA");
    assert_eq!(Config::of_binary().to_json()["tls"]["cert_file"], serde_json::Value::Null);
}

#[test]
fn inline_secrets_are_shown_nowhere() {
    let mut raw = RawConfig::default();
    raw.set("data", "data");
    raw.set("auth.keys", "[{ id = 'a', alg = 'HS256', secret = 'hunter2' }]");
    let loaded = raw.load().expect("a sound configuration");
    let config = &loaded.config;
    for shown in [config.to_toml(), loaded.to_toml(), config.to_json().to_string()] {
        assert!(shown.contains("[redacted]") && !shown.contains("hunter2"), "{shown}");
    }
    assert!(!format!("{config:?} {raw:?}").contains("hunter2"));
    assert!(config.warnings().iter().any(|warning| warning.contains("inline")));
    raw.set("auth.keys", "[{ id = 'a', alg = 'none', secret = 'hunter2' }]");
    let error = raw.load().expect_err("no such algorithm").to_string();
    assert!(error.contains("--auth-keys") && !error.contains("hunter2"), "{error}");
}

#[test]
fn mistakes_are_named_with_their_place_and_what_was_meant() {
    let directory = tempfile::tempdir().expect("a directory");
    let said = |text: &str| {
        let mut raw = RawConfig { file: Some(file(directory.path(), text)), ..RawConfig::default() };
        raw.set("data", "data");
        raw.load().expect_err("something is wrong").to_string()
    };
    for (text, words) in [
        (
            "[limits]\n\nconections_max = 1",
            ["relay.toml line 3", "limits.conections_max", "did you mean limits.connections_max"],
        ),
        ("opne = true", ["relay.toml line 1", "opne", "did you mean open"]),
        ("frame_bytes_max = 1", ["line 1", "frame_bytes_max", "did you mean limits.frame_bytes_max"]),
        ("[limit]\nframe_bytes_max = 1", ["line 1", "[limit]", "did you mean [limits]"]),
        ("[limits]\nconnections_max = 0", ["line 2", "limits.connections_max = 0", "choose 1 to 1000000"]),
        ("[limits]\nconnections_max = 'many'", ["line 2", "limits.connections_max", "is not a whole number"]),
        ("[limits]\nconnections_max = 1\nconnections_max = 2", ["line 3", "duplicate key", ""]),
        ("a = ", ["line 1", "", ""]),
        ("[tls]\ncert_file = 'a'", ["tls.cert_file", "tls.key_file", "both or none"]),
        ("[limits]\nping_seconds = 30", ["limits.ping_seconds", "more than twice", ""]),
        ("origins = ['example.org']", ["origins", "example.org", "scheme"]),
        ("[log]\notlp_endpoint = 'http://me:secret@127.0.0.1'", ["log.otlp_endpoint", "password", "proxy"]),
        ("[log]\nfilter = 'a=b=c'", ["log.filter", "", ""]),
        ("demo = '/nowhere'", ["/nowhere", "index.html", "make demo"]),
        ("[[auth.keys]]\nid = 'a'\nalg = 'EdDSA'", ["line 1", "auth.keys", "file or secret"]),
    ] {
        let error = said(text);
        assert!(words.iter().all(|word| error.contains(word)), "{text}: {error}");
    }
    let both = said("opne = true\n[limits]\nconections_max = 1\nframe_bytes_max = 1");
    assert_eq!(both.lines().count(), 4, "all mistakes are told at once: {both}");

    let variables = vec![("REJOIN_RELAY_LIMITS_CONECTIONS_MAX".to_owned(), "1".to_owned())];
    let error = RawConfig { variables, ..RawConfig::default() }.load().expect_err("no such key").to_string();
    assert!(error.contains("did you mean REJOIN_RELAY_LIMITS_CONNECTIONS_MAX?"), "{error}");
    assert!(error.contains("--data"), "{error}");
    let absent = RawConfig { file: Some("/nowhere.toml".into()), ..RawConfig::default() };
    assert!(absent.load().expect_err("no file").to_string().contains("/nowhere.toml"));
}

#[test]
fn variables_of_others_and_of_before_are_understood() {
    let variables = [
        ("REJOIN_RELAY_DATA", "data"),
        ("REJOIN_RELAY_CONNECTIONS_MAX", "7"),
        ("RUST_LOG", "debug"),
        ("REJOIN_RELAY_PORT", "tcp://10.0.0.1:3030"),
        ("REJOIN_RELAY_PORT_3030_TCP", "tcp://10.0.0.1:3030"),
        ("REJOIN_RELAY_SERVICE_HOST", "10.0.0.1"),
        ("REJOIN_RELAY_ADMIN_TOKEN", "of the command for the admin API"),
    ];
    let mut variables: Vec<_> = variables.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
    let config = RawConfig { variables: variables.clone(), ..RawConfig::default() }.load().expect("sound").config;
    assert_eq!((config.limits.connections_max, config.log.filter.as_str()), (7, "debug"));
    variables.push(("REJOIN_RELAY_LOG_FILTER".to_owned(), "warn".to_owned()));
    let config = RawConfig { variables, ..RawConfig::default() }.load().expect("sound").config;
    assert_eq!(config.log.filter, "warn");
}

#[test]
fn keys_have_their_unit_in_the_name_and_no_two_the_same_argument() {
    for key in KEYS {
        assert!(key.kind != "a number" || key.name.ends_with("_seconds"), "{}", key.path());
        assert!(!key.meaning().is_empty() && key.meaning().ends_with('.'), "{}", key.path());
        assert!((key.is_within)(
            &Config::of_binary(),
            key.range.map_or(0, |range| range.0),
            key.range.map_or(0, |range| range.1)
        ));
    }
    let flags: HashSet<_> = KEYS.iter().map(Key::flag).collect();
    assert_eq!(flags.len(), KEYS.len());
}

/// A file in this package, which `UPDATE_PAGES=1` writes anew.
fn compare(path: &str, now: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, now).expect("a writable tree");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let told = format!("{} is old: run this test with UPDATE_PAGES=1", path.display());
    assert!(found == now, "{told}");
}

#[test]
fn page_and_example_have_every_key_with_its_default() {
    compare("docs/config.md", &documentation());
    compare("deploy/rejoin-relay.toml", &example());
    let directory = tempfile::tempdir().expect("a directory");
    let example = RawConfig { file: Some(file(directory.path(), &example())), ..RawConfig::default() };
    let config = taken(&example);
    assert_eq!(config.changed(&Config::of_binary()).iter().map(|key| key.path()).collect::<Vec<_>>(), ["data"]);
    assert_eq!(config.data, Path::new("/var/lib/rejoin-relay"));
}
