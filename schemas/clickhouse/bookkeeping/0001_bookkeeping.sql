-- What was applied here.
CREATE TABLE IF NOT EXISTS {db}.schema_migrations
(
    name       String,
    checksum   String COMMENT 'SHA-256 of the file',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY name;

-- The steps by which the model came to be; the last one holds the cursor.
CREATE TABLE IF NOT EXISTS {db}.projection_commits
(
    `projection` String,
    version      UInt32,
    step         UInt64 COMMENT 'from 1, no gaps',
    incarnation  UInt32,
    lsn          UInt64,
    seq          UInt64,
    rows         Map(String, UInt64) COMMENT 'rows that each table has had written to it so far',
    committed_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(step)
ORDER BY projection
SETTINGS non_replicated_deduplication_window = 100;

-- What a step is about to insert, whole, so that whoever finds it without its commit can finish it unchanged.
CREATE TABLE IF NOT EXISTS {db}.projection_intents
(
    `projection`     String,
    version          UInt32,
    step             UInt64,
    from_incarnation UInt32,
    from_lsn         UInt64,
    from_seq         UInt64,
    to_incarnation   UInt32,
    to_lsn           UInt64,
    to_seq           UInt64,
    nonce            String COMMENT 'tells apart two writers that want the same step',
    hash             String COMMENT 'SHA-256 of the payload',
    payload          String CODEC(ZSTD(1)) COMMENT 'the rows of each table, encoded',
    intended_at      DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(step)
ORDER BY projection
SETTINGS non_replicated_deduplication_window = 100;

-- Events that could not be applied, and those that wait behind them. The row with the highest step says whether an event
-- is still parked.
CREATE TABLE IF NOT EXISTS {db}.projection_parked
(
    position    UInt64,
    row         UInt32,
    step        UInt64,
    gone        UInt8,
    incarnation UInt32,
    tenant      LowCardinality(String),
    category    LowCardinality(String),
    stream      String,
    type        LowCardinality(String),
    reason      String,
    event       String CODEC(ZSTD(1)) COMMENT 'canonical frame'
)
ENGINE = MergeTree
ORDER BY (position, step)
SETTINGS non_replicated_deduplication_window = 1000;

-- Events that an operator said to skip, also in rebuilds.
CREATE TABLE IF NOT EXISTS {db}.projection_skipped
(
    incarnation UInt32,
    lsn         UInt64,
    skipped_at  DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY (incarnation, lsn);

-- Switches to a model that was rebuilt beside this one; the last of them may have to be finished.
CREATE TABLE IF NOT EXISTS {db}.projection_promotions
(
    id          UInt64,
    tables      Map(String, String) COMMENT 'the UUID that each table has once it is switched',
    promoted_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY id;
