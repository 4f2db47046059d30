-- Orders whose state is not what their changes say.
WITH
    kept AS
    (
        SELECT order_id, customer_id, country, currency, total, lines, status, version,
            placed_at, confirmed_at, shipped_at, cancelled_at
        FROM {db}.orders
    ),
    counted AS
    (
        SELECT
            order_id,
            max(toString(c.customer_id)) AS customer_id,
            max(toString(c.country)) AS country,
            max(toString(c.currency)) AS currency,
            max(c.total) AS total,
            max(c.lines) AS lines,
            argMax(toString(c.status), c.version) AS status,
            max(c.version) AS version,
            minIf(c.at, c.status = 'created') AS placed_at,
            maxIf(c.at, c.status = 'confirmed') AS confirmed_at,
            maxIf(c.at, c.status = 'shipped') AS shipped_at,
            maxIf(c.at, c.status = 'cancelled') AS cancelled_at
        FROM {db}.order_changes AS c
        GROUP BY order_id
    )
SELECT * FROM ((SELECT * FROM kept EXCEPT SELECT * FROM counted) UNION ALL (SELECT * FROM counted EXCEPT SELECT * FROM kept))
