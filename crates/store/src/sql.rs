//! The SQL of the store, one text for SQLite and PostgreSQL: parameters are `$n`, writes are upserts, bodies are JSON text.

pub(crate) const READ_NUMBER: &str = "SELECT value FROM meta WHERE name = $1";
pub(crate) const WRITE_NUMBER: &str = "UPDATE meta SET value = $2 WHERE name = $1";
pub(crate) const RAISE_NUMBER: &str = "UPDATE meta SET value = max(value, $2) WHERE name = $1";

pub(crate) const READ_CURRENT: &str = "SELECT source_epoch, target_epoch, incarnation FROM replications WHERE id = $1";
pub(crate) const COUNT_NAME: &str = "SELECT COUNT(*) FROM replications WHERE name = $1";

pub(crate) const PUT_AGENT: &str =
    "INSERT INTO agents (name, body) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET body = excluded.body";
pub(crate) const PUT_REPLICATION: &str = "INSERT INTO replications \
    (id, name, source_epoch, target_epoch, incarnation, current_run, dirty_run, published_run, body) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
    source_epoch = excluded.source_epoch, target_epoch = excluded.target_epoch, incarnation = excluded.incarnation, \
    current_run = excluded.current_run, dirty_run = excluded.dirty_run, published_run = excluded.published_run, \
    body = excluded.body";
pub(crate) const PUT_RUN: &str = "INSERT INTO runs (replication, id, finished_at, body) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (replication, id) DO UPDATE SET finished_at = excluded.finished_at, body = excluded.body";
pub(crate) const PUT_RECOVERY_POINT: &str = "INSERT INTO recovery_points (replication, run, gone_since, body) \
    VALUES ($1, $2, $3, $4) \
    ON CONFLICT (replication, run) DO UPDATE SET gone_since = excluded.gone_since, body = excluded.body";
pub(crate) const PUT_TAKEOVER: &str = "INSERT INTO takeovers (replication, target_epoch, body) VALUES ($1, $2, $3) \
    ON CONFLICT (replication, target_epoch) DO UPDATE SET body = excluded.body";
pub(crate) const PUT_COMMAND: &str = "INSERT INTO commands (id, at, body) VALUES ($1, $2, $3) \
    ON CONFLICT (id) DO UPDATE SET at = excluded.at, body = excluded.body";
pub(crate) const PUT_TOKEN: &str =
    "INSERT INTO tokens (hash, body) VALUES ($1, $2) ON CONFLICT (hash) DO UPDATE SET body = excluded.body";
pub(crate) const PUT_CREDENTIAL: &str =
    "INSERT INTO credentials (hash, body) VALUES ($1, $2) ON CONFLICT (hash) DO UPDATE SET body = excluded.body";
pub(crate) const ADD_EVENT: &str = "INSERT INTO events (seq, replication, agent, body) VALUES ($1, $2, $3, $4)";

/// A replication goes with all that is its own.
pub(crate) const DELETE_REPLICATION: [&str; 4] = [
    "DELETE FROM replications WHERE id = $1",
    "DELETE FROM runs WHERE replication = $1",
    "DELETE FROM recovery_points WHERE replication = $1",
    "DELETE FROM takeovers WHERE replication = $1",
];

// Pruning: `$1` the replication, `$2` how many stay. SQLite wants a LIMIT before an OFFSET; no table comes near that one.
pub(crate) const PRUNE_RUNS: &str = "DELETE FROM runs WHERE replication = $1 AND id IN \
    (SELECT id FROM runs WHERE replication = $1 AND finished_at IS NOT NULL \
     ORDER BY finished_at DESC, id DESC LIMIT 1000000000 OFFSET $2) \
    AND NOT EXISTS (SELECT 1 FROM replications AS r WHERE r.id = runs.replication \
     AND runs.id IN (r.current_run, r.dirty_run, r.published_run))";
pub(crate) const PRUNE_RECOVERY_POINTS: &str = "DELETE FROM recovery_points WHERE replication = $1 AND run IN \
    (SELECT run FROM recovery_points WHERE replication = $1 AND gone_since IS NOT NULL \
     ORDER BY gone_since DESC, run DESC LIMIT 1000000000 OFFSET $2)";
pub(crate) const PRUNE_TAKEOVERS: &str = "DELETE FROM takeovers WHERE replication = $1 AND target_epoch IN \
    (SELECT target_epoch FROM takeovers WHERE replication = $1 \
     ORDER BY target_epoch DESC LIMIT 1000000000 OFFSET $2)";
pub(crate) const PRUNE_COMMANDS: &str = "DELETE FROM commands WHERE id IN \
    (SELECT id FROM commands ORDER BY at DESC, id DESC LIMIT 1000000000 OFFSET $1)";
pub(crate) const PRUNE_EVENTS: &str =
    "DELETE FROM events WHERE seq <= (SELECT seq FROM events ORDER BY seq DESC LIMIT 1 OFFSET $1)";

pub(crate) const READ_AGENTS: &str = "SELECT name, body FROM agents";
pub(crate) const READ_REPLICATIONS: &str =
    "SELECT id, name, source_epoch, target_epoch, incarnation, body FROM replications";
pub(crate) const READ_RUNS: &str = "SELECT replication || '/' || id, body FROM runs";
pub(crate) const READ_RECOVERY_POINTS: &str = "SELECT replication || '/' || run, body FROM recovery_points";
pub(crate) const READ_TAKEOVERS: &str = "SELECT replication || '/' || CAST(target_epoch AS TEXT), body FROM takeovers";
pub(crate) const READ_COMMANDS: &str = "SELECT id, body FROM commands";
pub(crate) const READ_TOKENS: &str = "SELECT hash, body FROM tokens";
pub(crate) const READ_CREDENTIALS: &str = "SELECT hash, body FROM credentials";
