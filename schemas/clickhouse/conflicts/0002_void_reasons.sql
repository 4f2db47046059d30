-- What is void says why: as many reasons as there are events in void, in their order.
ALTER TABLE {db}.conflicts ADD COLUMN IF NOT EXISTS void_reasons Array(String) CODEC(ZSTD(1)) COMMENT 'why each event of void does not count, in the same order' AFTER void;

DROP VIEW IF EXISTS {db}.conflicts_now SYNC;

CREATE VIEW IF NOT EXISTS {db}.conflicts_now AS
SELECT * EXCEPT (position, row), position, row FROM {db}.conflicts ORDER BY id, position DESC, row DESC LIMIT 1 BY id;
