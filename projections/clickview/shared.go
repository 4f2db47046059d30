package clickview

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tributary-es/tributary/projections"
)

// SharedDigests returns digests of what the model comes to without where its rows stand: those of two sites that have the same events
// are equal. Without queries it is each table that the projection writes, each row as often as it stands there less how often it was
// taken back; else the rows of each query, by its name, in which {db} stands for the database. Nobody commits meanwhile.
func (v *View) SharedDigests(ctx context.Context, queries map[string]string) (out []projections.PartDigest, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.loadLive(ctx); err != nil {
		return nil, err
	}
	if len(queries) == 0 {
		if queries, err = v.live.net(ctx); err != nil {
			return nil, v.live.lostIfGone(err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(queries)) {
		sql := "SELECT count(), toString(sum(sipHash64(t))), toString(sum(cityHash64(t))) FROM (SELECT toString(tuple(*)) AS t FROM (" +
			strings.ReplaceAll(queries[name], "{db}", v.live.db) + "))"
		d := projections.PartDigest{Part: name}
		err := v.live.link.rows(ctx, "digest "+name, sql, nil, func(r driver.Rows) error {
			var a, b string
			err := r.Scan(&d.Count, &a, &b)
			d.Digest = a + "-" + b
			return err
		})
		if err != nil {
			return nil, v.live.lostIfGone(err)
		}
		out = append(out, d)
	}
	return out, nil
}

// net returns a query for each table that the projection writes, with its rows as often as they count.
func (m *model) net(ctx context.Context) (map[string]string, error) {
	tables, err := m.written(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, t := range tables {
		signed := false
		err := m.link.rows(ctx, "look for the signs of "+t, "SELECT count() > 0 FROM system.columns WHERE database = ? AND table = ? AND name = 'sign'", []any{m.db, t},
			func(r driver.Rows) error {
				var has uint8
				err := r.Scan(&has)
				signed = has > 0
				return err
			})
		if err != nil {
			return nil, err
		}
		own, times := "position, row", "count()"
		if signed {
			own, times = "position, row, sign", "sum(sign)"
		}
		out[t] = fmt.Sprintf("SELECT * EXCEPT (%s), %s AS times FROM {db}.%s GROUP BY ALL HAVING times != 0", own, times, t)
	}
	return out, nil
}
