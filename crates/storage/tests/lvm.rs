//! LVM thin without LVM: a program that answers as one did in the lab, or badly. What a real one does is tried there (`make lab`).

mod support;

use std::path::Path;
use std::time::Duration;

use support::{ID, address, system_name};
use tanist_model::byte_range::ByteRange;
use tanist_model::volume::StorageKind;
use tanist_storage::{LvmThin, SourceView, StorageError, StorageSystem, ThinPool};

const LONG: Duration = Duration::from_secs(30);

/// A storage system over a program of this text. It is called as `lvm VERB ARGUMENT...`; `$HERE` holds what was recorded.
struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self { folder }
    }

    fn says(&self, text: &str) -> LvmThin {
        self.limited(text, LONG)
    }

    fn limited(&self, text: &str, limit: Duration) -> LvmThin {
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lvm/answer/recorded");
        let head = format!("HERE={} LOG={}", recorded.display(), self.log().display());
        let program = support::program_in(self.folder.path(), "lvm", &format!("{head}; echo \"$@\" >>$LOG\n{text}"));
        LvmThin::with_program(system_name(), ThinPool::new("vg-a", "pool").unwrap(), limit, program)
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("calls")
    }

    fn calls(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

/// A pool with the volume db and two snapshots of it, of the thin numbers 2 and 5.
const TWO_SNAPSHOTS: &str = r#"
row() { # NAME ATTRIBUTES UUID-END TAGS THIN-ID
    printf '{"lv_name":"%s","lv_uuid":"aaaaaa-bbbb-cccc-dddd-eeee-ffff-%s","vg_uuid":"aaaaaa-bbbb-cccc-dddd-eeee-ffff-gggggg",' $1 $3
    printf '"lv_size":"2097152","lv_attr":"%s","pool_lv":"pool","origin":"","lv_tags":"%s","lv_active":"active",' $2 "$4"
    printf '"data_percent":"","metadata_percent":"","lv_health_status":"","lv_check_needed":"","thin_id":"%s"}' $5
}
printf '{"report":[{"lv":['; row db Vwi-a-tz-- 000001 "" 1; printf ,
row tanist-0000000000000007 $ATTRIBUTES 000007 tanist.snapshot=0000000000000007,tanist.volume=db 2; printf ,
row tanist-0000000000000009 Vri-a-tz-- 000009 tanist.snapshot=0000000000000009,tanist.volume=db 5; echo ']}]}'
"#;
const DELTA: &str = r#"<superblock data_block_size="128"><diff left="2" right="5"><different begin="3" length="2"/></diff></superblock>"#;
/// There can be one frozen copy; with `keeps`, it cannot be let go.
const DMSETUP: &str = r#"
held=${0%/*}/held
case $4 in
    reserve*) [ ! -e $held ] || { echo 'message ioctl failed: Device or resource busy' >&2; exit 1; }; : >$held;;
    release*) [ ! -e ${0%/*}/keeps ] && rm $held;;
esac
"#;
const NEXT: tanist_model::id::SnapshotId = tanist_model::id::SnapshotId(9);

impl Host {
    /// The pool of two snapshots; `thin_delta` is a program of this text.
    fn with_delta(&self, attributes: &str, thin_delta: &str) -> LvmThin {
        let lvm = self.says(&format!("ATTRIBUTES={attributes}\n{TWO_SNAPSHOTS}"));
        let log = format!("echo \"${{0##*/}} $@\" >>{}\n", self.log().display());
        let program = |name, text: &str| support::program_in(self.folder.path(), name, &format!("{log}{text}"));
        let turns = self.folder.path().join("turns");
        lvm.with_delta_programs(program("dmsetup", DMSETUP), program("thin_delta", thin_delta), turns)
    }

    /// What is called from now on until the end of `work`, but for LVM itself.
    fn called<T>(&self, work: impl FnOnce() -> T) -> (T, Vec<String>) {
        let before = self.calls().len();
        let done = work();
        let calls = self.calls().split_off(before);
        (done, calls.lines().filter(|call| !call.starts_with("lvs")).map(ToOwned::to_owned).collect())
    }
}

fn view(system: &LvmThin) -> SourceView {
    let next = system.list_snapshots(&address("db")).unwrap().into_iter().find(|snapshot| snapshot.id == NEXT).unwrap();
    SourceView::Snapshot { id: NEXT, uid: next.uid }
}

#[test]
fn what_changed_between_two_snapshots_is_read_of_metadata_that_stand_still() {
    let host = Host::new();
    let system = host.with_delta("Vri-a-tz--", &format!("echo '{DELTA}'"));
    let now = view(&system);
    let (changed, calls) = host.called(|| system.changed_since(&address("db"), ID, &now).unwrap());
    assert_eq!(changed, Some(vec![ByteRange::new(3 << 16, 5 << 16)]));
    assert_eq!(
        calls,
        [
            "dmsetup message vg--a-pool-tpool 0 reserve_metadata_snap",
            "thin_delta --metadata-snap --thin1 2 --thin2 5 /dev/mapper/vg--a-pool_tmeta",
            "dmsetup message vg--a-pool-tpool 0 release_metadata_snap",
        ]
    );
    for (base, now) in [(tanist_model::id::SnapshotId(8), now), (ID, SourceView::Live), (NEXT, SourceView::Live)] {
        assert_eq!(system.changed_since(&address("db"), base, &now).unwrap(), None, "{base} {now:?}");
    }
}

#[test]
fn of_a_snapshot_that_can_be_written_to_nothing_is_told() {
    let host = Host::new();
    let system = host.with_delta("Vwi-a-tz--", &format!("echo '{DELTA}'"));
    let now = view(&system);
    let (changed, calls) = host.called(|| system.changed_since(&address("db"), ID, &now).unwrap());
    assert_eq!((changed, calls), (None, Vec::new()));
}

/// The metadata are let go whatever thin_delta did. What a killed agent left behind is ended first, what another program holds is left alone.
#[test]
fn metadata_are_frozen_once_and_never_for_long() {
    let host = Host::new();
    let broken = host.with_delta("Vri-a-tz--", "echo 'bad checksum' >&2; exit 1");
    let now = view(&broken);
    let ask = |system: &LvmThin| system.changed_since(&address("db"), ID, &now);
    let (error, calls) = host.called(|| ask(&broken).unwrap_err().to_string());
    assert!(error.contains("thin_delta of vg-a/pool: it ended with status 1: bad checksum"), "{error}");
    assert!(calls.last().is_some_and(|last| last.ends_with("release_metadata_snap")), "{calls:?}");

    // As if an agent had been killed before it could.
    let well = host.with_delta("Vri-a-tz--", &format!("echo '{DELTA}'"));
    let keeps = host.folder.path().join("keeps");
    std::fs::write(&keeps, "").unwrap();
    ask(&well).unwrap_err();
    std::fs::remove_file(keeps).unwrap();
    let (changed, calls) = host.called(|| ask(&well).unwrap());
    assert!(changed.is_some() && calls[1].ends_with("release_metadata_snap") && calls.len() == 5, "{calls:?}");

    let held = host.folder.path().join("held");
    std::fs::write(&held, "another program's").unwrap();
    let (error, calls) = host.called(|| ask(&well).unwrap_err().to_string());
    assert!(error.contains("resource busy") && error.contains("0 release_metadata_snap ends what"), "{error}");
    assert!(calls.len() == 1 && held.exists(), "another program's is not released: {calls:?}");
    let missing = broken.with_delta_programs("/bin/true".into(), "/does/not/exist".into(), host.folder.path().into());
    let error = ask(&missing).unwrap_err().to_string();
    assert!(error.contains("install the package thin-provisioning-tools"), "{error}");
}

#[test]
fn a_report_says_how_full_the_pool_is_and_asks_no_second_time() {
    let host = Host::new();
    let system = host.says("cat $HERE/group.json");
    let report = system.report();
    assert_eq!((report.kind, report.error), (StorageKind::LvmThin, None));
    assert_eq!(report.location, "vg-a/pool, 13 % data, 13 % metadata");
    assert!(report.capabilities.snapshots);
    system.report();
    assert_eq!(host.calls().lines().count(), 1, "who opens a volume waits for no program");
    let full = host.says("cat $HERE/pool-full.json").report();
    assert!(full.error.is_some_and(|error| error.contains("out_of_data")) && full.pool.unwrap().is_full());
}

#[test]
fn a_pool_that_is_not_there_is_told_with_what_shows_the_others() {
    let host = Host::new();
    let program = host.says("echo '{\"report\":[{\"lv\":[]}]}'");
    let error = program.report().error.unwrap();
    assert!(error.contains("no thin pool vg-a/pool") && error.contains("vgchange"), "{error}");
    let gone = host.says("echo '  Volume group \"vg-a\" not found' >&2; exit 5");
    let error = gone.volumes().unwrap_err().to_string();
    assert!(error.starts_with("lvs of vg-a: it ended with status 5: Volume group \"vg-a\" not found"), "{error}");
}

#[test]
fn a_program_that_is_missing_hangs_or_floods_is_an_error_in_words() {
    let host = Host::new();
    let pool = || ThinPool::new("vg-a", "pool").unwrap();
    let missing = LvmThin::with_program(system_name(), pool(), LONG, "/does/not/exist");
    let error = missing.list_snapshots(&address("db")).unwrap_err().to_string();
    assert!(error.contains("install the package lvm2"), "{error}");
    let slow = host.limited("sleep 300", Duration::from_secs(1));
    let error = slow.list_snapshots(&address("db")).unwrap_err().to_string();
    assert!(error.contains("within 1 s") && error.contains("dmsetup resume"), "{error}");
    let flood = host.says("yes");
    assert!(matches!(flood.list_snapshots(&address("db")), Err(StorageError::Lvm { verb: "lvs", .. })));
}

#[test]
fn a_full_pool_takes_no_snapshot_and_says_what_helps() {
    let host = Host::new();
    let text = "sed 's/\"lv_name\":\"big\"/\"lv_name\":\"db\"/' $HERE/pool-full.json";
    let error = host.says(text).create_snapshot(&address("db"), ID).unwrap_err();
    assert!(matches!(error, StorageError::PoolFull { .. }) && error.is_retryable(), "{error}");
    let said = error.to_string();
    assert!(said.contains("out_of_data") && said.contains("lvextend --size +10G vg-a/pool"), "{said}");
    let nearly = "sed 's/\"metadata_percent\":\"12.11\"/\"metadata_percent\":\"94.10\"/' $HERE/group.json";
    let said = host.says(nearly).create_snapshot(&address("db"), ID).unwrap_err().to_string();
    assert!(said.contains("full to 13 % data, 95 % metadata") && said.contains("--poolmetadatasize"), "{said}");
    assert!(!host.calls().contains("lvcreate"));
}

/// An exit status of 0 is a claim.
#[test]
fn a_snapshot_counts_only_when_it_is_listed() {
    let host = Host::new();
    let error =
        host.says("case $1 in lvs) cat $HERE/group.json;; esac").create_snapshot(&address("db"), ID).unwrap_err();
    assert!(error.to_string().contains("is not listed as a read-only snapshot"), "{error}");
    let create = host.calls().lines().find(|line| line.starts_with("lvcreate")).map(ToOwned::to_owned);
    assert_eq!(
        create.as_deref(),
        Some(
            "lvcreate --snapshot --permission r --setactivationskip n --yes --name tanist-0000000000000007 --addtag \
             tanist.snapshot=0000000000000007 --addtag tanist.volume=db vg-a/db"
        )
    );
    let refused = host.says("case $1 in lvs) cat $HERE/group.json;; *) echo '  no room' >&2; exit 5;; esac");
    let error = refused.create_snapshot(&address("db"), ID).unwrap_err().to_string();
    assert_eq!(error, "lvcreate of vg-a/db: it ended with status 5: no room");
}

#[test]
fn only_our_own_snapshots_of_that_volume_are_listed_opened_and_removed() {
    let host = Host::new();
    let known = tanist_model::id::SnapshotId(0xabcd);
    for recording in ["group.json", "origin-removed.json"] {
        let system = host.says(&format!("cat $HERE/{recording}"));
        let listed = system.list_snapshots(&address("db")).unwrap();
        assert_eq!(
            listed.iter().map(|snapshot| (snapshot.id, snapshot.size_bytes)).collect::<Vec<_>>(),
            [(known, 24 << 20)]
        );
        assert!(listed[0].uid.starts_with("dm.LVM-"), "{listed:?}");
        assert_eq!(system.list_snapshots(&address("idle")).unwrap(), []);
    }
    let system = host.says("cat $HERE/group.json");
    assert!(matches!(system.create_snapshot(&address("db"), known), Err(StorageError::SnapshotExists { .. })));
    assert!(matches!(system.create_snapshot(&address("plain"), ID), Err(StorageError::NotFound { .. })));
    let open = |id, uid: &str| system.open_source(&address("db"), &SourceView::Snapshot { id, uid: uid.to_owned() });
    assert!(matches!(open(ID, "any"), Err(StorageError::SnapshotNotFound { .. })));
    assert!(matches!(open(known, "another"), Err(StorageError::SnapshotMismatch { .. })));
    let writable = host.says("sed s/Vri-a-tz--/Vwi-a-tz--/ $HERE/group.json");
    let uid = writable.list_snapshots(&address("db")).unwrap().remove(0).uid;
    let view = SourceView::Snapshot { id: known, uid };
    assert!(writable.open_source(&address("db"), &view).unwrap_err().to_string().contains("can be written to"));

    system.delete_snapshot(&address("db"), ID).unwrap();
    assert!(!host.calls().contains("lvremove"), "one that is not there is removed already");
    system.delete_snapshot(&address("db"), known).unwrap();
    assert!(host.calls().contains("lvremove --force --yes vg-a/tanist-000000000000abcd\n"), "{}", host.calls());
}

#[test]
fn no_name_of_a_volume_becomes_an_option_or_one_of_ours() {
    let host = Host::new();
    let system = host.says("cat $HERE/group.json");
    for name in ["-f", "a@b", "tanist-000000000000abcd", "missing"] {
        assert!(matches!(system.inspect(&address(name)), Err(StorageError::NotFound { .. })), "{name}");
        assert!(matches!(system.create_snapshot(&address(name), ID), Err(StorageError::NotFound { .. })), "{name}");
    }
    assert!(host.calls().lines().all(|line| line.starts_with("lvs ")), "{}", host.calls());
    let error = system.inspect(&address("idle")).unwrap_err();
    assert!(
        matches!(error, StorageError::Absent { .. }) && error.to_string().contains("lvchange --activate y vg-a/idle")
    );
}
