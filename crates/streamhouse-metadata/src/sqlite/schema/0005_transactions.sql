-- A row a transactional id, all of it held in memory, too.
CREATE TABLE transactions (
    transactional_id  TEXT PRIMARY KEY,
    state             BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- What readers of committed records leave out.
CREATE TABLE aborted_transactions (
    partition_id   INTEGER NOT NULL,
    -- The ABORT marker.
    last_offset    INTEGER NOT NULL,
    first_offset   INTEGER NOT NULL,
    producer_id    INTEGER NOT NULL,
    -- The last stable offset after the abort: whatever aborted later begins there or beyond.
    stable_offset  INTEGER NOT NULL,
    PRIMARY KEY (partition_id, last_offset)
) STRICT, WITHOUT ROWID;

-- Offsets that become committed ones when their transaction commits.
CREATE TABLE pending_offsets (
    group_name        TEXT    NOT NULL,
    partition_id      INTEGER NOT NULL,
    transactional_id  TEXT    NOT NULL,
    offset            INTEGER NOT NULL,
    leader_epoch      INTEGER NOT NULL,
    metadata          TEXT    NOT NULL,
    -- 1: a plain commit came later, which wins.
    superseded        INTEGER NOT NULL,
    PRIMARY KEY (group_name, partition_id, transactional_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX pending_offsets_by_transaction ON pending_offsets (transactional_id);
CREATE INDEX pending_offsets_by_partition ON pending_offsets (partition_id);
