//! What has to hold of whatever a kernel, a device, LVM or a program of the operator's hands to this crate. Each function takes any
//! bytes, gives them to one decoder and asserts what must be true of every input; what was refused it gives back in the decoder's own words.
//!
//! Only in builds with the feature `decoders`: the tests and fuzz targets of the crate `decoders` call these.

use std::path::Component;

use tanist_datapath::io::memory::MemoryDevice;
use tanist_model::id::{SnapshotId, StorageName, VolumeAddress};
use tanist_model::volume::VolumeContent;

use crate::block::{DeviceSelector, decoders as block};
use crate::command::answer;
use crate::sealed::Seal;
use crate::{content, image, lvm, nbd};

pub use block::unit_identities;

type Verdict = Result<(), String>;

/// The largest volume of which everything lies in the stretch that is looked at.
const WHOLLY_SEEN: usize = 256 << 10;

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(words)
}

/// Of what LVM reports, names are names, identities are those of devices, and no pool is fuller than full.
///
/// # Errors
/// Why the report is none.
pub fn lvm_reports(bytes: &[u8]) -> Verdict {
    for volume in lvm::answer::volumes("vg-a", bytes).map_err(words)? {
        assert!(lvm::name::is_name(&volume.name), "{volume:?}");
        let uuids = volume.identity.strip_prefix("dm.LVM-").unwrap_or_default();
        assert!(uuids.len() == 64 && uuids.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{volume:?}");
        if let Some((id, of)) = &volume.snapshot {
            assert!(lvm::name::is_name(of), "{volume:?}");
            let tags = lvm::name::tags(*id, of).join(",");
            assert_eq!(lvm::name::snapshot_of_tags(&tags).as_ref(), volume.snapshot.as_ref());
        }
        let full = volume.filling.is_some_and(|it| it.used.data_percent > 100 || it.used.metadata_percent > 100);
        assert!(!full, "more than all of a pool is used");
    }
    Ok(())
}

/// What thin_delta names lies in the volume, in order and apart. The first byte says how large the volume is, in blocks of 64 KiB.
///
/// # Errors
/// Why the answer is none.
pub fn lvm_deltas(bytes: &[u8]) -> Verdict {
    let (blocks, said) = bytes.split_first().ok_or("nothing was said")?;
    let size_bytes = u64::from(*blocks) << 16;
    let ranges = lvm::delta::differing(said, (1, 2), size_bytes).map_err(words)?;
    assert!(ranges.iter().all(|range| range.start < range.end && range.end <= size_bytes), "{ranges:?}");
    assert!(ranges.is_sorted_by(|before, after| before.end < after.start), "{ranges:?}");
    Ok(())
}

/// What a server of NBD sends is an answer to an option or replies to a request, and nothing past them is read. The first byte says which.
///
/// # Errors
/// Why it is neither.
pub fn nbd_replies(bytes: &[u8]) -> Verdict {
    match bytes.split_first().ok_or("nothing was said")? {
        (0, answer) => nbd::decoders::option_reply(answer),
        _ => nbd::decoders::replies(bytes),
    }
}

/// What a snapshot command answers is about what was asked, at a path that leads nowhere else. The first byte is the question.
///
/// # Errors
/// Why the answer is none.
pub fn snapshot_answers(bytes: &[u8]) -> Verdict {
    let (question, said) = bytes.split_first().ok_or("nothing was said")?;
    let entries = match question % 3 {
        0 => vec![answer::created(said, SnapshotId(7), 512).map_err(words)?],
        1 => answer::listed(said).map_err(words)?,
        _ => answer::deleted(said).map(|()| Vec::new()).map_err(words)?,
    };
    assert!(question % 3 != 0 || (entries[0].id, entries[0].size_bytes) == (SnapshotId(7), 512));
    assert!(entries.windows(2).all(|pair| pair[0].id < pair[1].id), "{entries:?}");
    for entry in entries {
        assert!(entry.path.is_absolute() && !entry.path.components().any(|part| part == Component::ParentDir));
        assert!((1..=200).contains(&entry.uid.len()) && entry.uid.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    Ok(())
}

/// Of the kernel's tables, a line says what stands in it and only of what it is about.
///
/// # Errors
/// That the table says nothing.
pub fn kernel_tables(bytes: &[u8]) -> Verdict {
    let table = text(bytes)?;
    let found = [
        block::mount_of(table),
        image::decoders::mount_of_loop(table),
        image::decoders::lock_holder(table).map(|pid| pid.to_string()),
        image::decoders::mount_source(table),
    ];
    for said in found.iter().flatten() {
        let stands_there = said.split(':').all(|part| table.contains(part));
        assert!(stands_there || said.contains("root file system"), "{said:?} does not stand in the table");
    }
    found.iter().any(Option::is_some).then_some(()).ok_or_else(|| "the table says nothing of it".to_owned())
}

/// What is on a volume is found without harm: nothing only if there are zeros and nothing else.
///
/// # Errors
/// Never: every volume has something or nothing on it.
pub fn signatures(bytes: &[u8]) -> Verdict {
    let (place, written) = bytes.split_first_chunk::<3>().ok_or("too short")?;
    let [high, middle, low] = place.map(usize::from);
    let offset = (high << 16 | middle << 8 | low) % WHOLLY_SEEN;
    let mut volume = vec![0; offset];
    volume.extend(written);
    let found = content::detect(&MemoryDevice::with_bytes(&volume)).map_err(words)?;
    let has_data = volume.iter().any(|byte| *byte != 0);
    assert_eq!(found != VolumeContent::Blank, has_data, "{found:?}");
    Ok(())
}

/// A seal is read as it was written, of files and of devices.
///
/// # Errors
/// That it is no seal.
pub fn seals(bytes: &[u8]) -> Verdict {
    let uid = text(bytes)?;
    let of_device = block::seal_survives(uid);
    let of_file = Seal::of_uid(uid).map(|seal| {
        let written = seal.uid();
        assert_eq!(Seal::of_uid(&written), Some(seal), "{written}");
        assert!(!crate::sealed::what_changed(uid, &written).is_empty());
    });
    (of_device || of_file.is_some()).then_some(()).ok_or_else(|| "it is no seal".to_owned())
}

/// A pattern matches what a plain reading of it matches. Two lines: the pattern, and an identity.
///
/// # Errors
/// Why the pattern is refused.
pub fn device_patterns(bytes: &[u8]) -> Verdict {
    let (pattern, identity) = text(bytes)?.split_once('\n').ok_or("there is no identity")?;
    let DeviceSelector::Identity(selector) = DeviceSelector::identity(pattern).map_err(words)? else {
        return Err("it is no pattern".to_owned());
    };
    assert!(pattern.chars().filter(|c| *c != '*').count() >= 8, "{pattern:?} is wide");
    let plain = matches(pattern.as_bytes(), identity.as_bytes());
    assert_eq!(selector.matches(identity), plain, "{pattern:?} and {identity:?}");
    Ok(())
}

/// By trying, for every `*`, all that it could stand for.
fn matches(pattern: &[u8], identity: &[u8]) -> bool {
    let mut reached = vec![false; identity.len() + 1];
    reached[0] = true;
    for sign in pattern {
        if *sign == b'*' {
            let first = reached.iter().position(|at| *at).unwrap_or(reached.len());
            reached.iter_mut().skip(first).for_each(|at| *at = true);
        } else {
            for at in (1..reached.len()).rev() {
                reached[at] = reached[at - 1] && identity[at - 1] == *sign;
            }
            reached[0] = false;
        }
    }
    reached[identity.len()]
}

/// Whether a text can be the name of a volume.
pub(crate) fn is_volume_name(name: &str) -> bool {
    StorageName::new("san-a").is_ok_and(|system| VolumeAddress::new(system, name).is_ok())
}
