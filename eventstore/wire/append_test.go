package wire

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// asked returns some request; every field is empty now and then.
func asked(random *rand.Rand) *eventstore.Request {
	maybe := func(s string) string { return strings.Repeat(s, random.IntN(2)*random.IntN(100)) }
	r := &eventstore.Request{
		Tenant: "default", ID: maybe("i"), Durability: eventstore.Durability(random.IntN(3)),
		Metadata: eventstore.Metadata{Causation: maybe("c"), Correlation: maybe("ü"), TraceParent: maybe("t"), TraceState: maybe("s"), Actor: maybe("a")},
	}
	if random.IntN(2) == 0 {
		r.Hash = eventstore.Hash{byte(random.Uint32()), 1}
	}
	if random.IntN(4) == 0 {
		r.Condition = &eventstore.Condition{
			Query: eventstore.Query{{Types: []string{"a.v1", "b.v1"}}, {Types: []string{"c.v1"}, Tags: []string{"k:1", "k:2"}}},
			After: eventstore.Position{Incarnation: 1, LSN: random.Uint64N(1000)},
		}
	}
	for range random.IntN(3) {
		a := eventstore.StreamAppend{
			Stream: eventstore.Stream("thing", "1"+maybe("x")),
			Expect: []eventstore.Expect{eventstore.Any, eventstore.NoStream, eventstore.Exists, eventstore.Exactly(random.Uint64())}[random.IntN(4)],
		}
		for range random.IntN(5) {
			e := eventstore.Event{
				Type: []string{"thing.happened.v1", "thing.ended.v1", "y"}[random.IntN(3)], SchemaVersion: uint16(random.Uint32() * random.Uint32N(2)),
				Kind: eventstore.Kind(random.IntN(6)), Encoding: eventstore.Encoding(random.IntN(3)), KeyRef: random.Uint32() * random.Uint32N(2),
			}
			if random.IntN(2) == 0 {
				e.ID = uuid.UUID{byte(random.Uint32()), 7}
			}
			if n := random.IntN(3) * random.IntN(200); n > 0 {
				e.Payload = bytes.Repeat([]byte{byte(random.Uint32())}, n)
			}
			for range random.IntN(2) * random.IntN(4) {
				e.Tags = append(e.Tags, "k:"+maybe("v"))
			}
			a.Events = append(a.Events, e)
		}
		if random.IntN(8) == 0 {
			a.Context = eventstore.Vector{{Log: eventstore.LogID{Site: "de", Incarnation: 1, Shard: 7}, Seq: random.Uint64()}, {Log: eventstore.LogID{Site: "sh"}, Seq: 9}}
		}
		r.Appends = append(r.Appends, a)
	}
	return r
}

// A request that is written by hand is the message that the generated code would write. Invariant A2.
func TestRequestIsWrittenAsTheGeneratedCodeDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 500 {
		r := asked(random)
		got := &storev1.AppendRequest{}
		if err := proto.Unmarshal(RequestMessage(r).Buffers().Materialize(), got); err != nil {
			t.Fatal(err)
		}
		if want := EncodeRequest(r); !proto.Equal(want, got) {
			t.Fatal(cmp.Diff(want, got, protocmp.Transform()))
		}
	}
}

// generated is what the generated code makes of a request's wire form.
func generated(b []byte, d Defaults) (r eventstore.Request, expects bool, err error) {
	m := &storev1.AppendRequest{}
	if err := proto.Unmarshal(b, m); err != nil {
		return r, false, err
	}
	d.Fill(m)
	r, err = DecodeRequest(m)
	return r, len(m.GetAppends()) > 0 && m.GetAppends()[0].GetExpect() != nil, err
}

// sameRequest fails unless a reader says of a wire form what the generated code says.
func sameRequest(t *testing.T, d *RequestReader, b []byte, defaults Defaults) {
	t.Helper()
	want, wantExpects, wantErr := generated(bytes.Clone(b), defaults)
	var got eventstore.Request
	expects, err := d.Read(&got, bytes.Clone(b), &defaults)
	switch {
	case err != nil && wantErr == nil: // what the store refuses
		if stores := want.Normalize(); stores == nil || eventstore.ClassOf(stores) != eventstore.ClassOf(err) {
			t.Fatalf("%x is refused: %v, the store says %v", b, err, stores)
		}
	case (err == nil) != (wantErr == nil):
		t.Fatalf("%x: %v, the generated code says %v", b, err, wantErr)
	case err == nil:
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" || expects != wantExpects {
			t.Fatalf("%x: expects %v, want %v\n%s", b, expects, wantExpects, diff)
		}
	}
}

// odd are wire forms that no code writes, or that are wrong: pieces to be merged, fields of other kinds, empty texts.
func odd() [][]byte {
	text := func(n protowire.Number, s string) []byte { return appendBytes(nil, n, []byte(s)) }
	number := func(n protowire.Number, v uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
	}
	message := func(n protowire.Number, parts ...[]byte) []byte { return appendMessage(nil, n, bytes.Join(parts, nil)) }
	empty := func(n protowire.Number) []byte { return appendMessage(nil, n, nil) }
	event := message(7, text(2, "a.v1"), text(5, "p"))
	return [][]byte{
		{}, {0}, {0x0a}, {0x0a, 5, 'a'}, {0xff, 0xff},
		bytes.Join([][]byte{text(1, "a"), text(1, "b"), text(2, "x"), empty(2)}, nil),
		bytes.Join([][]byte{message(6, text(1, "c")), message(6, text(2, "d"))}, nil),
		bytes.Join([][]byte{text(5, "kafka"), empty(5)}, nil),
		bytes.Join([][]byte{text(5, "\xff"), text(5, "kafka")}, nil), bytes.Join([][]byte{text(1, "\xff"), text(1, "a")}, nil),
		text(5, "much"), text(7, "short"), text(9, "unknown"), number(1, 3), number(99, 3), empty(3), empty(6), empty(7),
		message(3, text(1, "thing"), number(4, 1), number(6, 7), event),
		message(3, text(1, "thing"), number(6, 7), number(4, 1), event),
		message(3, text(1, "thing"), number(4, 0), event),
		message(3, text(1, "thing"), number(4, 2), event),
		message(3, text(1, "thing"), number(6, 1<<63+5), event),
		message(3, text(1, "thing"), text(4, "x"), event),
		message(3, message(7, text(2, "a"), text(2, "b"), text(5, "p"), text(5, "q"), empty(5))),
		message(3, message(7, text(2, "a"), number(3, 1<<16)), message(7, number(3, 1<<32+2), number(9, 1<<32+3))),
		message(3, message(7, text(1, "no uuid"))), message(3, message(7, empty(1), empty(4), empty(8), empty(7), empty(2))),
		message(3, message(7, text(4, "text/plain"))), message(3, message(7, text(8, "odd"))),
		message(3, message(7, text(6, `{"a":1}`))), message(3, message(7, text(6, `{`), text(5, "p"))),
		message(3, message(8, text(1, "de"), number(4, 7)), event), text(1, "\xff"), message(3, text(2, "\xff"), event),
		message(4, text(2, "1-7")), message(4, text(2, "x")), message(4, text(1, "\xff")),
		bytes.Join([][]byte{message(4, text(2, "1-7")), message(4, text(2, "1-8"))}, nil), bytes.Repeat(empty(3), eventstore.MaxRequestEvents+1),
		message(3, bytes.Repeat(empty(7), eventstore.MaxRequestEvents+1)),
		protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), 7),
	}
}

// A request that is read by hand is what the generated code makes of it, whatever is sent. Invariant A2.
func TestRequestIsReadAsTheGeneratedCodeDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 10))
	var d RequestReader
	for range 250 {
		b := AppendRequest(nil, asked(random))
		sameRequest(t, &d, b, Defaults{})
		if len(b) > 0 { // and with a bit that is another
			b[random.IntN(len(b))] ^= 1 << random.IntN(8)
			sameRequest(t, &d, b, Defaults{})
		}
	}
	for _, b := range odd() {
		sameRequest(t, &d, b, Defaults{})
		sameRequest(t, &d, b, Defaults{Tenant: "acme", ID: "k", Durability: "kafka"})
	}
}

// A few megabytes that ask for a hundred times the memory are refused without it, well formed or not, and a reader keeps
// nothing of them.
func TestLargeRequestsTakeLittle(t *testing.T) {
	const size = 4 << 20
	message := func(n protowire.Number, b []byte) []byte { return appendMessage(nil, n, b) }
	fill := func(most int, b ...byte) []byte { return bytes.Repeat(b, most/len(b)) }
	odd := protowire.AppendFixed32(protowire.AppendTag(nil, 99, protowire.Fixed32Type), 7)
	empty := message(7, fill(20_000, 7<<3|2, 0))
	short := message(7, append([]byte{2<<3 | 2, 1, 'a'}, fill(20_000, 7<<3|2, 1, 'a')...))
	for name, b := range map[string][]byte{
		"empty tags":      message(3, bytes.Repeat(empty, size/len(empty))),
		"short tags":      message(3, bytes.Repeat(short, size/len(short))),
		"names":           fill(size, 1<<3|2, 1, 'a'),
		"empty names":     fill(size, 1<<3|2, 0),
		"streams":         append(odd, fill(size, 3<<3|2, 0)...),
		"events":          append(odd, message(3, fill(size, 7<<3|2, 0))...),
		"contexts":        append(odd, message(3, fill(size, 8<<3|2, 0))...),
		"condition":       message(4, fill(size, 1<<3|2, 0)),
		"condition twice": bytes.Repeat(message(4, fill(60, 1<<3|2, 0)), size/62),
		"malformed":       append(message(3, fill(size, 7<<3|2, 0)), 0xff),
	} {
		t.Run(name, func(t *testing.T) {
			var d RequestReader
			var r eventstore.Request
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := d.Read(&r, b, &Defaults{})
			runtime.ReadMemStats(&after)
			if name != "empty names" && !errors.Is(err, eventstore.ErrInvalid) && !errors.Is(err, eventstore.ErrTooLarge) {
				t.Errorf("%v, want that it is refused", err)
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 8*size {
				t.Errorf("%d MiB were taken for a message of %d", took>>20, len(b)>>20)
			}
			if kept := cap(d.texts) + cap(d.names)*24; kept > 256<<10 {
				t.Errorf("%d bytes are kept", kept)
			}
			for _, n := range d.names[:cap(d.names)] {
				if n.to != nil {
					t.Fatal("a text of the request is kept")
				}
			}
		})
	}
}

// What a request keeps of its message is its payloads alone.
func TestNamesKeepNoPayload(t *testing.T) {
	r := &eventstore.Request{Tenant: "acme", ID: "id", Appends: []eventstore.StreamAppend{{
		Stream: eventstore.StreamID{Tenant: "acme", Category: "thing", ID: "1"}, Events: []eventstore.Event{{Type: "a.v1", Tags: []string{"k:1"}, Payload: []byte("payload")}},
	}}}
	b := AppendRequest(nil, r)
	var d RequestReader
	var got eventstore.Request
	if _, err := d.Read(&got, b, &Defaults{}); err != nil {
		t.Fatal(err)
	}
	clear(b)
	got.Appends[0].Events[0].Payload = r.Appends[0].Events[0].Payload
	if diff := cmp.Diff(*r, got); diff != "" {
		t.Error(diff)
	}
}

func FuzzRequest(f *testing.F) {
	random := rand.New(rand.NewPCG(11, 12))
	for range 20 {
		f.Add(AppendRequest(nil, asked(random)))
	}
	for _, b := range odd() {
		if len(b) < 1000 {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) { sameRequest(t, &RequestReader{}, b, Defaults{}) })
}
