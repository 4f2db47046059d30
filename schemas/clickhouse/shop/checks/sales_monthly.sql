-- Products, months and countries whose sums are not those of the lines.
WITH
    kept AS
    (
        SELECT
            toString(s.stock_code) AS stock_code,
            s.month AS month,
            toString(s.country) AS country,
            sum(s.net) AS net,
            sum(s.units) AS units,
            sum(s.lines) AS lines,
            sum(s.documents) AS documents
        FROM {db}.sales_monthly AS s
        GROUP BY stock_code, month, country
    ),
    counted AS
    (
        SELECT
            toString(l.stock_code) AS stock_code,
            addDays(l.day, 1 - toDayOfMonth(l.day)) AS month,
            toString(l.country) AS country,
            sum(l.net) AS net,
            sum(l.quantity * l.sign) AS units,
            sum(toInt64(l.sign)) AS lines,
            sum(toInt64(l.of_product) * l.sign) AS documents
        FROM {db}.order_lines AS l
        GROUP BY stock_code, month, country
    )
SELECT * FROM ((SELECT * FROM kept EXCEPT SELECT * FROM counted) UNION ALL (SELECT * FROM counted EXCEPT SELECT * FROM kept))
