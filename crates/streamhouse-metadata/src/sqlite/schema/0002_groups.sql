-- A row a group; what its coordinator's state machine encoded stays opaque.
CREATE TABLE consumer_groups (
    name               TEXT PRIMARY KEY,
    coordinator_epoch  INTEGER NOT NULL,
    summary            BLOB    NOT NULL,
    payload            BLOB    NOT NULL,
    -- Set while it has no members.
    empty_since        INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX groups_empty ON consumer_groups (empty_since) WHERE empty_since IS NOT NULL;

CREATE TABLE group_members (
    group_name  TEXT NOT NULL,
    member      TEXT NOT NULL,
    payload     BLOB NOT NULL,
    PRIMARY KEY (group_name, member)
) STRICT, WITHOUT ROWID;

CREATE TABLE committed_offsets (
    group_name    TEXT    NOT NULL,
    partition_id  INTEGER NOT NULL,
    offset        INTEGER NOT NULL,
    leader_epoch  INTEGER NOT NULL,
    metadata      TEXT    NOT NULL,
    committed_at  INTEGER NOT NULL,
    PRIMARY KEY (group_name, partition_id)
) STRICT, WITHOUT ROWID;
-- A deleted topic takes its offsets with it.
CREATE INDEX committed_offsets_by_partition ON committed_offsets (partition_id);
