package eventstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
)

var order = eventstore.Stream("order", "536365")

func ask(change func(*eventstore.Request)) eventstore.Request {
	r := eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: order, Events: []eventstore.Event{{Type: "order.created.v1"}}}}}
	if change != nil {
		change(&r)
	}
	return r
}

func askEvent(change func(*eventstore.Event)) eventstore.Request {
	return ask(func(r *eventstore.Request) { change(&r.Appends[0].Events[0]) })
}

func TestNormalizeFillsDefaults(t *testing.T) {
	r := askEvent(func(e *eventstore.Event) { e.Tags = []string{"b:1", "a:1", "b:1"} })
	r.ID = "place-1"
	tags := r.Appends[0].Events[0].Tags
	if err := r.Normalize(); err != nil {
		t.Fatal(err)
	}
	if r.Tenant != eventstore.DefaultTenant || r.Hash == (eventstore.Hash{}) {
		t.Errorf("tenant %q, hash %x", r.Tenant, r.Hash)
	}
	want := eventstore.Event{
		Type: "order.created.v1", SchemaVersion: 1, Kind: eventstore.KindDomain, Encoding: eventstore.Protobuf, Tags: []string{"a:1", "b:1"},
	}
	if diff := cmp.Diff(want, r.Appends[0].Events[0]); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	if tags[0] != "b:1" {
		t.Error("the caller's tags were sorted in place")
	}
	again := r
	if err := again.Normalize(); err != nil || again.Hash != r.Hash {
		t.Errorf("normalizing twice: %v, hash %x, was %x", err, again.Hash, r.Hash)
	}
}

func TestNormalizeRefuses(t *testing.T) {
	cases := map[string]struct {
		r    eventstore.Request
		want string
	}{
		"nothing":                        {eventstore.Request{}, "needs an id"},
		"tenant":                         {ask(func(r *eventstore.Request) { r.Tenant = "Acme" }), "tenant"},
		"tenant of a stream":             {ask(func(r *eventstore.Request) { r.Tenant = "acme" }), "tenant"},
		"id too long":                    {ask(func(r *eventstore.Request) { r.ID = strings.Repeat("é", 65) }), "130 bytes"},
		"id not UTF-8":                   {ask(func(r *eventstore.Request) { r.ID = "\xff" }), "UTF-8"},
		"id not printable":               {ask(func(r *eventstore.Request) { r.ID = "a\nb" }), "U+000A"},
		"durability":                     {ask(func(r *eventstore.Request) { r.Durability = 9 }), "durability"},
		"no events":                      {ask(func(r *eventstore.Request) { r.Appends[0].Events = nil }), "no events"},
		"stream twice":                   {ask(func(r *eventstore.Request) { r.Appends = append(r.Appends, r.Appends[0]) }), "twice"},
		"stream of receipts":             {ask(func(r *eventstore.Request) { r.Appends[0].Stream.Category = eventstore.ReceiptCategory }), "receipts"},
		"category":                       {ask(func(r *eventstore.Request) { r.Appends[0].Stream.Category = "a/b" }), "category"},
		"empty stream id":                {ask(func(r *eventstore.Request) { r.Appends[0].Stream.ID = "" }), "empty"},
		"long stream id":                 {ask(func(r *eventstore.Request) { r.Appends[0].Stream.ID = strings.Repeat("x", 257) }), "257 bytes"},
		"expectation":                    {ask(func(r *eventstore.Request) { r.Appends[0].Expect = -3 }), "expectation"},
		"tenant that begins with a dash": {ask(func(r *eventstore.Request) { r.Tenant = "-acme" }), "begin with a-z or 0-9"},
		"event id twice": {ask(func(r *eventstore.Request) {
			id := uuid.MustParse("01900000-0000-7000-8000-000000000001")
			r.Appends = append(r.Appends, eventstore.StreamAppend{Stream: eventstore.Stream("order", "2"), Events: []eventstore.Event{{Type: "a.v1"}, {Type: "a.v1", ID: id}}})
			r.Appends[0].Events[0].ID = id
		}), "event id 01900000-0000-7000-8000-000000000001"},
		"no type":             {askEvent(func(e *eventstore.Event) { e.Type = "" }), "event 1: "},
		"long type":           {askEvent(func(e *eventstore.Event) { e.Type = strings.Repeat("x", 129) }), "129 bytes"},
		"type not UTF-8":      {askEvent(func(e *eventstore.Event) { e.Type = "\xff" }), "UTF-8"},
		"kind":                {askEvent(func(e *eventstore.Event) { e.Kind = 6 }), "kind 6"},
		"encoding":            {askEvent(func(e *eventstore.Event) { e.Encoding = 3 }), "encoding 3"},
		"empty tag":           {askEvent(func(e *eventstore.Event) { e.Tags = []string{""} }), "tag"},
		"long tag":            {askEvent(func(e *eventstore.Event) { e.Tags = []string{strings.Repeat("x", 257)} }), "256 bytes"},
		"many different tags": {askEvent(func(e *eventstore.Event) { e.Tags = manyTags(17) }), "17 tags"},
	}
	for name, c := range cases {
		if err := c.r.Normalize(); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %v that says %q", name, err, eventstore.ErrInvalid, c.want)
		}
	}
	fits := askEvent(func(e *eventstore.Event) { e.Tags = manyTags(16) })
	if err := fits.Normalize(); err != nil {
		t.Errorf("16 tags: %v", err)
	}
	ids := ask(func(r *eventstore.Request) {
		for _, id := range []uuid.UUID{uuid.Nil, uuid.New(), uuid.Nil, uuid.New(), uuid.Nil} {
			r.Appends[0].Events = append(r.Appends[0].Events, eventstore.Event{Type: "a.v1", ID: id})
		}
	})
	if err := ids.Normalize(); err != nil {
		t.Errorf("different ids, some of them to be made: %v", err)
	}
}

func manyTags(n int) []string {
	tags := make([]string, n)
	for i := range tags {
		tags[i] = fmt.Sprint("tag:", i)
	}
	return tags
}

// The hash tells a repeated request from another one that took its ID.
func TestRequestHash(t *testing.T) {
	hash := func(change func(*eventstore.Request)) eventstore.Hash {
		r := ask(change)
		r.ID = "same"
		if err := r.Normalize(); err != nil {
			t.Fatal(err)
		}
		return r.Hash
	}
	plain := hash(nil)
	if plain != hash(func(r *eventstore.Request) {
		r.Appends[0].Events[0].ID = uuid.New()
		r.Metadata = eventstore.Metadata{TraceParent: "00-1", Causation: "x"}
	}) {
		t.Error("a repeated request may have other event ids and another trace, and its hash must be the same")
	}
	others := map[string]func(*eventstore.Request){
		"stream":  func(r *eventstore.Request) { r.Appends[0].Stream.ID = "2" },
		"expect":  func(r *eventstore.Request) { r.Appends[0].Expect = eventstore.NoStream },
		"type":    func(r *eventstore.Request) { r.Appends[0].Events[0].Type = "order.changed.v1" },
		"payload": func(r *eventstore.Request) { r.Appends[0].Events[0].Payload = []byte("x") },
		"events":  func(r *eventstore.Request) { r.Appends[0].Events = append(r.Appends[0].Events, r.Appends[0].Events[0]) },
		"nothing": func(r *eventstore.Request) { r.Appends = nil },
		"boundary": func(r *eventstore.Request) {
			r.Appends[0].Events[0].Type, r.Appends[0].Events[0].Payload = "order.created.v", []byte("1")
		},
	}
	for name, change := range others {
		if hash(change) == plain {
			t.Errorf("%s differs, and the hash does not", name)
		}
	}
}

func TestRecordsAndReceipt(t *testing.T) {
	r := ask(func(r *eventstore.Request) {
		r.ID = "place-1"
		r.Appends[0].Events = append(r.Appends[0].Events, r.Appends[0].Events[0])
		r.Appends = append(r.Appends, eventstore.StreamAppend{Stream: eventstore.Stream("inventory", "1"), Events: r.Appends[0].Events[:1]})
	})
	if err := r.Normalize(); err != nil {
		t.Fatal(err)
	}
	ids := 0
	batch := r.Records(func() uuid.UUID { ids++; return uuid.NewSHA1(uuid.Nil, []byte{byte(ids)}) })
	if len(batch) != 3 || ids != 3 {
		t.Fatalf("%d records, %d ids", len(batch), ids)
	}
	for i := range batch {
		batch[i].Position.LSN = uint64(10 + i)
		batch[i].Version = uint64(5 + i)
		if batch[i].CommandID != "place-1" || batch[i].RequestHash != r.Hash || batch[i].Cell != eventstore.CellOf(batch[i].Stream) {
			t.Errorf("record %d: %+v", i, batch[i])
		}
	}
	want := eventstore.Receipt{
		ID: "place-1", First: eventstore.Position{LSN: 10}, Position: eventstore.Position{LSN: 12},
		Streams: []eventstore.StreamReceipt{{Stream: order, First: 5, Last: 6}, {Stream: eventstore.Stream("inventory", "1"), First: 7, Last: 7}},
	}
	got := eventstore.ReceiptOf(batch)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("receipt (-want +got):\n%s", diff)
	}
	if s := got.Stream(order); s.Last != 6 {
		t.Errorf("receipt of the stream: %+v", s)
	}
	if s := got.Stream(eventstore.Stream("order", "none")); s != (eventstore.StreamReceipt{}) {
		t.Errorf("receipt of a stream that was not appended to: %+v", s)
	}
}

func TestNewEventID(t *testing.T) {
	at := hlc.At(time.Date(2010, 12, 1, 8, 26, 0, 123e6, time.UTC))
	seen := map[uuid.UUID]bool{}
	for range 10_000 {
		id := eventstore.NewEventID(at)
		if id.Version() != 7 || id.Variant() != uuid.RFC4122 || seen[id] {
			t.Fatalf("id %s: version %d, variant %s, seen before: %v", id, id.Version(), id.Variant(), seen[id])
		}
		seen[id] = true
		if sec, nsec := id.Time().UnixTime(); sec != at.Time().Unix() || nsec/1e6 != 123 {
			t.Fatalf("id %s is of %d.%09d, want %s", id, sec, nsec, at.Time())
		}
	}
	if n := testing.AllocsPerRun(100, func() { eventstore.NewEventID(at) }); n != 0 {
		t.Errorf("an id costs %v allocations", n)
	}
}
