-- Days and countries whose sums are not those of the lines.
WITH
    kept AS
    (
        SELECT
            s.day AS day,
            toString(s.country) AS country,
            sum(s.net) AS net,
            sum(s.units) AS units,
            sum(s.lines) AS lines,
            sum(s.documents) AS documents
        FROM {db}.sales_daily AS s
        GROUP BY day, country
    ),
    counted AS
    (
        SELECT
            l.day AS day,
            toString(l.country) AS country,
            sum(l.net) AS net,
            sum(l.quantity * l.sign) AS units,
            sum(toInt64(l.sign)) AS lines,
            sum(toInt64(l.of_document) * l.sign) AS documents
        FROM {db}.order_lines AS l
        GROUP BY day, country
    )
SELECT * FROM ((SELECT * FROM kept EXCEPT SELECT * FROM counted) UNION ALL (SELECT * FROM counted EXCEPT SELECT * FROM kept))
