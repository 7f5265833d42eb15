//! What the value of a key may be: how it is read from TOML and from plain text, and how it is shown.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::LogFormat;
use crate::auth::{KeyAlgorithm, KeyConfig, KeySource, SecretText};

/// What stands in place of a secret wherever one is shown.
const REDACTED: &str = "[redacted]";

/// A type that a key may have.
///
/// Laws: what [`Setting::show`] returns is TOML, and [`Setting::take`] makes the same value of it, unless a secret was left out. Errors
/// complete "the value ..." and quote nothing of it.
pub(super) trait Setting: Sized + PartialEq {
    /// What kind of value it is, for the documentation.
    const KIND: &'static str;
    /// Whether it may hold secrets, so that a bad value is not shown either.
    const SECRET: bool = false;

    /// Reads a value of a TOML document.
    fn take(value: &DeValue<'_>) -> Result<Self, String>;

    /// Reads what stands in a variable of the environment or an argument.
    fn parse(text: &str) -> Result<Self, String> {
        let value = DeValue::parse(text).map_err(|_| format!("is not {}", Self::KIND))?;
        Self::take(value.get_ref())
    }

    /// Shows it as TOML; `None` if it is not set.
    fn show(&self) -> Option<String>;

    /// Says whether it is from one number to another; what is no number always is.
    fn is_within(&self, _least: u64, _most: u64) -> bool {
        true
    }
}

fn is_not<T: Setting>() -> String {
    format!("is not {}", T::KIND)
}

macro_rules! whole_numbers {
    ($($type:ty),+) => {$(
        impl Setting for $type {
            const KIND: &'static str = "a whole number";

            fn take(value: &DeValue<'_>) -> Result<Self, String> {
                let found = value.as_integer().ok_or_else(is_not::<Self>)?;
                <$type>::from_str_radix(found.as_str(), found.radix()).map_err(|_| is_not::<Self>())
            }

            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }

            fn is_within(&self, least: u64, most: u64) -> bool {
                u64::try_from(*self).is_ok_and(|number| (least..=most).contains(&number))
            }
        }
    )+};
}

whole_numbers!(u32, u64, usize);

/// Seconds, whole or not.
impl Setting for Duration {
    const KIND: &'static str = "a number";

    fn take(value: &DeValue<'_>) -> Result<Self, String> {
        if value.is_integer() {
            return u64::take(value).map(Self::from_secs).map_err(|_| is_not::<Self>());
        }
        let seconds = value.as_float().and_then(|found| found.as_str().parse::<f64>().ok());
        seconds.and_then(|seconds| Self::try_from_secs_f64(seconds).ok()).ok_or_else(is_not::<Self>)
    }

    fn show(&self) -> Option<String> {
        Some(if self.subsec_nanos() == 0 { self.as_secs().to_string() } else { format!("{:?}", self.as_secs_f64()) })
    }

    fn is_within(&self, least: u64, most: u64) -> bool {
        (Self::from_secs(least)..=Self::from_secs(most)).contains(self)
    }
}

impl Setting for bool {
    const KIND: &'static str = "true or false";

    fn take(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_bool().ok_or_else(is_not::<Self>)
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for String {
    const KIND: &'static str = "a text";

    fn take(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(is_not::<Self>)
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for PathBuf {
    const KIND: &'static str = "a path";

    fn take(value: &DeValue<'_>) -> Result<Self, String> {
        value.as_str().map(Self::from).ok_or_else(is_not::<Self>)
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.into())
    }

    fn show(&self) -> Option<String> {
        (!self.as_os_str().is_empty()).then(|| quoted(&self.to_string_lossy()))
    }
}

impl Setting for SocketAddr {
    const KIND: &'static str = "an address and port, such as 127.0.0.1:3030 or [::]:3030";

    fn take(value: &DeValue<'_>) -> Result<Self, String> {
        Self::parse(value.as_str().ok_or_else(is_not::<Self>)?)
    }

    fn parse(text: &str) -> Result<Self, String> {
        text.to_socket_addrs().ok().and_then(|mut found| found.next()).ok_or_else(is_not::<Self>)
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl Setting for LogFormat {
    const KIND: &'static str = "\"human\" or \"json\"";

    fn take(value: &DeValue<'_>) -> Result<Self, String> {
        Self::parse(value.as_str().unwrap_or_default())
    }

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(is_not::<Self>()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(quoted(match self {
            Self::Human => "human",
            Self::Json => "json",
        }))
    }
}

/// Not set, or empty: both are nothing.
impl<T: Setting> Setting for Option<T> {
    const KIND: &'static str = T::KIND;
    const SECRET: bool = T::SECRET;

    fn take(value: &DeValue<'_>) -> Result<Self, String> {
        if value.as_str() == Some("") { Ok(None) } else { T::take(value).map(Some) }
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(T::show)
    }

    fn is_within(&self, least: u64, most: u64) -> bool {
        self.as_ref().is_none_or(|value| value.is_within(least, most))
    }
}

/// As plain text: the parts between commas.
impl Setting for Vec<String> {
    const KIND: &'static str = "a list of texts";

    fn take(value: &DeValue<'_>) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(is_not::<Self>)?;
        items.iter().map(|item| String::take(item.get_ref()).map_err(|_| is_not::<Self>())).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
    }

    fn show(&self) -> Option<String> {
        let items: Vec<_> = self.iter().map(|item| quoted(item)).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

/// As plain text: the parts between commas.
impl Setting for Vec<IpAddr> {
    const KIND: &'static str = "a list of addresses without ports";

    fn take(value: &DeValue<'_>) -> Result<Self, String> {
        let items = Vec::<String>::take(value).map_err(|_| is_not::<Self>())?;
        items.iter().map(|item| item.parse().map_err(|_| is_not::<Self>())).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let items = Vec::<String>::parse(text)?;
        items.iter().map(|item| item.parse().map_err(|_| is_not::<Self>())).collect()
    }

    fn show(&self) -> Option<String> {
        self.iter().map(IpAddr::to_string).collect::<Vec<_>>().show()
    }
}

impl Setting for Vec<KeyConfig> {
    const KIND: &'static str = "a list of keys, such as [{ id = \"a\", alg = \"EdDSA\", file = \"a.pem\" }]";
    const SECRET: bool = true;

    fn take(value: &DeValue<'_>) -> Result<Self, String> {
        let items = value.as_array().ok_or_else(is_not::<Self>)?;
        let mut keys: Self = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let table = item.get_ref().as_table().ok_or_else(is_not::<Self>)?;
            let key = key(table).map_err(|error| format!("has something wrong in key {}: {error}", index + 1))?;
            if let Some(id) = &key.id
                && keys.iter().any(|other| other.id.as_ref() == Some(id))
            {
                return Err(format!("has the id {id:?} twice"));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    fn show(&self) -> Option<String> {
        let items: Vec<_> = self.iter().map(shown).collect();
        Some(format!("[{}]", items.join(", ")))
    }
}

fn key(table: &DeTable<'_>) -> Result<KeyConfig, String> {
    const NAMES: [&str; 4] = ["id", "alg", "file", "secret"];
    if let Some((name, _)) = table.iter().find(|(name, _)| !NAMES.contains(&name.get_ref().as_ref())) {
        return Err(format!("{:?} is none of {}", name.get_ref(), NAMES.join(", ")));
    }
    let text = |name: &str| match table.get(name).map(|value| value.get_ref().as_str()) {
        None => Ok(None),
        Some(Some(text)) if !text.is_empty() => Ok(Some(text.to_owned())),
        Some(_) => Err(format!("{name} is no text or empty")),
    };
    let id = text("id")?;
    let algorithm = text("alg")?.ok_or("it has no alg")?;
    let algorithm = KeyAlgorithm::named(&algorithm).ok_or("its alg is none of EdDSA, ES256, RS256, HS256")?;
    let source = match (text("file")?, text("secret")?) {
        (Some(file), None) => KeySource::File(file.into()),
        (None, Some(secret)) => KeySource::Inline(SecretText::new(secret)),
        _ => return Err("it needs either file or secret".to_owned()),
    };
    Ok(KeyConfig { id, algorithm, source })
}

fn shown(key: &KeyConfig) -> String {
    let source = match &key.source {
        KeySource::File(file) => format!("file = {}", quoted(&file.to_string_lossy())),
        KeySource::Inline(_) => format!("secret = {}", quoted(REDACTED)),
    };
    let id = key.id.as_ref().map(|id| format!("id = {}, ", quoted(id))).unwrap_or_default();
    format!("{{ {id}alg = {}, {source} }}", quoted(key.algorithm.name()))
}

/// Writes a text as a basic string of TOML.
fn quoted(text: &str) -> String {
    // JSON's escapes are TOML's, but that TOML wants one more character escaped.
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes_what_it_shows<T: Setting + std::fmt::Debug>(value: &T) {
        let shown = value.show().expect("it is set");
        let read = DeValue::parse(&shown).expect("TOML");
        assert_eq!(T::take(read.get_ref()).as_ref(), Ok(value), "{shown}");
    }

    #[test]
    fn what_is_shown_is_read_again() {
        takes_what_it_shows(&u64::MAX);
        takes_what_it_shows(&7_usize);
        takes_what_it_shows(&Duration::from_secs(10));
        takes_what_it_shows(&Duration::from_millis(1_500));
        takes_what_it_shows(&true);
        takes_what_it_shows(&"a \"text\"\n\u{7f}\\ \u{1}".to_owned());
        takes_what_it_shows(&PathBuf::from("/a b/c"));
        takes_what_it_shows(&SocketAddr::from(([127, 0, 0, 1], 3030)));
        takes_what_it_shows(&LogFormat::Json);
        takes_what_it_shows(&Some(5_u32));
        takes_what_it_shows(&vec!["a".to_owned(), "b, c".to_owned()]);
        let file = KeySource::File("k.pem".into());
        takes_what_it_shows(&vec![KeyConfig {
            id: Some("a".to_owned()),
            algorithm: KeyAlgorithm::Es256,
            source: file,
        }]);
    }

    #[test]
    fn keys_are_read_and_what_is_wrong_with_one_is_said_without_its_secret() {
        let read = |text: &str| Vec::<KeyConfig>::parse(text);
        let keys = read("[{ id = 'a', alg = 'HS256', secret = 'hunter2' }]").expect("a sound key");
        assert_eq!(keys[0].source, KeySource::Inline(SecretText::new("hunter2")));
        assert!(!keys.show().expect("it is set").contains("hunter2"));
        for bad in [
            "[{ id = 'a', alg = 'none', secret = 'hunter2' }]",
            "[{ id = 'a', alg = 'HS256', secret = 'hunter2', file = 'b' }]",
            "[{ id = 'a', alg = 'HS256' }]",
            "[{ id = 'a', secret = 'hunter2' }]",
            "[{ id = 'a', alg = 'HS256', secret = 'hunter2', more = 1 }]",
            "[{ id = 'a', alg = 'HS256', secret = 'hunter2' }, { id = 'a', alg = 'HS256', secret = 'b' }]",
            "hunter2",
            "['hunter2']",
        ] {
            let error = read(bad).expect_err("something is wrong");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn numbers_are_whole_and_within_their_type() {
        assert_eq!(u32::parse("1_000"), Ok(1_000));
        assert!(u32::parse("-1").is_err() && u32::parse("1.5").is_err() && u32::parse("4294967296").is_err());
        assert_eq!(Duration::parse("0.5"), Ok(Duration::from_millis(500)));
        assert!(Duration::parse("-1").is_err() && Duration::parse("nan").is_err() && Duration::parse("inf").is_err());
    }
}
