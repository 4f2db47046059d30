package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/keyfile"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/eventstore/sealed"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

const createdV1 = "order.created.v1"

// marker is a personal text that is looked for in everything that is recorded.
const marker = "Grace Brewster Murray Hopper"

var grace = sealed.Subject{Tenant: eventstore.DefaultTenant, ID: "17850"}

// orders lets the events of orders through.
var orders = eventstore.Filter{Categories: []string{"order"}}

// rig is a sealing store over one in memory.
type rig struct {
	*testing.T
	raw   *memstore.Store
	keys  *fickle
	store *sealed.Store
}

// fickle is a key file that can be away.
type fickle struct {
	*keyfile.File
	away error
}

func (f *fickle) Key(ctx context.Context, number uint32) (sealed.Key, error) {
	if f.away != nil {
		return sealed.Key{}, f.away
	}
	return f.File.Key(ctx, number)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	file, err := keyfile.Open(t.TempDir(), keyfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	r := &rig{T: t, raw: memstore.New(memstore.Options{}), keys: &fickle{File: file}}
	r.store = r.over(r.keys)
	return r
}

// over returns the sealing store over the same log with other keys.
func (r *rig) over(keys sealed.Keys) *sealed.Store { return r.overLog(r.raw, keys) }

func (r *rig) overLog(log eventstore.Store, keys sealed.Keys) *sealed.Store {
	r.Helper()
	s := sealed.New(log, keys, "these")
	if err := s.Declare(createdV1, (&commercev1.OrderCreated{}).ProtoReflect().Descriptor()); err != nil {
		r.Fatal(err)
	}
	return s
}

func created(id, customer string) *commercev1.OrderCreated {
	return &commercev1.OrderCreated{
		Id: id, CustomerId: customer, Country: "France", AtMs: 1,
		Delivery: &commercev1.Contact{Name: marker, Email: "grace@example.org", Street: "1 Navy Yard", City: "Arlington", Phone: "555"},
	}
}

func request(t *testing.T, id string, orders ...*commercev1.OrderCreated) eventstore.Request {
	t.Helper()
	r := eventstore.Request{ID: id}
	for _, o := range orders {
		payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		r.Appends = append(r.Appends, eventstore.StreamAppend{
			Stream: eventstore.Stream("order", o.GetId()), Events: []eventstore.Event{{Type: createdV1, Payload: payload, Tags: []string{"country:France"}}},
		})
	}
	return r
}

func (r *rig) place(id string, orders ...*commercev1.OrderCreated) eventstore.Receipt {
	r.Helper()
	receipt, err := r.store.Append(r.Context(), request(r.T, id, orders...))
	if err != nil {
		r.Fatal(err)
	}
	return receipt
}

// read returns the order as readers of the store have it, and its event.
func (r *rig) read(s eventstore.Reader, id string) (*commercev1.OrderCreated, eventstore.Recorded) {
	r.Helper()
	for e, err := range s.Read(r.Context(), eventstore.Stream("order", id), 1) {
		if err != nil {
			r.Fatal(err)
		}
		var o commercev1.OrderCreated
		if err := proto.Unmarshal(e.Body(), &o); err != nil {
			r.Fatal(err)
		}
		return &o, e
	}
	r.Fatalf("there is no order %s", id)
	return nil, eventstore.Recorded{}
}

// TestSealedAndOpened: what is recorded has no personal text in it, a plain reader passes over what is sealed, and readers
// of the sealing store have the event as it was. Shows E1.
func TestSealedAndOpened(t *testing.T) {
	r := newRig(t)
	asked := request(t, "key-1", created("A", grace.ID), created("B", grace.ID))
	before := bytes.Clone(asked.Appends[0].Events[0].Payload)
	if _, err := r.store.Append(t.Context(), asked); err != nil {
		t.Fatal(err)
	}
	if e := asked.Appends[0].Events[0]; !bytes.Equal(e.Payload, before) || e.KeyRef != 0 {
		t.Error("the caller's own event was changed")
	}
	for _, id := range []string{"A", "B"} {
		want := created(id, grace.ID)
		plain, e := r.read(r.raw, id)
		frame := eventstore.AppendFrame(nil, &e, eventstore.AppendContent(nil, &e))
		for _, text := range []string{marker, "grace@example.org", "1 Navy Yard", "Arlington"} {
			if bytes.Contains(frame, []byte(text)) {
				t.Errorf("the recorded event has %q", text)
			}
		}
		if e.KeyRef == 0 || plain.GetDelivery() != nil || plain.GetCountry() != "France" || sealed.Erased(plain) {
			t.Errorf("as it is recorded: key %d, %v", e.KeyRef, plain)
		}
		got, opened := r.read(r.store, id)
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || opened.Erased {
			t.Errorf("as it is read (-want +got):\n%s", diff)
		}
		if !bytes.Equal(opened.Payload, e.Payload) {
			t.Error("opening changes the recorded payload")
		}
	}
	first, e1 := r.read(r.raw, "A")
	second, e2 := r.read(r.raw, "B")
	if e1.KeyRef != e2.KeyRef || bytes.Equal(first.ProtoReflect().GetUnknown(), second.ProtoReflect().GetUnknown()) {
		t.Error("two events of a subject have one key, and a nonce each")
	}
}

// TestEveryWayToRead opens on all of them, and leaves what others share as it is.
func TestEveryWayToRead(t *testing.T) {
	r := newRig(t)
	r.place("", created("A", grace.ID))
	r.place("", &commercev1.OrderCreated{Id: "B"})
	check := func(how string, e eventstore.Recorded) {
		t.Helper()
		if e.Stream.ID == "A" && !bytes.Contains(e.Body(), []byte(marker)) || e.Stream.ID == "B" && e.Opened != nil {
			t.Errorf("%s: order %s is not as it should be", how, e.Stream.ID)
		}
	}
	for how, events := range map[string]func(func(eventstore.Recorded, error) bool){
		"read all":           r.store.ReadAll(t.Context(), eventstore.Position{}, orders),
		"read all backwards": r.store.ReadAllBackwards(t.Context(), eventstore.Position{}, orders),
		"read backwards":     r.store.ReadBackwards(t.Context(), eventstore.Stream("order", "A"), 0),
	} {
		n := 0
		for e, err := range events {
			if err != nil {
				t.Fatal(err)
			}
			check(how, e)
			n++
		}
		if n == 0 {
			t.Errorf("%s: nothing", how)
		}
	}
	type follower interface {
		Subscribe(context.Context, eventstore.Position, eventstore.Filter) (eventstore.Subscription, error)
	}
	for how, from := range map[string]follower{"subscription": r.store, "copy": sealed.NewCopy(r.raw, r.keys), "raw": r.raw} {
		sub, err := from.Subscribe(t.Context(), eventstore.Position{}, orders)
		if err != nil {
			t.Fatal(err)
		}
		chunk, err := sub.Next(t.Context())
		sub.Close()
		if err != nil || len(chunk.Events) != 2 {
			t.Fatalf("%s: %d events, %v", how, len(chunk.Events), err)
		}
		if how == "raw" {
			if chunk.Events[0].Opened != nil {
				t.Error("what was opened for one subscriber is open for all")
			}
			continue
		}
		check(how, chunk.Events[0])
	}
}

// TestErased: after the erasure the fields are gone for every reader, and it shows; the rest of the event stays. Others
// keep theirs. Shows E2.
func TestErased(t *testing.T) {
	r := newRig(t)
	r.place("", created("A", grace.ID))
	r.place("", created("B", "other"))
	e, err := r.store.Erase(t.Context(), grace, "asked for by letter", eventstore.Metadata{Actor: "desk/7"})
	if err != nil {
		t.Fatal(err)
	}
	if !e.Destroyed || e.Key == 0 || e.Reason != "asked for by letter" || e.Actor != "desk/7" || time.Since(e.At) > time.Hour || !e.Requested() {
		t.Errorf("erasure: %+v", e)
	}
	got, event := r.read(r.store, "A")
	if got.GetDelivery() != nil || !event.Erased || !sealed.Erased(got) || got.GetCountry() != "France" || bytes.Contains(event.Body(), []byte(marker)) {
		t.Errorf("order of an erased subject: erased %v, %v", event.Erased, got)
	}
	if got, event := r.read(r.store, "B"); got.GetDelivery().GetName() != marker || event.Erased || sealed.Erased(got) {
		t.Errorf("order of another subject: erased %v, %v", event.Erased, got)
	}
	again, err := r.store.Erase(t.Context(), grace, "another reason", eventstore.Metadata{})
	if err != nil || again != e {
		t.Errorf("erased again: %+v, %v; want the first erasure", again, err)
	}
	if _, err := r.store.Append(t.Context(), request(t, "", created("C", grace.ID))); !errors.Is(err, eventstore.ErrErased) {
		t.Errorf("personal data of an erased subject: %v", err)
	}
	without := created("D", grace.ID)
	without.Delivery = nil
	r.place("", without)
}

// TestUnknownSubject: an erasure of someone who is not known yet holds for what would come.
func TestUnknownSubject(t *testing.T) {
	r := newRig(t)
	if e, err := r.store.Erasure(t.Context(), grace); err != nil || e.Requested() {
		t.Errorf("before: %+v, %v", e, err)
	}
	if e, err := r.store.Erase(t.Context(), grace, "in advance", eventstore.Metadata{}); err != nil || !e.Destroyed || e.Key != 0 {
		t.Errorf("erase: %+v, %v", e, err)
	}
	if _, err := r.store.Append(t.Context(), request(t, "", created("A", grace.ID))); !errors.Is(err, eventstore.ErrErased) {
		t.Errorf("personal data after: %v", err)
	}
	for _, reason := range []string{"", strings.Repeat("x", sealed.MaxReasonBytes+1)} {
		if _, err := r.store.Erase(t.Context(), grace, reason, eventstore.Metadata{}); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("a reason of %d bytes: %v", len(reason), err)
		}
	}
	if _, err := r.store.Erase(t.Context(), sealed.Subject{Tenant: "default"}, "x", eventstore.Metadata{}); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("nobody erased: %v", err)
	}
}

// TestResume: a key whose erasure is on record is destroyed at the next start, whether a crash has left it or a backup of
// the keys has brought it back. Shows E3.
func TestResume(t *testing.T) {
	r := newRig(t)
	r.place("", created("A", grace.ID))
	broken := &undestroyed{r.keys}
	if _, err := r.over(broken).Erase(t.Context(), grace, "x", eventstore.Metadata{}); err == nil {
		t.Fatal("a key that was not destroyed is reported as destroyed")
	}
	e, err := r.store.Erasure(t.Context(), grace)
	if err != nil || !e.Requested() || e.Destroyed {
		t.Fatalf("between the event and the key's end: %+v, %v", e, err)
	}
	destroyed, last, err := r.store.Resume(t.Context())
	if err != nil || destroyed != 1 || last != e.Event {
		t.Errorf("resume: %d destroyed up to %s, %v", destroyed, last, err)
	}
	if got, event := r.read(r.store, "A"); !event.Erased || got.GetDelivery() != nil {
		t.Errorf("after resume: erased %v, %v", event.Erased, got)
	}
	if destroyed, _, err := r.store.Resume(t.Context()); err != nil || destroyed != 0 {
		t.Errorf("resume again: %d destroyed, %v", destroyed, err)
	}
}

// undestroyed is a key file whose keys do not go.
type undestroyed struct{ sealed.Keys }

func (u *undestroyed) Destroy(context.Context, sealed.Subject, uint32) error {
	return eventstore.ErrUnavailable
}

// held is a log whose appends of orders wait until they are let go.
type held struct {
	eventstore.Store
	reached, released chan struct{}
}

func (h *held) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	if r.Appends[0].Stream.Category == "order" {
		close(h.reached)
		<-h.released
	}
	return h.Store.Append(ctx, r)
}

// watched tells when a key is to be destroyed.
type watched struct {
	sealed.Keys
	destroying chan struct{}
}

func (w *watched) Destroy(ctx context.Context, s sealed.Subject, number uint32) error {
	close(w.destroying)
	return w.Keys.Destroy(ctx, s, number)
}

// TestErasureWaitsForAppends: what is on its way with a subject's data is recorded before the subject's key goes. Shows E3.
func TestErasureWaitsForAppends(t *testing.T) {
	r := newRig(t)
	log := &held{r.raw, make(chan struct{}), make(chan struct{})}
	keys := &watched{r.keys, make(chan struct{})}
	store := r.overLog(log, keys)
	var placed, erased error
	var work sync.WaitGroup
	work.Go(func() { _, placed = store.Append(t.Context(), request(t, "", created("A", grace.ID))) })
	<-log.reached
	work.Go(func() { _, erased = store.Erase(t.Context(), grace, "asked", eventstore.Metadata{}) })
	select {
	case <-keys.destroying:
		t.Error("the key was destroyed while an append with data under it was on its way")
	case <-time.After(200 * time.Millisecond): // an erasure that does not wait takes a hundredth of that
	}
	close(log.released)
	work.Wait()
	if placed != nil || erased != nil {
		t.Fatalf("append: %v; erasure: %v", placed, erased)
	}
	<-keys.destroying
	if _, e := r.read(r.store, "A"); !e.Erased {
		t.Error("the order can be read after the erasure")
	}
}

// TestKeysAway: a key that cannot be had is an error that will pass, and a subscription leaves nothing out over it. Shows E4.
func TestKeysAway(t *testing.T) {
	r := newRig(t)
	r.place("", created("A", grace.ID))
	sub, err := r.store.Subscribe(t.Context(), eventstore.Position{}, orders)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	r.keys.away = fmt.Errorf("%w: the service is down", eventstore.ErrUnavailable)
	for e, err := range r.store.ReadAll(t.Context(), eventstore.Position{}, orders) {
		if eventstore.ClassOf(err) != eventstore.Transient || e.Erased {
			t.Errorf("read without keys: erased %v, %v", e.Erased, err)
		}
	}
	if _, err := sub.Next(t.Context()); eventstore.ClassOf(err) != eventstore.Transient {
		t.Errorf("subscription without keys: %v", err)
	}
	r.keys.away = nil
	if chunk, err := sub.Next(t.Context()); err != nil || len(chunk.Events) != 1 || !bytes.Contains(chunk.Events[0].Body(), []byte(marker)) {
		t.Errorf("subscription with keys again: %d events, %v", len(chunk.Events), err)
	}
}

// TestMovedCiphertextDoesNotOpen: what is sealed belongs to its event.
func TestMovedCiphertextDoesNotOpen(t *testing.T) {
	r := newRig(t)
	r.place("", created("A", grace.ID))
	_, e := r.read(r.raw, "A")
	for name, change := range map[string]func(*eventstore.Recorded){
		"stream": func(e *eventstore.Recorded) { e.Stream.ID = "B" },
		"type":   func(e *eventstore.Recorded) { e.Type = "order.created.v2" },
		"id":     func(e *eventstore.Recorded) { e.Event.ID[0] ^= 1 },
		"bytes": func(e *eventstore.Recorded) {
			e.Payload = bytes.Clone(e.Payload)
			e.Payload[len(e.Payload)-1] ^= 1
		},
	} {
		moved := e
		change(&moved)
		if err := r.store.Open(t.Context(), &moved); !errors.Is(err, eventstore.ErrCorrupt) || moved.Opened != nil {
			t.Errorf("%s changed: %v", name, err)
		}
	}
	if err := r.store.Open(t.Context(), &e); err != nil {
		t.Error(err)
	}
}

// TestRepeatedRequest: the hash of a request with personal data is keyed, so that it says nothing without the key; a
// repetition is still told from another request, and after the erasure nothing is. Shows E5.
func TestRepeatedRequest(t *testing.T) {
	r := newRig(t)
	asked := request(t, "key-1", created("A", grace.ID))
	plain := asked
	if err := plain.Normalize(); err != nil {
		t.Fatal(err)
	}
	r.place("key-1", created("A", grace.ID))
	receipt, stored, err := r.raw.Receipt(t.Context(), eventstore.DefaultTenant, "key-1")
	if err != nil {
		t.Fatal(err)
	}
	if stored == plain.Hash {
		t.Error("the recorded hash is that of the plain text")
	}
	if _, e := r.read(r.raw, "A"); e.RequestHash != stored {
		t.Error("the event has another hash")
	}
	other := request(t, "key-1", &commercev1.OrderCreated{Id: "A", CustomerId: grace.ID, Delivery: &commercev1.Contact{Name: "Ada"}})
	if err := other.Normalize(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		hash eventstore.Hash
		same bool
	}{{plain.Hash, true}, {other.Hash, false}, {stored, true}} {
		if same, err := r.store.SameRequest(t.Context(), receipt, stored, c.hash); err != nil || same != c.same {
			t.Errorf("same request: %v, %v; want %v", same, err, c.same)
		}
	}
	if again := r.place("key-1", created("A", grace.ID)); !again.Duplicate {
		t.Errorf("the repeated request: %+v", again)
	}
	if _, err := r.store.Append(t.Context(), other); !errors.Is(err, eventstore.ErrIDReused) {
		t.Errorf("another request under the same id: %v", err)
	}
	if _, err := r.store.Erase(t.Context(), grace, "x", eventstore.Metadata{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.SameRequest(t.Context(), receipt, stored, plain.Hash); !errors.Is(err, eventstore.ErrErased) {
		t.Errorf("compared after the erasure: %v", err)
	}
}

// TestNothingPersonalInNames: ids and tags cannot be erased. Shows E6.
func TestNothingPersonalInNames(t *testing.T) {
	for name, c := range map[string]struct {
		change   func(*eventstore.Request)
		mentions string
	}{
		"tag":             {func(r *eventstore.Request) { r.Appends[0].Events[0].Tags = []string{"country:x", "to:" + marker} }, "a tag holds"},
		"tag without key": {func(r *eventstore.Request) { r.Appends[0].Events[0].Tags = []string{"555"} }, "a tag holds"},
		"stream":          {func(r *eventstore.Request) { r.Appends[0].Stream.ID = "order of grace@example.org" }, "its stream's id holds"},
		"request":         {func(r *eventstore.Request) { r.ID = marker }, "the request's id holds"},
		"nobody's": {func(r *eventstore.Request) {
			*r = request(t, "", created("A", ""))
		}, "does not say whose it is"},
		"own field": {func(r *eventstore.Request) {
			r.Appends[0].Events[0].Payload = append(r.Appends[0].Events[0].Payload, 0xba, 0xa3, 0x09, 0x00)
		}, "is kept for what is sealed"},
		"JSON": {func(r *eventstore.Request) { r.Appends[0].Events[0].Encoding = eventstore.JSON }, "recorded as protobuf"},
	} {
		r := newRig(t)
		asked := request(t, "key-1", created("A", grace.ID))
		c.change(&asked)
		_, err := r.store.Append(t.Context(), asked)
		if !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), c.mentions) {
			t.Errorf("%s: %v, want %q", name, err, c.mentions)
		}
		if err != nil && strings.Contains(err.Error(), marker) {
			t.Errorf("%s: the error repeats what is personal: %v", name, err)
		}
	}
}

// TestDeclare: marks that could not be kept are refused. Shows E6.
func TestDeclare(t *testing.T) {
	r := newRig(t)
	if err := r.store.Declare(createdV1, (&commercev1.OrderShipped{}).ProtoReflect().Descriptor()); err == nil {
		t.Error("a type is two messages")
	}
	for name, c := range map[string]struct {
		message  proto.Message
		mentions string
	}{
		"no subject": {&commerceapiv1.Order{}, "no field marked as their subject"},
		"below":      {&commerceapiv1.ListCustomerOrdersResponse{}, "marks stand below it"},
		"none":       {&apiv1.Event{}, ""},
	} {
		err := r.store.Declare("x.y.v1", c.message.ProtoReflect().Descriptor())
		if c.mentions == "" && err != nil || c.mentions != "" && (err == nil || !strings.Contains(err.Error(), c.mentions)) {
			t.Errorf("%s: %v, want %q", name, err, c.mentions)
		}
	}
}

// TestTheLogNamesItsKeys: what other keys have sealed is not mixed with what these seal. Shows E4.
func TestTheLogNamesItsKeys(t *testing.T) {
	r := newRig(t)
	used := func() string {
		t.Helper()
		id, err := sealed.KeysOf(t.Context(), r.raw)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	r.place("", &commercev1.OrderCreated{Id: "0"})
	if id := used(); id != "" {
		t.Errorf("a log without personal data names the keys %q", id)
	}
	r.place("", created("A", grace.ID))
	if id := used(); id != "these" {
		t.Errorf("the log names the keys %q", id)
	}
	others := sealed.New(r.raw, r.keys, "others")
	if err := others.Declare(createdV1, (&commercev1.OrderCreated{}).ProtoReflect().Descriptor()); err != nil {
		t.Fatal(err)
	}
	if _, err := others.Append(t.Context(), request(t, "", created("B", grace.ID))); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("sealed with other keys: %v", err)
	}
	if _, err := others.Erase(t.Context(), grace, "x", eventstore.Metadata{}); !errors.Is(err, eventstore.ErrUnavailable) {
		t.Errorf("erased in other keys: %v", err)
	}
}
