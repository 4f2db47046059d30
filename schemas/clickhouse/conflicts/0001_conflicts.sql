-- Conflicts between sites, each as often as its record was written: the row of the highest position holds. The view
-- conflicts_now has those.
CREATE TABLE IF NOT EXISTS {db}.conflicts
(
    position    UInt64 CODEC(Delta, ZSTD(1)),
    row         UInt32 CODEC(Delta, ZSTD(1)),
    id          String CODEC(ZSTD(1)) COMMENT 'dot of the event that did not know others before it',
    stream      String CODEC(ZSTD(1)),
    category    LowCardinality(String),
    type        LowCardinality(String) COMMENT 'of the event',
    kind        LowCardinality(String) COMMENT 'concurrent, duplicate_command',
    with        Array(String) CODEC(ZSTD(1)) COMMENT 'what it did not know, as log/from-to',
    resolver    LowCardinality(String),
    verdict     LowCardinality(String) COMMENT 'merged, winner, voided, needs_review',
    reason      String CODEC(ZSTD(1)),
    void        Array(String) CODEC(ZSTD(1)) COMMENT 'dots of events that do not count because of it',
    overwritten UInt64 CODEC(ZSTD(1)) COMMENT 'fields set over what others had set unseen',
    base        String CODEC(ZSTD(1)) COMMENT 'digest of what both sides knew',
    result      String CODEC(ZSTD(1)) COMMENT 'digest of what counts',
    at          DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'time of the event',
    seen_by     LowCardinality(String) COMMENT 'site that wrote the record'
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (category, id, position, row)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE VIEW IF NOT EXISTS {db}.conflicts_now AS
SELECT * EXCEPT (position, row), position, row FROM {db}.conflicts ORDER BY id, position DESC, row DESC LIMIT 1 BY id;
