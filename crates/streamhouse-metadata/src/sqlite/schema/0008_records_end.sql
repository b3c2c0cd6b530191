-- One past the last record, as far as segments are merged; beyond it are markers of transactions alone.
ALTER TABLE partitions ADD COLUMN records_end INTEGER NOT NULL DEFAULT 0;
-- What was compacted does not tell which of it were markers, and counts as records; so does what is gone.
UPDATE partitions SET records_end = coalesce(
    (SELECT s.last_offset + 1 FROM segments s CROSS JOIN objects o ON o.id = s.object
     WHERE s.partition_id = partitions.id AND o.incarnation <> zeroblob(16)
     ORDER BY s.base_offset DESC LIMIT 1),
    (SELECT min(base_offset) FROM segments WHERE partition_id = partitions.id),
    high_watermark);
