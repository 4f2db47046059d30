-- Every line of every document. Kinds: order, return, adjustment (of stock), payment (adjustment of money). A line that was
-- taken back, because its order was cancelled, stands twice, the second time with sign -1: sums are over x * sign.
CREATE TABLE IF NOT EXISTS {db}.order_lines
(
    position    UInt64 CODEC(Delta, ZSTD(1)),
    row         UInt32 CODEC(Delta, ZSTD(1)),
    kind        Enum8('order' = 1, 'return' = 2, 'adjustment' = 3, 'payment' = 4),
    document    String CODEC(ZSTD(1)) COMMENT 'order, return or paper, such as an invoice number',
    line        UInt32 CODEC(ZSTD(1)) COMMENT 'number of the line in its document',
    stock_code  LowCardinality(String),
    description LowCardinality(String),
    quantity    Int64 CODEC(ZSTD(1)) COMMENT 'units: sold positive, returned negative, adjusted as written',
    unit_price  Decimal(38, 9) CODEC(ZSTD(1)),
    currency    LowCardinality(String),
    customer_id LowCardinality(String) COMMENT 'empty for a guest',
    country     LowCardinality(String),
    at          DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)) COMMENT 'when the line was written',
    sign        Int8 CODEC(ZSTD(1)),
    of_document UInt8 CODEC(ZSTD(1)) COMMENT '1 on the first line of an order or return',
    of_product  UInt8 CODEC(ZSTD(1)) COMMENT '1 on the first line with this product in an order or return',
    net         Decimal(38, 9) MATERIALIZED unit_price * toDecimal128(quantity * sign, 0) CODEC(ZSTD(1)),
    day         Date32 MATERIALIZED toDate32(at) CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (day, stock_code, position, row)
SETTINGS non_replicated_deduplication_window = 1000;

-- Every change of an order's status.
CREATE TABLE IF NOT EXISTS {db}.order_changes
(
    position    UInt64 CODEC(Delta, ZSTD(1)),
    row         UInt32 CODEC(Delta, ZSTD(1)),
    order_id    String CODEC(ZSTD(1)),
    version     UInt64 CODEC(ZSTD(1)) COMMENT 'of the order''s stream',
    status      LowCardinality(String),
    customer_id LowCardinality(String),
    country     LowCardinality(String) COMMENT 'only with created and cancelled',
    currency    LowCardinality(String) COMMENT 'the same',
    total       Decimal(38, 9) CODEC(ZSTD(1)) COMMENT 'the same',
    lines       UInt32 CODEC(ZSTD(1)) COMMENT 'the same',
    reason      String CODEC(ZSTD(1)),
    at          DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (at, position, row)
SETTINGS non_replicated_deduplication_window = 1000;

-- What happened to money. Amounts are positive but for adjustments; kind says which way they go.
CREATE TABLE IF NOT EXISTS {db}.payments
(
    position    UInt64 CODEC(Delta, ZSTD(1)),
    row         UInt32 CODEC(Delta, ZSTD(1)),
    payment_id  String CODEC(ZSTD(1)),
    version     UInt64 CODEC(ZSTD(1)),
    kind        Enum8('authorized' = 1, 'captured' = 2, 'voided' = 3, 'refunded' = 4, 'adjusted' = 5),
    order_id    String CODEC(ZSTD(1)) COMMENT 'only with authorized',
    customer_id LowCardinality(String),
    amount      Decimal(38, 9) CODEC(ZSTD(1)),
    currency    LowCardinality(String),
    method      LowCardinality(String) COMMENT 'only with authorized',
    reason      String CODEC(ZSTD(1)),
    at          DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (at, position, row)
SETTINGS non_replicated_deduplication_window = 1000;

-- What happened to stock: on hand is the sum of on_hand, promised is the sum of reserved.
CREATE TABLE IF NOT EXISTS {db}.stock_movements
(
    position   UInt64 CODEC(Delta, ZSTD(1)),
    row        UInt32 CODEC(Delta, ZSTD(1)),
    stock_code LowCardinality(String),
    kind       Enum8('received' = 1, 'reserved' = 2, 'confirmed' = 3, 'released' = 4, 'adjusted' = 5, 'returned' = 6),
    on_hand    Int64 CODEC(ZSTD(1)) COMMENT 'what on hand changes by',
    reserved   Int64 CODEC(ZSTD(1)) COMMENT 'what the promised units change by',
    reference  String CODEC(ZSTD(1)) COMMENT 'order, delivery, return or paper',
    at         DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (stock_code, at, position, row)
SETTINGS non_replicated_deduplication_window = 1000;

-- Orders as they stand; the view orders reads it.
CREATE TABLE IF NOT EXISTS {db}.order_states
(
    order_id     String,
    customer_id  SimpleAggregateFunction(max, String),
    country      SimpleAggregateFunction(max, String),
    currency     SimpleAggregateFunction(max, String),
    total        SimpleAggregateFunction(max, Decimal(38, 9)),
    lines        SimpleAggregateFunction(max, UInt32),
    status       AggregateFunction(argMax, String, UInt64),
    version      SimpleAggregateFunction(max, UInt64),
    placed_at    AggregateFunction(minIf, DateTime64(3, 'UTC'), UInt8),
    confirmed_at AggregateFunction(maxIf, DateTime64(3, 'UTC'), UInt8),
    shipped_at   AggregateFunction(maxIf, DateTime64(3, 'UTC'), UInt8),
    cancelled_at AggregateFunction(maxIf, DateTime64(3, 'UTC'), UInt8)
)
ENGINE = AggregatingMergeTree
ORDER BY order_id
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.order_states_of_changes TO {db}.order_states AS
SELECT
    order_id,
    max(toString(c.customer_id)) AS customer_id,
    max(toString(c.country)) AS country,
    max(toString(c.currency)) AS currency,
    max(c.total) AS total,
    max(c.lines) AS lines,
    argMaxState(toString(c.status), c.version) AS status,
    max(c.version) AS version,
    minIfState(c.at, c.status = 'created') AS placed_at,
    maxIfState(c.at, c.status = 'confirmed') AS confirmed_at,
    maxIfState(c.at, c.status = 'shipped') AS shipped_at,
    maxIfState(c.at, c.status = 'cancelled') AS cancelled_at
FROM {db}.order_changes AS c
GROUP BY order_id;

-- Orders as they stand. Times that have not come are 1970.
CREATE VIEW IF NOT EXISTS {db}.orders AS
SELECT
    order_id,
    max(s.customer_id) AS customer_id,
    max(s.country) AS country,
    max(s.currency) AS currency,
    max(s.total) AS total,
    max(s.lines) AS lines,
    argMaxMerge(s.status) AS status,
    max(s.version) AS version,
    minIfMerge(s.placed_at) AS placed_at,
    maxIfMerge(s.confirmed_at) AS confirmed_at,
    maxIfMerge(s.shipped_at) AS shipped_at,
    maxIfMerge(s.cancelled_at) AS cancelled_at
FROM {db}.order_states AS s
GROUP BY order_id;

-- Sales by day and country; the views sales_by_day and sales_by_country read it.
CREATE TABLE IF NOT EXISTS {db}.sales_daily
(
    day       Date32,
    country   LowCardinality(String),
    net       SimpleAggregateFunction(sum, Decimal(38, 9)),
    units     SimpleAggregateFunction(sum, Int64),
    lines     SimpleAggregateFunction(sum, Int64),
    documents SimpleAggregateFunction(sum, Int64) COMMENT 'orders and returns, on the day of their first line'
)
ENGINE = AggregatingMergeTree
ORDER BY (day, country)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.sales_daily_of_lines TO {db}.sales_daily AS
SELECT
    day,
    country,
    sum(l.net) AS net,
    sum(l.quantity * l.sign) AS units,
    sum(toInt64(l.sign)) AS lines,
    sum(toInt64(l.of_document) * l.sign) AS documents
FROM {db}.order_lines AS l
GROUP BY day, country;

-- Sales by product, month and country; the view sales_by_product reads it.
CREATE TABLE IF NOT EXISTS {db}.sales_monthly
(
    stock_code  LowCardinality(String),
    month       Date32 COMMENT 'its first day',
    country     LowCardinality(String),
    net         SimpleAggregateFunction(sum, Decimal(38, 9)),
    units       SimpleAggregateFunction(sum, Int64),
    lines       SimpleAggregateFunction(sum, Int64),
    documents   SimpleAggregateFunction(sum, Int64),
    description AggregateFunction(argMaxIf, String, DateTime64(3, 'UTC'), UInt8)
)
ENGINE = AggregatingMergeTree
ORDER BY (stock_code, month, country)
SETTINGS non_replicated_deduplication_window = 1000;

CREATE MATERIALIZED VIEW IF NOT EXISTS {db}.sales_monthly_of_lines TO {db}.sales_monthly AS
SELECT
    stock_code,
    addDays(day, 1 - toDayOfMonth(day)) AS month,
    country,
    sum(l.net) AS net,
    sum(l.quantity * l.sign) AS units,
    sum(toInt64(l.sign)) AS lines,
    sum(toInt64(l.of_product) * l.sign) AS documents,
    argMaxIfState(toString(l.description), l.at, l.description != '' AND l.kind = 'order') AS description
FROM {db}.order_lines AS l
GROUP BY stock_code, month, country;

CREATE VIEW IF NOT EXISTS {db}.sales_by_day AS
SELECT
    day,
    sum(s.net) AS net,
    sum(s.units) AS units,
    sum(s.lines) AS lines,
    sum(s.documents) AS documents
FROM {db}.sales_daily AS s
GROUP BY day;

CREATE VIEW IF NOT EXISTS {db}.sales_by_month AS
SELECT
    formatDateTime(s.day, '%Y-%m') AS month,
    sum(s.net) AS net,
    sum(s.units) AS units,
    sum(s.lines) AS lines,
    sum(s.documents) AS documents
FROM {db}.sales_daily AS s
GROUP BY month;

CREATE VIEW IF NOT EXISTS {db}.sales_by_country AS
SELECT
    country,
    sum(s.net) AS net,
    sum(s.units) AS units,
    sum(s.lines) AS lines,
    sum(s.documents) AS documents
FROM {db}.sales_daily AS s
GROUP BY country;

CREATE VIEW IF NOT EXISTS {db}.sales_by_product AS
SELECT
    stock_code,
    argMaxIfMerge(s.description) AS description,
    sum(s.net) AS net,
    sum(s.units) AS units,
    sum(s.lines) AS lines,
    sum(s.documents) AS documents
FROM {db}.sales_monthly AS s
GROUP BY stock_code;
