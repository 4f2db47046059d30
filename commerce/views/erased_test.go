package views_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/views"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/keyfile"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/eventstore/sealed"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// deliveries is a log of orders of two customers with deliveries, and one without.
func deliveries(t *testing.T) *sealed.Store {
	t.Helper()
	keys, err := keyfile.Open(t.TempDir(), keyfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	log := sealed.New(memstore.New(memstore.Options{}), keys, keys.ID().String())
	if err := log.Declare(order.CreatedV1, (&commercev1.OrderCreated{}).ProtoReflect().Descriptor()); err != nil {
		t.Fatal(err)
	}
	for _, o := range []*commercev1.OrderCreated{
		{Id: "A1", CustomerId: "anna", Delivery: &commercev1.Contact{Name: "Anna Vexillum", Phone: "1"}},
		{Id: "B1", CustomerId: "bert", Delivery: &commercev1.Contact{Name: "Bert Glockenspiel"}},
		{Id: "A2", CustomerId: "anna", Delivery: &commercev1.Contact{City: "Vexillum"}},
		{Id: "A3", CustomerId: "anna"},
	} {
		payload, err := proto.Marshal(o)
		if err == nil {
			_, err = log.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream(order.Category, o.GetId()), Events: []eventstore.Event{{Type: order.CreatedV1, Payload: payload}},
			}}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return log
}

// TestErasedCustomer: when a customer is erased the model loses what is personal, and is then the one that a rebuild makes;
// orders say that they are erased. Shows E2.
func TestErasedCustomer(t *testing.T) {
	log := deliveries(t)
	kept, before := memview.NewKeys(views.Keys()), memview.NewKeys(views.Keys())
	replay := func(into *memview.Keys) {
		t.Helper()
		if err := projections.Replay(t.Context(), log, into, projections.Cursor{}); err != nil {
			t.Fatal(err)
		}
	}
	replay(kept)
	replay(before)
	delivery := func(id string) (name string, erased bool) {
		t.Helper()
		o, err := views.Queries{Keys: kept}.Order(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return o.GetDelivery().GetName() + o.GetDelivery().GetCity(), o.GetErased()
	}
	check := func(id, want string, wantErased bool) {
		t.Helper()
		if name, erased := delivery(id); name != want || erased != wantErased {
			t.Errorf("order %s goes to %q, erased %v; want %q, %v", id, name, erased, want, wantErased)
		}
	}
	check("A1", "Anna Vexillum", false)
	check("A3", "", false)
	if _, err := log.Erase(t.Context(), sealed.Subject{Tenant: "default", ID: "anna"}, "x", eventstore.Metadata{}); err != nil {
		t.Fatal(err)
	}
	replay(kept)
	check("A1", "", true)
	check("A2", "", true)
	check("A3", "", false)
	check("B1", "Bert Glockenspiel", false)
	for _, key := range kept.Keys() {
		v := kept.Value(key)
		for field, text := range v.Hash {
			if strings.Contains(text, "Vexillum") {
				t.Errorf("field %s of %s holds what is erased", field, key)
			}
		}
	}
	rebuilt := memview.NewKeys(views.Keys())
	replay(rebuilt)
	digests := map[string]string{}
	for name, k := range map[string]*memview.Keys{"kept": kept, "rebuilt": rebuilt, "before": before} {
		d, err := k.Digest(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		digests[name] = d
	}
	if digests["kept"] != digests["rebuilt"] || digests["kept"] == digests["before"] {
		t.Errorf("digests: %v; want kept and rebuilt equal, and another one before", digests)
	}
}
