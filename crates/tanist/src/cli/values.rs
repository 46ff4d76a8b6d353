//! Values with units or a shape, as they are typed: sizes, rates, times, addresses.

use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tanist_model::drill::HIGHEST_LIMIT_MS;
use tanist_model::excerpt::excerpt;
use tanist_model::id::StorageName;
use tanist_model::policy::LEAST_BANDWIDTH;

/// Why a typed value was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("'{0}' is not a size: write a number and B, KiB, MiB, GiB or TiB, as in 100MiB")]
    Size(String),
    #[error("'{0}' is not a rate: write a size a second, as in 100MiB/s")]
    Rate(String),
    #[error("'{0}' is not a time span: write a number and s, m, h or d, as in 15m")]
    Span(String),
    #[error(
        "'{0}' is not a time: write when, as in 14:03, 14:03:22 or 14:03Z (UTC), or how long ago, as in '5m ago' or 2h, or a \
         whole time, as in 2026-11-22T14:03:22Z"
    )]
    Moment(String),
    #[error(
        "'{0}' is too low a limit: a run moves whole blocks of 1 MiB, and below 64KiB/s it would look like one that stands still"
    )]
    TooSlow(String),
    #[error("'{0}' is not a limit of a drill: write 1ms to 60s, as in 500ms or 2s")]
    DrillLimit(String),
    #[error("it must be more than zero")]
    Zero,
    #[error("'{0}' is longer than 10 years (3650d)")]
    TooLong(String),
    #[error("'{0}' is not an address: write HOST:PORT, as in 10.0.0.5:7420")]
    HostPort(String),
    #[error("'{0}' is not an absolute path; the server's host resolves it, not this one")]
    NotAbsolute(String),
    #[error("'{0}' is not NAME=DIRECTORY, as in san-a=/srv/san-a")]
    Storage(String),
}

/// An upper limit of a rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bandwidth {
    pub bytes_per_second: u64,
}

impl FromStr for Bandwidth {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let amount = text.strip_suffix("/s").unwrap_or(text);
        match size(amount).map_err(|_| ValueError::Rate(excerpt(text)))? {
            0 => Err(ValueError::Zero),
            low if low < LEAST_BANDWIDTH => Err(ValueError::TooSlow(excerpt(text))),
            bytes_per_second => Ok(Self { bytes_per_second }),
        }
    }
}

/// Ten years: what is longer was mistyped, and reckons past what a time can hold.
const LONGEST_RPO_SECONDS: u64 = 3650 * 86400;

/// A recovery point objective.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rpo {
    pub seconds: u64,
}

impl FromStr for Rpo {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        match span_seconds(text)? {
            0 => Err(ValueError::Zero),
            seconds if seconds > LONGEST_RPO_SECONDS => Err(ValueError::TooLong(excerpt(text))),
            seconds => Ok(Self { seconds }),
        }
    }
}

/// How long a drill may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrillLimit {
    pub millis: u32,
}

impl FromStr for DrillLimit {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let millis = match text.strip_suffix("ms") {
            Some(number) => number.parse().ok(),
            None => span_seconds(text).ok().and_then(|seconds| seconds.checked_mul(1000)),
        };
        let possible = millis.filter(|ms| (1..=u64::from(HIGHEST_LIMIT_MS)).contains(ms));
        let millis = possible.and_then(|ms| u32::try_from(ms).ok());
        Ok(Self { millis: millis.ok_or_else(|| ValueError::DrillLimit(excerpt(text)))? })
    }
}

/// How long a command waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitLimit(pub Duration);

impl FromStr for WaitLimit {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse::<Rpo>().map(|span| Self(Duration::from_secs(span.seconds)))
    }
}

/// A storage system of image files, as an agent reaches it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StorageDirectory {
    pub name: StorageName,
    pub directory: PathBuf,
}

impl FromStr for StorageDirectory {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let bad = || ValueError::Storage(excerpt(text));
        let (name, directory) = text.split_once('=').ok_or_else(bad)?;
        if directory.is_empty() {
            return Err(bad());
        }
        Ok(Self { name: StorageName::new(name).map_err(|_| bad())?, directory: PathBuf::from(directory) })
    }
}

/// Bytes, from a number with a binary unit.
///
/// # Errors
/// [`ValueError::Size`] if it is none or does not fit.
pub fn size(text: &str) -> Result<u64, ValueError> {
    let bad = || ValueError::Size(excerpt(text));
    let (number, unit) = split_unit(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(bad()),
    };
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift)).ok_or_else(bad)
}

fn span_seconds(text: &str) -> Result<u64, ValueError> {
    let bad = || ValueError::Span(excerpt(text));
    let (number, unit) = split_unit(text);
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err(bad()),
    };
    // More than fits is longer than every limit, and no mistake of form.
    if number.is_empty() {
        return Err(bad());
    }
    Ok(number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(seconds))
}

fn split_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (number, unit.trim())
}

/// `HOST:PORT` with a port in range; the host is looked up when it is used.
///
/// # Errors
/// [`ValueError::HostPort`] if it is none.
pub fn host_port(text: &str) -> Result<String, ValueError> {
    let bad = || ValueError::HostPort(excerpt(text));
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let bracketed = bracketed.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok());
    let plain = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let fits = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    if fits && (plain || bracketed) { Ok(text.to_owned()) } else { Err(bad()) }
}

/// An absolute path, kept as text because it travels in a request.
///
/// # Errors
/// [`ValueError::NotAbsolute`] if it is relative.
pub fn absolute_path(text: &str) -> Result<String, ValueError> {
    if text.starts_with('/') { Ok(text.to_owned()) } else { Err(ValueError::NotAbsolute(excerpt(text))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("2 GiB"), Ok(2 << 30));
        for bad in ["", "MiB", "1.5GiB", "1MB", "-1", "99999999999999TiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_and_spans_are_never_zero() {
        assert_eq!("100MiB/s".parse(), Ok(Bandwidth { bytes_per_second: 100 << 20 }));
        assert_eq!("0MiB/s".parse::<Bandwidth>(), Err(ValueError::Zero));
        assert_eq!("1B/s".parse::<Bandwidth>(), Err(ValueError::TooSlow("1B/s".to_owned())));
        assert_eq!("64KiB/s".parse(), Ok(Bandwidth { bytes_per_second: 64 << 10 }));
        assert_eq!("15m".parse(), Ok(Rpo { seconds: 900 }));
        assert_eq!("0s".parse::<Rpo>(), Err(ValueError::Zero));
        assert_eq!("90s".parse(), Ok(WaitLimit(Duration::from_secs(90))));
        assert_eq!("0s".parse::<WaitLimit>(), Err(ValueError::Zero));
        assert_eq!("3650d".parse(), Ok(Rpo { seconds: 315_360_000 }));
        for long in ["3651d", "99999999999999d", "99999999999999999999999d"] {
            assert_eq!(long.parse::<Rpo>(), Err(ValueError::TooLong(long.to_owned())));
        }
        assert_eq!("15".parse::<Rpo>(), Err(ValueError::Span("15".to_owned())));
    }

    #[test]
    fn a_drill_has_a_limit_in_milliseconds_or_seconds() {
        for (text, millis) in [("1ms", 1), ("500ms", 500), ("2s", 2000), ("60s", 60_000), ("1m", 60_000)] {
            assert_eq!(text.parse(), Ok(DrillLimit { millis }), "{text}");
        }
        for bad in ["0ms", "0s", "2", "61s", "ms", "-1ms", "1.5s", "99999999999999999999ms"] {
            assert_eq!(bad.parse::<DrillLimit>(), Err(ValueError::DrillLimit(bad.to_owned())));
        }
    }

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["10.0.0.5:7420", "[::1]:7420", "srv-1.example:1"] {
            assert!(host_port(good).is_ok(), "{good}");
        }
        for bad in ["10.0.0.5", ":7420", "h:0", "h:70000", "h/x:1", "a b:1", "u@h:1", "h:+80", "[h/x]:1", "[]:1"] {
            assert!(host_port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn storage_directories_are_named() {
        let parsed: StorageDirectory = "san-a=/srv/a".parse().unwrap();
        assert_eq!((parsed.name.as_str(), parsed.directory.to_str()), ("san-a", Some("/srv/a")));
        for bad in ["san-a", "=x", "san-a=", "A=/x"] {
            assert!(bad.parse::<StorageDirectory>().is_err(), "{bad}");
        }
    }
}
