//! The decoders of block devices, as far as only this room can reach them: see [`crate::decoders`].

use super::identity::{serial_of, tidy, unit_serial};
use super::seal::DeviceSeal;
use super::sysfs::DeviceNumber;
use super::usage::mounted;
use crate::decoders::is_volume_name;

/// The device that tables are asked for.
const DEVICE: &str = "8:17";

pub(crate) fn mount_of(table: &str) -> Option<String> {
    let device = DeviceNumber::parse(DEVICE)?;
    let said = mounted(table, &|number| number == device)?;
    Some(said.strip_prefix("mounted at ").unwrap_or(&said).to_owned())
}

pub(crate) fn seal_survives(uid: &str) -> bool {
    let Some(seal) = DeviceSeal::of_uid(uid) else { return false };
    let written = seal.uid();
    assert_eq!(DeviceSeal::of_uid(&written).as_ref(), Some(&seal), "{written}");
    assert!(seal.keeps(&written), "{written}");
    true
}

/// Whatever a unit says of itself, what it is known by can be part of an address. Bytes: page 80h, or lines of vendor, model and serial
/// number.
///
/// # Errors
/// That it says nothing of itself.
pub fn unit_identities(bytes: &[u8]) -> Result<(), String> {
    if let Some(serial) = unit_serial(bytes) {
        assert!(bytes.len() >= serial.len() + 4);
        check_name(&serial_of([None, None, Some(serial)]))?;
    }
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let number = DeviceNumber::parse(text);
    assert!(number.is_none_or(|number| DeviceNumber::parse(&number.to_string()) == Some(number)), "{text:?}");
    let once = tidy(text);
    assert_eq!(tidy(&once), once);
    let mut lines = text.lines().map(str::to_owned);
    check_name(&serial_of([lines.next(), lines.next(), lines.next()]))
}

fn check_name(identity: &str) -> Result<(), String> {
    assert!(is_volume_name(identity), "{identity:?} cannot be part of an address");
    if identity == "serial." { Err("it says nothing of itself".to_owned()) } else { Ok(()) }
}
