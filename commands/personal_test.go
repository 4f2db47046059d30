package commands_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/keyfile"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/eventstore/sealed"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// parcel is a command whose event has personal data.
type parcel struct{ ID, Customer, Name string }

// parcels keeps the last name that it saw, and refuses to send two parcels to one person.
var parcels = commands.Aggregate[string, parcel, proto.Message]{
	Category: "parcel",
	ID:       func(p parcel) string { return p.ID },
	Decide: func(last string, p parcel) ([]proto.Message, error) {
		if last != "" && last == p.Name {
			return nil, commands.Reject("parcel.exists", "there is one")
		}
		o := &commercev1.OrderCreated{Id: p.ID, CustomerId: p.Customer}
		if p.Name != "" {
			o.Delivery = &commercev1.Contact{Name: p.Name}
		}
		return []proto.Message{o}, nil
	},
	Evolve: func(_ string, e proto.Message) string {
		if sealed.Erased(e) {
			return "erased"
		}
		return e.(*commercev1.OrderCreated).GetDelivery().GetName()
	},
	Codec: commands.ProtoCodec(map[string]proto.Message{"parcel.sent.v1": &commercev1.OrderCreated{}}),
}

func parcelBus(t *testing.T, store eventstore.Store) *commands.Bus {
	t.Helper()
	b := commands.NewBus(store, commands.Options{})
	if err := commands.Register(b, parcels); err != nil {
		t.Fatal(err)
	}
	return b
}

func sealing(t *testing.T) (*memstore.Store, *sealed.Store) {
	t.Helper()
	keys, err := keyfile.Open(t.TempDir(), keyfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keys.Close() })
	raw := memstore.New(memstore.Options{})
	return raw, sealed.New(raw, keys, keys.ID().String())
}

// TestNothingPersonalIsRecordedForGood: a bus over a store that does not seal takes no personal data. Shows E1.
func TestNothingPersonalIsRecordedForGood(t *testing.T) {
	b := parcelBus(t, memstore.New(memstore.Options{}))
	if _, err := b.Dispatch(t.Context(), commands.Meta{}, parcel{"1", "17850", "Grace"}); err == nil || !strings.Contains(err.Error(), "seals none") {
		t.Errorf("personal data over a store that does not seal: %v", err)
	}
	if _, err := b.Dispatch(t.Context(), commands.Meta{}, parcel{"1", "17850", ""}); err != nil {
		t.Errorf("nothing personal: %v", err)
	}
}

// TestPersonalCommand decides on what is opened, tells a repeated command, and forgets what is erased. Shows E1 and E5.
func TestPersonalCommand(t *testing.T) {
	raw, store := sealing(t)
	b := parcelBus(t, store)
	send := func(id, name string) (eventstore.Receipt, error) {
		return b.Dispatch(t.Context(), commands.Meta{ID: id}, parcel{"1", "17850", name})
	}
	first, err := send("a", "Grace Hopper")
	if err != nil {
		t.Fatal(err)
	}
	hash, err := commands.HashOf(parcel{"1", "17850", "Grace Hopper"})
	if err != nil {
		t.Fatal(err)
	}
	for e, err := range raw.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{Categories: []string{"parcel"}}) {
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(e.Payload, []byte("Grace")) || e.RequestHash == hash || e.KeyRef == 0 {
			t.Errorf("what is recorded tells of the person: key %d", e.KeyRef)
		}
	}
	if again, err := send("a", "Grace Hopper"); err != nil || !again.Duplicate || again.Position != first.Position {
		t.Errorf("the repeated command: %+v, %v", again, err)
	}
	if _, err := send("a", "Ada Lovelace"); !errors.Is(err, eventstore.ErrIDReused) {
		t.Errorf("another command under the id: %v", err)
	}
	var refused *commands.Rejection
	if _, err := send("b", "Grace Hopper"); !errors.As(err, &refused) {
		t.Errorf("decided on a state without the name: %v", err)
	}
	if held := b.Stats().CachedStates; held != 1 {
		t.Fatalf("%d states are kept, want 1", held)
	}
	if _, err := store.Erase(t.Context(), sealed.Subject{Tenant: "default", ID: "17850"}, "x", eventstore.Metadata{}); err != nil {
		t.Fatal(err)
	}
	b.Forget()
	if held, bytes := b.Stats().CachedStates, b.Stats().CachedBytes; held != 0 || bytes != 0 {
		t.Errorf("%d states of %d bytes are kept after all were to be dropped", held, bytes)
	}
	if _, err := send("c", "Grace Hopper"); !errors.Is(err, eventstore.ErrErased) {
		t.Errorf("personal data of an erased person: %v", err)
	}
	if _, err := b.Dispatch(t.Context(), commands.Meta{}, parcel{"1", "17850", "erased"}); !errors.As(err, &refused) {
		t.Errorf("the aggregate does not see that the name is erased: %v", err)
	}
}

// TestForgetWhileDeciding: a state that is out when all are dropped is not taken back.
func TestForgetWhileDeciding(t *testing.T) {
	_, store := sealing(t)
	var b *commands.Bus
	a := parcels
	decide := a.Decide
	a.Decide = func(last string, p parcel) ([]proto.Message, error) {
		b.Forget()
		return decide(last, p)
	}
	b = commands.NewBus(store, commands.Options{})
	if err := commands.Register(b, a); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Dispatch(t.Context(), commands.Meta{}, parcel{"1", "17850", "Grace"}); err != nil {
		t.Fatal(err)
	}
	if held := b.Stats().CachedStates; held != 0 {
		t.Errorf("%d states are kept", held)
	}
}
