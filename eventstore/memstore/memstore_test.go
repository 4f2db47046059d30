package memstore_test

import (
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/eventstore/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, storetest.Options{
		Open:     func(testing.TB) eventstore.Store { return memstore.New(memstore.Options{}) },
		Features: storetest.Features{Replica: true},
	})
}
