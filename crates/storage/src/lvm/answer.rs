//! What `lvs --reportformat json` says, as far as it is believed: numbers that are numbers, names that are names, and of snapshots only
//! those with our tags. LVM writes every value as text (lvmreport(7)).

use serde::Deserialize;
use tanist_model::excerpt::excerpt;
use tanist_model::id::SnapshotId;
use tanist_model::volume::PoolUse;

use super::name;

/// The columns that are asked for.
pub(super) const COLUMNS: &str = "lv_name,lv_uuid,vg_uuid,lv_size,lv_attr,pool_lv,origin,lv_tags,lv_active,data_percent,\
metadata_percent,lv_health_status,lv_check_needed,thin_id";

/// Why an answer is none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    #[error("its answer is not the report that was asked for ({})", excerpt(&.0.to_string()))]
    Json(#[from] serde_json::Error),
    #[error("its answer says of {lv} that {column} is \"{found}\"")]
    Value { lv: String, column: &'static str, found: String },
}

#[derive(Deserialize)]
struct Answer {
    report: Vec<Report>,
}

#[derive(Deserialize)]
struct Report {
    lv: Vec<Row>,
}

/// One line, as it is said.
#[derive(Deserialize)]
struct Row {
    lv_name: String,
    lv_uuid: String,
    vg_uuid: String,
    lv_size: String,
    lv_attr: String,
    pool_lv: String,
    origin: String,
    lv_tags: String,
    lv_active: String,
    data_percent: String,
    metadata_percent: String,
    lv_health_status: String,
    lv_check_needed: String,
    /// Of what is thin; LVM before 2.02.99 does not know the column.
    #[serde(default)]
    thin_id: String,
}

/// A logical volume of the group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LogicalVolume {
    pub(crate) name: String,
    /// As a device of it is identified: LVM gives its devices the UUIDs of group and volume.
    pub(crate) identity: String,
    pub(crate) size_bytes: u64,
    /// The thin pool that it lives in; empty for what is not thin.
    pub(crate) pool: String,
    /// What it is a snapshot of, as long as that is there.
    pub(crate) origin: String,
    pub(crate) is_writable: bool,
    pub(crate) is_active: bool,
    pub(crate) is_thin: bool,
    /// What the pool's metadata calls it.
    pub(crate) thin_id: Option<u32>,
    /// The snapshot that it is, and of which volume, by our tags.
    pub(crate) snapshot: Option<(SnapshotId, String)>,
    pub(crate) filling: Option<Filling>,
}

/// How full a thin pool is, and what ails it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Filling {
    pub(crate) used: PoolUse,
    /// In LVM's word: `out_of_data`, `metadata_read_only`, `failed`; or that its metadata needs a check.
    pub(crate) ailment: Option<String>,
}

/// Every logical volume of one group.
pub(crate) fn volumes(group: &str, text: &[u8]) -> Result<Vec<LogicalVolume>, AnswerError> {
    let answer: Answer = serde_json::from_slice(text)?;
    answer.report.into_iter().flat_map(|report| report.lv).map(|row| row.read(group)).collect()
}

impl Row {
    fn read(self, group: &str) -> Result<LogicalVolume, AnswerError> {
        let wrong =
            |column, found: &str| AnswerError::Value { lv: excerpt(&self.lv_name), column, found: excerpt(found) };
        if !name::is_name(&self.lv_name) {
            return Err(wrong("its name", &self.lv_name));
        }
        let uuids = [("vg_uuid", &self.vg_uuid), ("lv_uuid", &self.lv_uuid)];
        if let Some((column, found)) = uuids.into_iter().find(|(_, uuid)| !is_uuid(uuid)) {
            return Err(wrong(column, found));
        }
        let size_bytes = self.lv_size.parse().map_err(|_| wrong("lv_size", &self.lv_size))?;
        // lvs(8): the first letter is the kind (V thin volume, t thin pool), the second who may write.
        let mut attributes = self.lv_attr.chars();
        let (kind, permission) = (attributes.next(), attributes.next());
        Ok(LogicalVolume {
            identity: name::identity(&self.vg_uuid, &self.lv_uuid),
            size_bytes,
            is_writable: permission == Some('w'),
            is_active: self.lv_active.starts_with("active"),
            is_thin: kind == Some('V'),
            thin_id: self.thin_id()?,
            snapshot: name::snapshot_of_tags(&self.lv_tags),
            filling: if kind == Some('t') { Some(self.filling(group)?) } else { None },
            name: self.lv_name,
            pool: self.pool_lv,
            origin: self.origin,
        })
    }

    fn thin_id(&self) -> Result<Option<u32>, AnswerError> {
        if self.thin_id.is_empty() {
            return Ok(None);
        }
        let (lv, found) = (excerpt(&self.lv_name), excerpt(&self.thin_id));
        self.thin_id.parse().map(Some).map_err(|_| AnswerError::Value { lv, column: "thin_id", found })
    }

    fn filling(&self, group: &str) -> Result<Filling, AnswerError> {
        let health = Some(self.lv_health_status.clone()).filter(|health| !health.is_empty());
        let check = (self.lv_check_needed == "check needed").then(|| "its metadata needs a check".to_owned());
        let used = PoolUse {
            pool: format!("{group}/{}", self.lv_name),
            data_percent: self.percent("data_percent", &self.data_percent)?,
            metadata_percent: self.percent("metadata_percent", &self.metadata_percent)?,
        };
        Ok(Filling { used, ailment: health.or(check) })
    }

    /// Rounded up: 79.1 is nearer to 80 than it looks. A pool that is not active says nothing, and is not full.
    fn percent(&self, column: &'static str, text: &str) -> Result<u8, AnswerError> {
        if text.is_empty() {
            return Ok(0);
        }
        let wrong = || AnswerError::Value { lv: excerpt(&self.lv_name), column, found: excerpt(text) };
        let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
        let is_number = whole.bytes().chain(rest.bytes()).all(|byte| byte.is_ascii_digit());
        let whole: u8 = whole.parse().ok().filter(|whole| is_number && *whole <= 100).ok_or_else(wrong)?;
        Ok(if rest.bytes().any(|digit| digit != b'0') { (whole + 1).min(100) } else { whole })
    }
}

/// `6 4 4 4 4 4 6` letters and digits.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [6, 4, 4, 4, 4, 4, 6] && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests;
