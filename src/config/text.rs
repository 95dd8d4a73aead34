//! The values that YAML has no type for, written as text: here sizes, durations and worker counts; in `address.rs`
//! domain names, addresses and upstreams, in `network.rs` endpoints and interfaces' names.
//!
//! Each is a [`Form`]: a name in the JSON schema, and a way to read it whose error says what would be right.
//! No range is checked here: what `30d` means does not depend on the key it stands under.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::config::address::{Name, Place, Target};
use crate::config::limits;
use crate::config::network::{Endpoint, InterfaceName};
use crate::config::problem::quoted;
use crate::config::rules::{Class, HostName, Pattern, Rcode, RrType};

/// A kind of text: its name in the schema and whether a bare number is one too.
pub(super) trait Form: Sized {
    /// The schema's `format`.
    const FORMAT: &'static str;
    /// The schema's `pattern`, or empty.
    const PATTERN: &'static str = "";
    /// Whether an integer may stand for it.
    const INTEGER: bool = false;
    /// Reads it; the error completes "KEY: …".
    fn read(text: &str) -> Result<Self, String>;
}

/// A value of the file that is written as text of the form `T`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text<T>(pub(super) T);

impl<'de, T: Form> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::read(&text).map(Text).map_err(serde::de::Error::custom)
    }
}

impl<T: Form> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::FORMAT.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({ "type": "string", "format": T::FORMAT });
        if T::INTEGER {
            schema.insert("type".into(), serde_json::json!(["string", "integer"]));
        }
        if !T::PATTERN.is_empty() {
            schema.insert("pattern".into(), T::PATTERN.into());
        }
        schema
    }
}

/// Whether `text` is of the form that the schema calls `format`; an unknown format is any text.
pub(super) fn check(format: &str, text: &str) -> Result<(), String> {
    fn try_as<T: Form>(text: &str) -> Result<(), String> {
        T::read(text).map(drop)
    }
    match format {
        Size::FORMAT => try_as::<Size>(text),
        Span::FORMAT => try_as::<Span>(text),
        Percent::FORMAT => try_as::<Percent>(text),
        Workers::FORMAT => try_as::<Workers>(text),
        Name::FORMAT => try_as::<Name>(text),
        Place::FORMAT => try_as::<Place>(text),
        Target::FORMAT => try_as::<Target>(text),
        Endpoint::FORMAT => try_as::<Endpoint>(text),
        InterfaceName::FORMAT => try_as::<InterfaceName>(text),
        HostName::FORMAT => try_as::<HostName>(text),
        RrType::FORMAT => try_as::<RrType>(text),
        Class::FORMAT => try_as::<Class>(text),
        Rcode::FORMAT => try_as::<Rcode>(text),
        Pattern::FORMAT => try_as::<Pattern>(text),
        <IpAddr as Form>::FORMAT => try_as::<IpAddr>(text),
        <SocketAddr as Form>::FORMAT => try_as::<SocketAddr>(text),
        <IpNet as Form>::FORMAT => try_as::<IpNet>(text),
        _ => Ok(()),
    }
}

/// A number of bytes, such as `64Mi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) struct Size(pub(super) u64);

impl Form for Size {
    const FORMAT: &'static str = "size";
    const PATTERN: &'static str = "^[0-9]+(Ki|Mi|Gi)?$";
    const INTEGER: bool = true;

    fn read(text: &str) -> Result<Size, String> {
        let (number, unit) = split_unit(text);
        let factor: u64 = match unit {
            "" => 1,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => {
                return Err(format!(
                    "{} is not a size; write bytes or a number with Ki, Mi or Gi, such as 64Mi",
                    quoted(text)
                ));
            }
        };
        let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
        bytes.map(Size).ok_or_else(|| format!("{} is not a size, such as 64Mi", quoted(text)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n > 0 && n % (1 << 30) == 0 => write!(f, "{}Gi", n >> 30),
            n if n > 0 && n % (1 << 20) == 0 => write!(f, "{}Mi", n >> 20),
            n if n > 0 && n % (1 << 10) == 0 => write!(f, "{}Ki", n >> 10),
            n => write!(f, "{n}"),
        }
    }
}

/// A length of time, such as `1800ms`, `30s`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) struct Span(pub(super) Duration);

impl Form for Span {
    const FORMAT: &'static str = "duration";
    const PATTERN: &'static str = "^(0|[0-9]+(ms|s|m|h|d))$";
    const INTEGER: bool = true;

    fn read(text: &str) -> Result<Span, String> {
        let (number, unit) = split_unit(text);
        let factor: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" if number == "0" => 1,
            "" if !number.is_empty() => {
                return Err(format!("{} has no unit; write {number}s for seconds", quoted(text)));
            }
            _ => {
                return Err(format!(
                    "{} is not a duration; write a number with ms, s, m, h or d, such as 30s",
                    quoted(text)
                ));
            }
        };
        let millis = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
        let millis = millis.ok_or_else(|| format!("{} is not a duration, such as 30s", quoted(text)))?;
        Ok(Span(Duration::from_millis(millis)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (factor, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")] {
            if millis > 0 && millis.is_multiple_of(factor) {
                return write!(f, "{}{unit}", millis / factor);
            }
        }
        if millis == 0 { f.write_str("0s") } else { write!(f, "{millis}ms") }
    }
}

/// Digits, and what follows them.
fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// A share, such as `10%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) struct Percent(pub(super) u64);

impl Form for Percent {
    const FORMAT: &'static str = "percentage";
    const PATTERN: &'static str = "^[0-9]+%$";

    fn read(text: &str) -> Result<Percent, String> {
        let number = text.strip_suffix('%').and_then(|number| number.parse().ok());
        number.map(Percent).ok_or_else(|| format!("{} is not a percentage, such as 10%", quoted(text)))
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// How many UDP workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// As many as the CPUs at hand suggest.
    Auto,
    /// This many.
    Count(u64),
}

impl Form for Workers {
    const FORMAT: &'static str = "workers";
    const PATTERN: &'static str = "^(auto|[0-9]+)$";
    const INTEGER: bool = true;

    fn read(text: &str) -> Result<Workers, String> {
        match text {
            "auto" => Ok(Workers::Auto),
            _ => text.parse().map(Workers::Count).map_err(|_| {
                let range = format!("\"auto\" nor a number from {} to {}", limits::WORKERS.min, limits::WORKERS.max);
                format!("{} is neither {range}", quoted(text))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn durations_and_sizes_read_back_what_they_display(n in 0u64..u64::from(u32::MAX)) {
            let span = Span(Duration::from_millis(n));
            prop_assert_eq!(Span::read(&span.to_string()), Ok(span));
            prop_assert_eq!(Size::read(&Size(n).to_string()), Ok(Size(n)));
        }
    }
}
