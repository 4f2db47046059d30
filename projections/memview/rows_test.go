package memview_test

import (
	"testing"

	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
	"github.com/tributary-es/tributary/projections/projectiontest"
)

func TestRowsConform(t *testing.T) {
	projectiontest.RunRows(t, func(testing.TB) projectiontest.Storage[projections.Rows] {
		sinks := make(map[int]*memview.Rows)
		return projectiontest.Storage[projections.Rows]{
			Sink: func(_ testing.TB, p projections.Projection[projections.Rows]) projections.Sink {
				if sinks[p.Version] == nil {
					sinks[p.Version] = memview.NewRows(p)
				}
				return sinks[p.Version]
			},
			Lose: func(testing.TB) {
				for _, s := range sinks {
					s.Lose()
				}
			},
		}
	})
}
