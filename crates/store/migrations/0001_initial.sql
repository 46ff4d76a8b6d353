-- The server's durable state. Bodies are the JSON of the model's records and the truth; the columns beside them exist so that
-- conditions, order and bounds can be decided by SQL. Shared by SQLite and PostgreSQL.

-- Numbers of the whole store. `last_event` is the highest event number ever given: numbers are never reused.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO meta (name, value) VALUES ('term', 0), ('restoring', 0), ('last_event', 0);

CREATE TABLE agents (
    name TEXT PRIMARY KEY,
    body TEXT NOT NULL
);

-- That a name is free is a condition of the transaction that takes it, so the index need not be unique.
CREATE TABLE replications (
    id            TEXT PRIMARY KEY,
    name          TEXT NOT NULL,
    source_epoch  BIGINT NOT NULL,
    target_epoch  BIGINT NOT NULL,
    incarnation   TEXT,
    current_run   TEXT,
    dirty_run     TEXT,
    published_run TEXT,
    body          TEXT NOT NULL
);
CREATE INDEX replications_by_name ON replications (name);

-- Times are microseconds since the Unix epoch. A run without `finished_at` is in progress and is never pruned.
CREATE TABLE runs (
    replication TEXT NOT NULL,
    id          TEXT NOT NULL,
    finished_at BIGINT,
    body        TEXT NOT NULL,
    PRIMARY KEY (replication, id)
);
CREATE INDEX runs_by_end ON runs (replication, finished_at, id);

-- `gone_since` is the publication time of a recovery point that is held nowhere any more.
CREATE TABLE recovery_points (
    replication TEXT NOT NULL,
    run         TEXT NOT NULL,
    gone_since  BIGINT,
    body        TEXT NOT NULL,
    PRIMARY KEY (replication, run)
);
CREATE INDEX recovery_points_by_age ON recovery_points (replication, gone_since, run);

CREATE TABLE takeovers (
    replication  TEXT NOT NULL,
    target_epoch BIGINT NOT NULL,
    body         TEXT NOT NULL,
    PRIMARY KEY (replication, target_epoch)
);

CREATE TABLE commands (
    id   TEXT PRIMARY KEY,
    at   BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX commands_by_age ON commands (at, id);

CREATE TABLE tokens (
    hash TEXT PRIMARY KEY,
    body TEXT NOT NULL
);

CREATE TABLE credentials (
    hash TEXT PRIMARY KEY,
    body TEXT NOT NULL
);

-- `replication` is a name: events outlive what they tell of.
CREATE TABLE events (
    seq         BIGINT PRIMARY KEY,
    replication TEXT,
    agent       TEXT,
    body        TEXT NOT NULL
);
CREATE INDEX events_by_replication ON events (replication, seq);
CREATE INDEX events_by_agent ON events (agent, seq);
