-- One row: who this metadata belongs to and how far the store has come.
CREATE TABLE cluster (
    id                BLOB    NOT NULL,
    epoch             INTEGER NOT NULL,
    -- Commits up to this one are merged into segments, partitions and producers.
    merged_commit     INTEGER NOT NULL DEFAULT 0,
    next_producer_id  INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE agents (
    node_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    advertised  TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE incarnations (
    id             BLOB PRIMARY KEY,
    node_id        INTEGER NOT NULL REFERENCES agents (node_id),
    registered_at  INTEGER NOT NULL,
    -- Set: a tombstone.
    fenced_at      INTEGER,
    swept_at       INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE topics (
    id          BLOB PRIMARY KEY,
    name        TEXT    NOT NULL,
    config      TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    -- Set: marked deleted, its rows are being removed.
    deleted_at  INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX topics_by_name ON topics (name) WHERE deleted_at IS NULL;

CREATE TABLE partitions (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    topic             BLOB    NOT NULL REFERENCES topics (id),
    partition         INTEGER NOT NULL,
    log_start_offset  INTEGER NOT NULL,
    -- As far as segments are merged; commits beyond cluster.merged_commit may raise it.
    high_watermark    INTEGER NOT NULL,
    running_max_ts    INTEGER NOT NULL,
    UNIQUE (topic, partition)
) STRICT;

CREATE TABLE objects (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    incarnation     BLOB    NOT NULL,
    counter         INTEGER NOT NULL,
    inline          INTEGER NOT NULL,
    length          INTEGER NOT NULL,
    -- Segments, merged or not, that name it.
    live_segments   INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    -- Set: nothing names it any more, its key may be deleted.
    deleting_since  INTEGER
) STRICT;
CREATE UNIQUE INDEX objects_stored ON objects (incarnation, counter) WHERE inline = 0;
CREATE INDEX objects_deleting ON objects (deleting_since, id) WHERE deleting_since IS NOT NULL;

CREATE TABLE inline_objects (
    id        INTEGER PRIMARY KEY,
    -- Primary keys of its segments, as encoded by the store.
    segments  BLOB NOT NULL,
    payload   BLOB NOT NULL
) STRICT;

CREATE TABLE segments (
    partition_id    INTEGER NOT NULL,
    base_offset     INTEGER NOT NULL,
    last_offset     INTEGER NOT NULL,
    object          INTEGER NOT NULL,
    position        INTEGER NOT NULL,
    length          INTEGER NOT NULL,
    record_count    INTEGER NOT NULL,
    max_ts          INTEGER NOT NULL,
    running_max_ts  INTEGER NOT NULL,
    committed_at    INTEGER NOT NULL,
    PRIMARY KEY (partition_id, base_offset)
) STRICT, WITHOUT ROWID;

CREATE TABLE producers (
    partition_id  INTEGER NOT NULL,
    producer_id   INTEGER NOT NULL,
    last_used     INTEGER NOT NULL,
    state         BLOB    NOT NULL,
    PRIMARY KEY (partition_id, producer_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE commits (
    id                INTEGER PRIMARY KEY,
    incarnation       BLOB    NOT NULL,
    number            INTEGER NOT NULL,
    committed_at      INTEGER NOT NULL,
    lowest_undecided  INTEGER NOT NULL,
    -- The answer of a repeat.
    outcomes          BLOB    NOT NULL,
    -- What is to be merged.
    delta             BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX commits_by_number ON commits (incarnation, number);
