//! Signatures of what may live on a volume, as a table: a reason to ask before it is overwritten.
//!
//! The places are those of the formats' own on-disk layouts. Blanks between them do not matter: the first match names the
//! content, so a format that embeds another stands before it (GPT before MBR, NTFS before the boot sector it begins with).

/// Bytes from the beginning that the table looks at.
pub const HEAD_BYTES: u64 = 1 << 20;
/// Bytes before the end that the table looks at.
pub const TAIL_BYTES: u64 = 192 << 10;

/// Where the magic of a format is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// At this offset.
    Start(u64),
    /// At any of `count` offsets, `step` apart.
    Each { first: u64, step: u64, count: u64 },
    /// `back` bytes before the end, the end rounded down to a multiple of `align`.
    End { align: u64, back: u64 },
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Signature {
    name: &'static str,
    place: Place,
    magic: &'static [u8],
}

const fn at(offset: u64, magic: &'static [u8], name: &'static str) -> Signature {
    Signature { name, place: Place::Start(offset), magic }
}

const fn each(first: u64, step: u64, count: u64, magic: &'static [u8], name: &'static str) -> Signature {
    Signature { name, place: Place::Each { first, step, count }, magic }
}

const fn end(align: u64, back: u64, magic: &'static [u8], name: &'static str) -> Signature {
    Signature { name, place: Place::End { align, back }, magic }
}

const MD_MAGIC: &[u8] = &[0xfc, 0x4e, 0x2b, 0xa9];
const BCACHE_MAGIC: &[u8] =
    &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81];

const TABLE: &[Signature] = &[
    at(0, b"LUKS\xba\xbe", "LUKS encrypted container"),
    each(0, 512, 4, b"LABELONE", "LVM physical volume"),
    at(0, b"XFSB", "XFS file system"),
    at(65_600, b"_BHRfS_M", "Btrfs file system"),
    each(131_072, 1024, 128, &[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0], "ZFS pool member"),
    at(4120, BCACHE_MAGIC, "bcache device"),
    at(4096, MD_MAGIC, "Linux software RAID member"),
    at(0, MD_MAGIC, "Linux software RAID member"),
    end(4096, 8192, MD_MAGIC, "Linux software RAID member"),
    end(65_536, 65_536, MD_MAGIC, "Linux software RAID member"),
    end(4096, 4036, &[0x83, 0x74, 0x02, 0x6b], "DRBD device"),
    at(0, b"bluestore block device", "Ceph BlueStore device"),
    at(32, b"ORCLDISK", "Oracle ASM disk"),
    at(4086, b"SWAPSPACE2", "swap space"),
    at(4086, b"SWAP-SPACE", "swap space"),
    at(0, b"QFI\xfb", "QCOW2 image"),
    at(0, b"KDMV", "VMDK image"),
    at(0, b"vhdxfile", "VHDX image"),
    at(64, &[0x7f, 0x10, 0xda, 0xbe], "VDI image"),
    at(1024, &[0x10, 0x20, 0xf5, 0xf2], "F2FS file system"),
    at(1080, &[0x53, 0xef], "ext2/3/4 file system"),
    at(3, b"NTFS    ", "NTFS file system"),
    at(3, b"EXFAT   ", "exFAT file system"),
    at(82, b"FAT32   ", "FAT file system"),
    at(54, b"FAT1", "FAT file system"),
    at(32_769, b"CD001", "ISO 9660 file system"),
    at(512, b"EFI PART", "GPT partition table"),
    at(4096, b"EFI PART", "GPT partition table"),
    end(512, 512, b"EFI PART", "GPT partition table (backup at the end)"),
    at(510, &[0x55, 0xaa], "MBR partition table or boot sector"),
];

/// The two ends of a volume. They may overlap.
#[derive(Clone, Copy, Debug)]
pub struct Ends<'a> {
    pub size_bytes: u64,
    /// The bytes from offset zero.
    pub head: &'a [u8],
    /// The bytes from `tail_offset` to the end.
    pub tail: &'a [u8],
    pub tail_offset: u64,
}

impl Ends<'_> {
    fn holds(&self, offset: u64, magic: &[u8]) -> bool {
        let within = |bytes: &[u8], start: u64| {
            let from = offset.checked_sub(start).and_then(|from| usize::try_from(from).ok());
            from.and_then(|from| bytes.get(from..)?.get(..magic.len())).is_some_and(|found| found == magic)
        };
        within(self.head, 0) || within(self.tail, self.tail_offset)
    }
}

impl Signature {
    fn is_on(&self, ends: &Ends<'_>) -> bool {
        match self.place {
            Place::Start(offset) => ends.holds(offset, self.magic),
            Place::Each { first, step, count } => (0..count).any(|i| ends.holds(first + i * step, self.magic)),
            Place::End { align, back } => (ends.size_bytes - ends.size_bytes % align)
                .checked_sub(back)
                .is_some_and(|offset| ends.holds(offset, self.magic)),
        }
    }
}

/// The name of the first format whose magic is found.
#[must_use]
pub fn find(ends: &Ends<'_>) -> Option<&'static str> {
    TABLE.iter().find(|signature| signature.is_on(ends)).map(|signature| signature.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_in(bytes: &[u8]) -> Option<&'static str> {
        let head = &bytes[..bytes.len().min(1 << 20)];
        let tail_offset = bytes.len().saturating_sub(192 << 10);
        find(&Ends {
            size_bytes: bytes.len() as u64,
            head,
            tail: &bytes[tail_offset..],
            tail_offset: tail_offset as u64,
        })
    }

    /// Every row is found where it says, on volumes of odd and even sizes.
    #[test]
    fn every_row_is_found() {
        for size in [4 << 20, (4 << 20) + 513, 300_000_usize] {
            for row in TABLE {
                let offset = match row.place {
                    Place::Start(offset) => offset,
                    Place::Each { first, step, count } => first + step * (count - 1),
                    Place::End { align, back } => (size as u64) / align * align - back,
                };
                let mut bytes = vec![0; size];
                let offset = usize::try_from(offset).unwrap();
                bytes[offset..offset + row.magic.len()].copy_from_slice(row.magic);
                assert_eq!(find_in(&bytes), Some(row.name), "{size} bytes");
            }
        }
    }

    #[test]
    fn what_is_inside_does_not_hide_what_is_around_it() {
        let mut disk = vec![0; 1 << 20];
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(find_in(&disk), Some("MBR partition table or boot sector"));
        disk[512..520].copy_from_slice(b"EFI PART");
        assert_eq!(find_in(&disk), Some("GPT partition table"));
    }

    #[test]
    fn nothing_is_found_in_little_or_nothing() {
        for size in [0, 1, 511, 4095, 70_000] {
            assert_eq!(find_in(&vec![0; size]), None);
        }
    }
}
