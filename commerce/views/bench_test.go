package views_test

import (
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/testenv"
	"github.com/tributary-es/tributary/projections"
)

// Commits of the shop's events to ClickHouse, in batches as small as live traffic gives and as large as a rebuild takes.
func BenchmarkCommitToTables(b *testing.B) {
	srv := testenv.SharedClickHouse(b)
	log := shopLog(b, sample[0])
	var all []eventstore.Recorded
	for e, err := range log.ReadAll(b.Context(), eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, e)
	}
	for _, size := range []struct {
		name   string
		events int
	}{{"200 events", 200}, {"2000 events", 2000}, {"20000 events", 20_000}} {
		b.Run(size.name, func(b *testing.B) {
			v := openTables(b, srv)
			if err := v.Reset(b.Context()); err != nil {
				b.Fatal(err)
			}
			var at projections.Cursor
			lsn := uint64(0)
			events := 0
			b.ResetTimer()
			for b.Loop() {
				batch := make([]eventstore.Recorded, 0, size.events)
				for len(batch) < size.events {
					e := all[lsn%uint64(len(all))]
					lsn++
					e.Position = eventstore.Position{Incarnation: 1, LSN: lsn}
					batch = append(batch, e)
				}
				to := projections.Cursor{Position: batch[len(batch)-1].Position, Seq: lsn}
				if parked, err := v.Commit(b.Context(), at, to, batch); err != nil || len(parked) > 0 {
					b.Fatal(parked, err)
				}
				at = to
				events += len(batch)
			}
			b.StopTimer()
			var rows uint64
			for row, err := range v.Query(b.Context(), "SELECT sum(total_rows) AS n FROM system.tables WHERE database = '{db}' AND name IN ('order_lines', 'order_changes', 'payments', 'stock_movements')") {
				if err != nil {
					b.Fatal(err)
				}
				rows, _ = row["n"].(uint64)
			}
			b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// A digest reads every row.
func BenchmarkDigestOfTables(b *testing.B) {
	v := openTables(b, testenv.SharedClickHouse(b))
	if err := projections.Replay(b.Context(), shopLog(b, sample[0]), v, projections.Cursor{}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := v.Digest(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
