package node

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commerce/api"
	"github.com/tributary-es/tributary/commerce/views"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/clickview"
	"github.com/tributary-es/tributary/projections/memview"
	"github.com/tributary-es/tributary/projections/redisview"
	clickhouseschema "github.com/tributary-es/tributary/schemas/clickhouse"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// served is a site of the shop with its read models in servers.
type served struct {
	*shopSite
	redis *redisview.View
	click *clickview.View
}

func serveModels(t *testing.T, s *shopSite) *served {
	t.Helper()
	client, err := redisview.Dial(testenv.SharedRedis(t).Addr())
	if err != nil {
		t.Fatal(err)
	}
	srv := testenv.SharedClickHouse(t)
	prefix := testenv.Unique(t)
	v := &served{shopSite: s, redis: redisview.New(client, s.keys, redisview.Options{Prefix: prefix})}
	v.click, err = clickview.New(s.rows, clickhouseschema.Shop(), clickview.Options{
		Addr: srv.TCPAddr(), User: srv.User(), Password: srv.Password(), Database: prefix,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []interface{ Close() error }{v.click, v.redis, client} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return v
}

// serve brings the models up to the log's end.
func (v *served) serve(t *testing.T) {
	t.Helper()
	v.follow(t)
	for _, sink := range []projections.Sink{v.redis, v.click} {
		if err := projections.Replay(t.Context(), v.log, sink, projections.Cursor{}); err != nil {
			t.Fatal(err)
		}
	}
}

// tables has what the ClickHouse model comes to, whatever the positions of its rows.
func (v *served) tables(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	statements := map[string]string{"orders": "SELECT * FROM {db}.orders"}
	for _, table := range []string{"order_lines", "order_changes", "payments", "stock_movements"} {
		statements[table] = "SELECT * EXCEPT (position, row, sign), sum(sign) AS n FROM {db}." + table + " GROUP BY ALL HAVING n != 0"
	}
	for _, view := range []string{"sales_by_day", "sales_by_country", "sales_by_product"} {
		statements[view] = "SELECT * FROM {db}." + view
	}
	for name, sql := range statements {
		for row, err := range v.click.Query(t.Context(), sql) {
			if err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
			out[name] = append(out[name], fmt.Sprint(row))
		}
		slices.Sort(out[name])
	}
	return out
}

// TestSitesHaveTheSameModelsInServers shows P9, R32 and I13 with Redis and ClickHouse: sites that hold the same events have the same
// keys, the same sums in tables and views, and verify finds nothing.
func TestSitesHaveTheSameModelsInServers(t *testing.T) {
	ctx := t.Context()
	r := rand.New(rand.NewPCG(7, 39))
	sites := []*served{serveModels(t, newShopSite(t, "bj", nil)), serveModels(t, newShopSite(t, "sh", nil))}
	for i := range 160 {
		s, other := sites[i%2], sites[1-i%2]
		s.act(t, r)
		if r.IntN(12) == 0 {
			s.take(t, other.shopSite, 1+r.IntN(12))
		}
		if i%32 >= 30 {
			s.serve(t)
		}
	}
	var tables [2]map[string][]string
	var keys [2]string
	var figures [2]views.RowFigures
	var digests [2][]projections.PartDigest
	for i, s := range sites {
		s.take(t, sites[1-i].shopSite, 1000)
		s.serve(t)
		s.checkStates(t)
		fold := memview.NewKeys(s.keys)
		if err := projections.Replay(ctx, s.log, fold, projections.Cursor{}); err != nil {
			t.Fatal(err)
		}
		found, err := s.redis.Diff(ctx, fold)
		if err != nil || len(found) > 0 {
			t.Fatalf("%s: redis: %v, %v", s.name, found, err)
		}
		if found, err = s.click.Diff(ctx, s.log); err != nil || len(found) > 0 {
			t.Fatalf("%s: clickhouse: %v, %v", s.name, found, err)
		}
		if keys[i], err = s.redis.Digest(ctx); err != nil {
			t.Fatal(err)
		}
		tables[i] = s.tables(t)
		if digests[i], err = s.click.SharedDigests(ctx, nil); err != nil || len(digests[i]) < 4 {
			t.Fatalf("%s: digests %v, %v", s.name, digests[i], err)
		}
		q := views.Queries{Keys: s.redis, Rows: s.click}
		if figures[i], err = q.RowFigures(ctx); err != nil {
			t.Fatal(err)
		}
		counts, err := q.OrderCounts(ctx)
		if err != nil {
			t.Fatal(err)
		}
		// Orders that stand, in keys, in the table of changes, and in the lines.
		standing := counts["created"] + counts["confirmed"] + counts["shipped"]
		if total := standing + counts["cancelled"]; total != int64(len(tables[i]["orders"])) || uint64(standing) != figures[i].Invoices-figures[i].Returns {
			t.Errorf("%s: %v orders in keys, %d in changes, %d papers in lines, %d of them returns", s.name, counts, len(tables[i]["orders"]), figures[i].Invoices, figures[i].Returns)
		}
		if _, err := q.Sales(ctx, api.SalesQuery{Group: api.SalesByProduct, Limit: 10}); err != nil {
			t.Error(err)
		}
	}
	if keys[0] != keys[1] {
		t.Error("the sites' keys have other digests")
	}
	if diff := cmp.Diff(tables[0], tables[1]); diff != "" {
		t.Errorf("the sites' tables differ:\n%s", diff)
	}
	if diff := cmp.Diff(digests[0], digests[1]); diff != "" {
		t.Errorf("the sites' tables have other digests:\n%s", diff)
	}
	if diff := cmp.Diff(figures[0], figures[1]); diff != "" {
		t.Errorf("the sites' figures differ:\n%s", diff)
	}
	taken := 0
	for row, err := range sites[0].click.Query(ctx, "SELECT count() AS n FROM {db}.order_changes WHERE sign < 0") {
		if err != nil {
			t.Fatal(err)
		}
		taken = int(row["n"].(uint64))
	}
	if taken == 0 {
		t.Error("nothing was taken back: the sites do not contradict each other")
	}
}
