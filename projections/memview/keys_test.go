package memview_test

import (
	"testing"

	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
	"github.com/tributary-es/tributary/projections/projectiontest"
)

// keys is a storage in memory: a sink of another version has a model of its own, as if there were none.
func keys(testing.TB) projectiontest.Storage[projections.Keys] {
	sinks := make(map[int]*memview.Keys)
	return projectiontest.Storage[projections.Keys]{
		Sink: func(_ testing.TB, p projections.Projection[projections.Keys]) projections.Sink {
			if sinks[p.Version] == nil {
				sinks[p.Version] = memview.NewKeys(p)
			}
			return sinks[p.Version]
		},
		Lose: func(testing.TB) {
			for _, s := range sinks {
				s.Lose()
			}
		},
	}
}

func TestKeysConform(t *testing.T) { projectiontest.RunKeys(t, keys) }
