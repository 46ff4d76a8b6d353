//! What `thin_delta` says of two thin volumes of one pool (thin_delta(8)): stretches that they share, that differ, that one of them has alone.
//!
//! Untrusted like any answer: in order, inside of the volume, of the two volumes that were asked about, and of no kind that is not known.

use roxmltree::{Document, Node};
use tanist_model::byte_range::ByteRange;
use tanist_model::excerpt::excerpt;

/// The size of a sector in device-mapper's tables, bytes.
const SECTOR_BYTES: u64 = 512;
/// dm-thin takes data blocks of 64 KiB to 1 GiB, in sectors (Documentation/admin-guide/device-mapper/thin-provisioning.rst).
const BLOCK_SECTORS: std::ops::RangeInclusive<u64> = 128..=2_097_152;

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeltaError {
    #[error("its answer is not the XML that was asked for ({})", excerpt(&.0.to_string()))]
    Xml(#[from] roxmltree::Error),
    #[error("its answer has no {0}")]
    Missing(&'static str),
    #[error("its answer says \"{}\" of {of}", excerpt(.found))]
    Value { of: &'static str, found: String },
    #[error("its answer is about the volumes {0} and {1} of the pool, and others were asked about")]
    Others(u64, u64),
    #[error("its answer names {} blocks at {} where none can be", .0.1, .0.0)]
    Place((u64, u64)),
}

/// Where the second volume may differ from the first; both have this size. What neither has mapped is not told, and is zeros in both.
///
/// # Errors
/// Why the answer is none.
pub(crate) fn differing(text: &[u8], thins: (u32, u32), size_bytes: u64) -> Result<Vec<ByteRange>, DeltaError> {
    let not_text = |error: std::str::Utf8Error| DeltaError::Value { of: "its encoding", found: error.to_string() };
    let document = Document::parse(std::str::from_utf8(text).map_err(not_text)?)?;
    let pool = document.root_element();
    let sectors = number(pool, "data_block_size")?;
    if !BLOCK_SECTORS.contains(&sectors) {
        return Err(DeltaError::Value { of: "data_block_size", found: sectors.to_string() });
    }
    let diff = pool.children().find(|node| node.has_tag_name("diff")).ok_or(DeltaError::Missing("diff"))?;
    let about = (number(diff, "left")?, number(diff, "right")?);
    if about != (thins.0.into(), thins.1.into()) {
        return Err(DeltaError::Others(about.0, about.1));
    }
    let (mut found, mut passed) = (Vec::new(), 0);
    for stretch in diff.children().filter(Node::is_element) {
        let (range, end) = place(stretch, sectors * SECTOR_BYTES, passed, size_bytes)?;
        passed = end;
        if !is_shared(stretch)? {
            add(&mut found, range);
        }
    }
    Ok(found)
}

fn is_shared(stretch: Node<'_, '_>) -> Result<bool, DeltaError> {
    match stretch.tag_name().name() {
        "same" => Ok(true),
        "different" | "left_only" | "right_only" => Ok(false),
        other => Err(DeltaError::Value { of: "a stretch", found: other.to_owned() }),
    }
}

/// Its bytes within the volume, and the block where it ends. The last block of a volume may reach past its end.
fn place(
    stretch: Node<'_, '_>,
    block_bytes: u64,
    passed: u64,
    size_bytes: u64,
) -> Result<(ByteRange, u64), DeltaError> {
    let (begin, length) = (number(stretch, "begin")?, number(stretch, "length")?);
    let wrong = DeltaError::Place((begin, length));
    let (Some(end), Some(start_byte)) = (begin.checked_add(length), begin.checked_mul(block_bytes)) else {
        return Err(wrong);
    };
    if begin < passed || length == 0 || end > size_bytes.div_ceil(block_bytes) {
        return Err(wrong);
    }
    Ok((ByteRange::new(start_byte, end.saturating_mul(block_bytes).min(size_bytes)), end))
}

fn add(found: &mut Vec<ByteRange>, range: ByteRange) {
    match found.last_mut().filter(|last| last.end == range.start) {
        Some(last) => last.end = range.end,
        None => found.push(range),
    }
}

fn number(node: Node<'_, '_>, name: &'static str) -> Result<u64, DeltaError> {
    let text = node.attribute(name).ok_or(DeltaError::Missing(name))?;
    // A plus sign is a number to Rust, and to nobody here.
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = text.parse().ok().filter(|_| is_number);
    parsed.ok_or_else(|| DeltaError::Value { of: name, found: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: u64 = 1 << 10;
    const SIZE: u64 = 1000 * KIB;

    /// Of a pool with data blocks of 64 KiB: the volume has 16 of them, the last not whole.
    fn answer(stretches: &str) -> String {
        format!(
            r#"<superblock uuid="" time="2" transaction="5" data_block_size="128" nr_data_blocks="1792">
                 <diff left="1" right="3">{stretches}</diff>
               </superblock>"#
        )
    }

    fn found(stretches: &str) -> Result<Vec<ByteRange>, DeltaError> {
        differing(answer(stretches).as_bytes(), (1, 3), SIZE)
    }

    #[test]
    fn everything_counts_that_is_not_shared() {
        let said = r#"<same begin="0" length="2"/><different begin="2" length="1"/><right_only begin="3" length="2"/>
                      <left_only begin="9" length="1"/><different begin="15" length="1"/>"#;
        let blocks = |start: u64, end: u64| ByteRange::new(start * 64 * KIB, (end * 64 * KIB).min(SIZE));
        assert_eq!(found(said).unwrap(), [blocks(2, 5), blocks(9, 10), blocks(15, 16)]);
        assert_eq!(found("").unwrap(), []);
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (said, complaint) in [
            (r#"<strange begin="0" length="1"/>"#, "\"strange\" of a stretch"),
            (r#"<different begin="5" length="1"/><same begin="5" length="1"/>"#, "1 blocks at 5 where none can be"),
            (r#"<different begin="15" length="2"/>"#, "2 blocks at 15"),
            (r#"<different begin="18446744073709551615" length="2"/>"#, "2 blocks at 18446744073709551615"),
            (r#"<different begin="1" length="0"/>"#, "0 blocks at 1"),
            (r#"<different begin="+1" length="1"/>"#, "\"+1\" of begin"),
            (r#"<different begin="1"/>"#, "no length"),
            ("<different", "not the XML"),
        ] {
            let error = found(said).unwrap_err().to_string();
            assert!(error.contains(complaint), "{said}: {error}");
        }
        let other = differing(answer("").as_bytes(), (1, 2), SIZE).unwrap_err().to_string();
        assert!(other.contains("volumes 1 and 3"), "{other}");
        let sectors = answer("").replace("\"128\"", "\"1\"");
        assert!(differing(sectors.as_bytes(), (1, 3), SIZE).unwrap_err().to_string().contains("data_block_size"));
        assert!(differing(b"<superblock data_block_size=\"128\"/>", (1, 3), SIZE).is_err());
    }
}
