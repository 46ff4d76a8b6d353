//! Every decoder of bytes that somebody else wrote, in one list, each with what has to hold of it whatever the bytes are.
//!
//! The fuzz targets in `fuzz/` and the test in `tests/replay.rs` call the same functions: what a night of fuzzing finds is a file that the
//! ordinary tests replay from then on. A property of a decoder that only its own crate can reach stands in that crate, in `decoders.rs`.

#![forbid(unsafe_code)]

mod backups;
mod recordings;
mod records;
mod texts;

use tanist_protocol::message::{AgentMessage, ServerMessage};

/// `Ok` if the bytes were understood, else the words in which they were refused. What must never be is a panic.
pub type Verdict = Result<(), String>;

/// The longest that a refusal may be, bytes: it goes to logs, answers and terminals, and whoever wrote the bytes wrote part of it.
pub const REFUSAL_LIMIT: usize = 2048;

/// One decoder, or a few that read the same kind of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Of its fuzz target and of its corpus.
    pub name: &'static str,
    property: fn(&[u8]) -> Verdict,
}

/// All of them; `fuzz/README.md` says whose bytes each one reads.
pub const DECODERS: &[Decoder] = &[
    decoder("agent_configurations", tanist_agent::decoders::agent_configurations),
    decoder("agent_files", tanist_agent::decoders::agent_files),
    decoder("agent_messages", tanist_wire::decoders::message::<AgentMessage>),
    decoder("backups", backups::backups),
    decoder("bookmarks", records::bookmarks),
    decoder("certificate_requests", tanist_wire::decoders::certificate_requests),
    decoder("certificates", tanist_wire::decoders::certificates),
    decoder("declarations", texts::declarations),
    decoder("device_patterns", tanist_storage::decoders::device_patterns),
    decoder("frame_headers", tanist_datapath::decoders::frame_headers),
    decoder("gate", tanist_datapath::decoders::gate),
    decoder("grants", tanist_wire::decoders::grants),
    decoder("kernel_tables", tanist_storage::decoders::kernel_tables),
    decoder("knowledge", tanist_datapath::decoders::knowledge),
    decoder("lvm_reports", tanist_storage::decoders::lvm_reports),
    decoder("message_streams", tanist_wire::decoders::message_stream::<AgentMessage>),
    decoder("names", texts::names),
    decoder("lvm_deltas", tanist_storage::decoders::lvm_deltas),
    decoder("nbd_replies", tanist_storage::decoders::nbd_replies),
    decoder("page_sets", tanist_datapath::decoders::page_sets),
    decoder("preambles", tanist_wire::decoders::preambles),
    decoder("receptions", tanist_datapath::decoders::reception),
    decoder("recordings", recordings::recordings),
    decoder("requests", tanist_server::decoders::requests),
    decoder("retentions", texts::retentions),
    decoder("schedules", texts::schedules),
    decoder("seals", tanist_storage::decoders::seals),
    decoder("secrets", records::secrets),
    decoder("sendings", tanist_datapath::decoders::sending),
    decoder("server_answers", records::server_answers),
    decoder("server_configurations", tanist_server::decoders::server_configurations),
    decoder("server_messages", tanist_wire::decoders::message::<ServerMessage>),
    decoder("signatures", tanist_storage::decoders::signatures),
    decoder("snapshot_answers", tanist_storage::decoders::snapshot_answers),
    decoder("store_records", records::store_records),
    decoder("stored_digests", tanist_datapath::decoders::stored_digests),
    decoder("typed_values", texts::typed_values),
    decoder("unit_identities", tanist_storage::decoders::unit_identities),
];

const fn decoder(name: &'static str, property: fn(&[u8]) -> Verdict) -> Decoder {
    Decoder { name, property }
}

impl Decoder {
    /// Gives it these bytes. Panics if something does not hold that has to.
    ///
    /// # Errors
    /// The words in which it refuses them.
    pub fn read(&self, bytes: &[u8]) -> Verdict {
        let verdict = (self.property)(bytes);
        if let Err(words) = &verdict {
            assert!(!words.is_empty(), "refused without a word");
            assert!(words.len() <= REFUSAL_LIMIT, "refused in {} bytes: {words:.200}", words.len());
        }
        verdict
    }
}

/// The decoder of this name, for the fuzz target that bears it.
#[must_use]
pub fn named(name: &str) -> Option<&'static Decoder> {
    DECODERS.iter().find(|decoder| decoder.name == name)
}
