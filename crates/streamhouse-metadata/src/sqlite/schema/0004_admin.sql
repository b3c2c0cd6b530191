-- Bytes of the merged segments; what is not merged yet is added when it is replayed.
ALTER TABLE partitions ADD COLUMN size_bytes INTEGER NOT NULL DEFAULT 0;
UPDATE partitions SET size_bytes =
    (SELECT coalesce(sum(length), 0) FROM segments WHERE partition_id = partitions.id);

CREATE TABLE client_quotas (
    -- Whom the quotas are for, and the rates, as JSON.
    entity  TEXT PRIMARY KEY,
    rates   TEXT NOT NULL
) STRICT, WITHOUT ROWID;
