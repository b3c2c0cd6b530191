CREATE TABLE client_metrics (
    -- A subscription's name, and what was set for it, as JSON.
    name    TEXT PRIMARY KEY,
    config  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
