//! What a real LVM said (2.03.16, in the lab), and what none should.

use super::*;

const GROUP: &[u8] = include_bytes!("recorded/group.json");
const ORIGIN_REMOVED: &[u8] = include_bytes!("recorded/origin-removed.json");
const POOL_FULL: &[u8] = include_bytes!("recorded/pool-full.json");
const SNAPSHOT: &str = "tanist-000000000000abcd";

fn find(text: &[u8], name: &str) -> LogicalVolume {
    volumes("vg-a", text).unwrap().into_iter().find(|volume| volume.name == name).unwrap()
}

#[test]
fn volumes_pools_and_our_snapshots_are_told_apart() {
    let volume = find(GROUP, "db");
    assert!(volume.is_thin && volume.is_active && volume.is_writable && volume.snapshot.is_none(), "{volume:?}");
    assert_eq!((volume.size_bytes, volume.pool.as_str()), (24 << 20, "pool"));
    // As the kernel had it in /sys/block/dm-4/dm/uuid at that moment.
    let uuid = "LVM-0oP3f9zz60G4nhvVOxyUWrVD90UUNP4J9ZW12RO7xGdbP3c469pDlgQrygfeFe6v";
    assert_eq!(volume.identity, format!("dm.{uuid}"));
    assert!(!find(GROUP, "idle").is_active);
    assert!(!find(GROUP, "plain").is_thin && !find(GROUP, "pool").is_thin);

    let snapshot = find(GROUP, SNAPSHOT);
    assert!(snapshot.is_thin && snapshot.is_active && !snapshot.is_writable, "{snapshot:?}");
    assert_eq!((snapshot.origin.as_str(), &snapshot.snapshot), ("db", &Some((SnapshotId(0xabcd), "db".to_owned()))));
}

#[test]
fn a_snapshot_is_known_after_its_origin_is_gone() {
    let snapshot = find(ORIGIN_REMOVED, SNAPSHOT);
    assert_eq!((snapshot.origin.as_str(), &snapshot.snapshot), ("", &Some((SnapshotId(0xabcd), "db".to_owned()))));
    assert_eq!(snapshot.identity, find(GROUP, SNAPSHOT).identity);
}

#[test]
fn a_pool_says_how_full_it_is_and_what_ails_it() {
    let filling = |text, name| find(text, name).filling.unwrap();
    let used = filling(GROUP, "pool");
    assert_eq!((used.used.pool.as_str(), used.ailment), ("vg-a/pool", None));
    assert_eq!((used.used.data_percent, used.used.metadata_percent), (13, 13), "rounded up from 12.50 and 12.11");
    let full = filling(POOL_FULL, "pool");
    assert_eq!((full.used.data_percent, full.ailment.as_deref()), (100, Some("out_of_data")));
    assert!(find(GROUP, "db").filling.is_none());
}

/// The recording with one thing replaced.
fn altered(from: &str, to: &str) -> Result<Vec<LogicalVolume>, AnswerError> {
    let text = String::from_utf8(GROUP.to_vec()).unwrap();
    assert!(text.contains(from), "{from}");
    volumes("vg-a", text.replacen(from, to, 1).as_bytes())
}

#[test]
fn what_is_no_value_of_its_column_is_refused_by_name() {
    for (from, to, complaint) in [
        ("\"25165824\"", "\"24.00m\"", "says of db that lv_size is \"24.00m\""),
        ("\"db\"", "\"../db\"", "its name"),
        ("9ZW12R-O7xG", "9ZW12R/O7xG", "lv_uuid"),
        ("0oP3f9-zz60", "0oP3f9zz60", "vg_uuid"),
        ("\"0.00\"", "\"101.00\"", "data_percent"),
        ("\"11.72\"", "\"-1\"", "metadata_percent"),
        ("\"lv_attr\"", "\"attributes\"", "not the report"),
        ("{", "[", "not the report"),
    ] {
        let error = altered(from, to).unwrap_err().to_string();
        assert!(error.contains(complaint), "{from} -> {to}: {error}");
    }
    assert!(volumes("vg-a", b"").is_err());
    // Somebody else's tags are nobody's business.
    let strangers = altered("tanist.volume=db", "backup").unwrap();
    assert!(strangers.iter().all(|volume| volume.snapshot.is_none()));
    let check = altered("\"lv_check_needed\":\"\"", "\"lv_check_needed\":\"check needed\"").unwrap();
    let ailments: Vec<_> = check.into_iter().filter_map(|volume| volume.filling?.ailment).collect();
    assert_eq!(ailments, ["its metadata needs a check"]);
}
