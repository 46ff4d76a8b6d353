//! A backup of the store that was damaged on the way: it is refused, or what is restored of it is a whole store that goes on above it.

use std::path::Path;
use std::sync::LazyLock;

use tanist_model::excerpt::excerpt;
use tanist_store::{NUMBER_MARGIN, SqliteStore, Store as _, StoreError, restore};
use tokio::runtime::{Builder, Runtime};

use crate::Verdict;

static RUNTIME: LazyLock<Option<Runtime>> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().ok());

/// A sound one, made once.
static SOUND: LazyLock<Option<Vec<u8>>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().ok()?;
    let made = RUNTIME.as_ref()?.block_on(async {
        let store = SqliteStore::open(&folder.path().join("store.db")).await?;
        store.begin_term().await?;
        store.backup(&folder.path().join("backup.db")).await
    });
    made.ok()?;
    std::fs::read(folder.path().join("backup.db")).ok()
});

fn words(error: StoreError) -> String {
    excerpt(&error.to_string())
}

/// Groups of four bytes: where in the backup, and what is written there; three of 0xff cut it there.
pub(crate) fn backups(bytes: &[u8]) -> Verdict {
    let (runtime, sound) = (RUNTIME.as_ref().ok_or("no runtime")?, SOUND.as_ref().ok_or("no store can be made here")?);
    let mut damaged = sound.clone();
    for [high, low, shift, value] in bytes.as_chunks().0 {
        let place = (usize::from(*high) << 8 | usize::from(*low)) + usize::from(*shift) * 65_536;
        let place = place % damaged.len().max(1);
        if *shift == 0xff {
            damaged.truncate(place);
        } else if let Some(byte) = damaged.get_mut(place) {
            *byte = *value;
        }
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (backup, to) = (folder.path().join("backup.db"), folder.path().join("store.db"));
    std::fs::write(&backup, &damaged).map_err(|error| error.to_string())?;
    let verdict = runtime.block_on(restored(&backup, &to));
    assert_eq!(std::fs::read(&backup).ok(), Some(damaged), "a restore changed its backup");
    assert!(verdict.is_ok() || !to.exists(), "a restore that failed left something behind");
    verdict
}

async fn restored(backup: &Path, to: &Path) -> Verdict {
    let report = restore(backup, to).await.map_err(words)?;
    let store = SqliteStore::open(to).await.expect("what was restored can be opened");
    let state = store.load().await.expect("what was restored can be loaded");
    assert!(state.restoring && state.term == report.term && report.term.0 >= NUMBER_MARGIN, "{report:?}");
    assert!(store.begin_term().await.is_ok_and(|term| term > report.term));
    Ok(())
}
