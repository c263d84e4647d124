//! Single settings: how each type is written in TOML, what is allowed, and how it is shown.
//!
//! Pure. Invariant: what `show` writes, `from_value` reads back as the same value.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use comber_model::duration;
use http::Uri;
use toml::Value;

use crate::units::{SIZE_EXAMPLES, format_size, parse_size};

/// A type that stands behind one key.
pub trait ConfigValue: Sized {
    /// What may be written, to follow "expected": `a duration like "30m"`.
    fn allowed() -> String;

    /// Reads it; `None` for anything that [`ConfigValue::allowed`] does not name.
    fn from_value(value: &Value) -> Option<Self>;

    /// Writes it as it stands in a file.
    fn to_value(&self) -> Value;
}

/// A number of bytes, written as `"64 MiB"`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Size(pub u64);

/// Implements [`ConfigValue`] for a type that is a TOML string: what is allowed, how to read, how to write.
macro_rules! string_value {
    ($type:ty, $allowed:expr, $read:expr, $show:expr) => {
        impl ConfigValue for $type {
            fn allowed() -> String {
                $allowed.to_string()
            }

            fn from_value(value: &Value) -> Option<Self> {
                value.as_str().and_then($read)
            }

            fn to_value(&self) -> Value {
                Value::String($show(self))
            }
        }
    };
}

/// Implements [`ConfigValue`] for an integer that TOML's 64 bits may not hold.
macro_rules! integer_value {
    ($($type:ty),*) => {$(
        impl ConfigValue for $type {
            fn allowed() -> String {
                format!("a whole number from {} to {}", <$type>::MIN, i64::try_from(<$type>::MAX).unwrap_or(i64::MAX))
            }

            fn from_value(value: &Value) -> Option<Self> {
                value.as_integer()?.try_into().ok()
            }

            fn to_value(&self) -> Value {
                Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        }
    )*};
}

string_value!(
    String,
    "text in quotes",
    |text: &str| Some(text.to_owned()),
    String::clone
);
string_value!(
    Duration,
    r#"a duration like "500ms", "30s", "1h30m" or "7d""#,
    |text: &str| duration::parse(text).ok(),
    |value: &Self| duration::format(*value)
);
string_value!(
    Size,
    SIZE_EXAMPLES,
    |text: &str| parse_size(text).ok().map(Size),
    |value: &Self| format_size(value.0)
);
string_value!(
    SocketAddr,
    r#"an address and port like "0.0.0.0:7443" or "[::]:7443""#,
    |text: &str| text.parse().ok(),
    Self::to_string
);
string_value!(
    IpAddr,
    r#"an IP address like "192.0.2.1""#,
    |text: &str| text.parse().ok(),
    Self::to_string
);
string_value!(
    PathBuf,
    r#"an absolute path like "/var/lib/comber""#,
    absolute_path,
    |value: &Self| value.display().to_string()
);
string_value!(
    Uri,
    r#"an address like "https://comber.example:7443""#,
    absolute_uri,
    Self::to_string
);

integer_value!(u16, u32, u64, usize, i64);

impl ConfigValue for bool {
    fn allowed() -> String {
        "true or false".to_owned()
    }

    fn from_value(value: &Value) -> Option<Self> {
        value.as_bool()
    }

    fn to_value(&self) -> Value {
        Value::Boolean(*self)
    }
}

/// One bad element refuses the whole list.
impl<T: ConfigValue> ConfigValue for Vec<T> {
    fn allowed() -> String {
        format!("a list in brackets, of {}", T::allowed())
    }

    fn from_value(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(T::from_value).collect()
    }

    fn to_value(&self) -> Value {
        Value::Array(self.iter().map(T::to_value).collect())
    }
}

/// A relative path would depend on where the service manager starts the process.
fn absolute_path(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    path.is_absolute().then_some(path)
}

fn absolute_uri(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    (uri.scheme().is_some() && uri.host().is_some_and(|host| !host.is_empty())).then_some(uri)
}
