package kafkalog

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/hlc"
	"pgregory.net/rapid"
)

// full is an event that has everything.
func full() eventstore.Recorded {
	log := eventstore.LogID{Site: "sh", Incarnation: 2, Shard: 1}
	stream := eventstore.StreamID{Tenant: "acme", Category: "order", ID: "2024/München 7"}
	return eventstore.Recorded{
		Position: eventstore.Position{Incarnation: 2, LSN: 77},
		Dot:      eventstore.Dot{Log: log, Seq: 42},
		Batch:    eventstore.Batch{FirstSeq: 41, Count: 3},
		HLC:      hlc.At(time.Date(2026, 3, 4, 5, 6, 7, 891e6, time.UTC)) + 9,
		Stream:   stream, Version: 5, Cell: 1001, Epoch: 3,
		Event: eventstore.Event{
			ID: uuid.MustParse("019a5b3c-7d1e-7f00-8a3b-0123456789ab"), Type: "order.created.v1", SchemaVersion: 4,
			Kind: eventstore.KindCompensation, Encoding: eventstore.JSON, Payload: []byte(`{"lines":7}`),
			Tags: []string{"customer:17850", "with, comma"}, KeyRef: 12,
		},
		CommandID: "place-536365", RequestHash: eventstore.Hash{1, 2, 0xff},
		Metadata: eventstore.Metadata{
			Causation: "c-1", Correlation: "c-2", Actor: "clerk:9",
			TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TraceState: "vendor=1",
		},
		Context: eventstore.Vector{{Log: log, Seq: 40}},
		Dep:     eventstore.Vector{{Log: eventstore.LogID{Site: "bj", Incarnation: 1, Shard: 1}, Seq: 8}, {Log: eventstore.LogID{Site: "gz", Incarnation: 1}, Seq: 9}},
	}
}

func text(r Record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "time %s\nkey %q\nvalue %q\n", r.Time.Format(time.RFC3339Nano), r.Key, r.Value)
	for _, h := range r.Headers {
		fmt.Fprintf(&b, "%s: %s\n", h.Key, h.Value)
	}
	return b.String()
}

// The text of a record is a contract with strangers: docs/topic.md describes it and nobody may change it.
func TestRecordText(t *testing.T) {
	e := full()
	want := `time 2026-03-04T05:06:07.891Z
key "acme/order/2024/München 7"
value "{\"lines\":7}"
tributary-dot: shard-01@sh/2/42
tributary-position: 2-77
tributary-type: order.created.v1
tributary-version: 5
tributary-hlc: 1772600767891.9
tributary-batch: 41+3
tributary-event-id: 019a5b3c-7d1e-7f00-8a3b-0123456789ab
content-type: application/json
tributary-kind: compensation
tributary-schema-version: 4
tributary-command-id: place-536365
tributary-request-hash: 0102ff0000000000000000000000000000000000000000000000000000000000
tributary-causation: c-1
tributary-correlation: c-2
traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
tracestate: vendor=1
tributary-actor: clerk:9
tributary-tag: customer:17850
tributary-tag: with, comma
tributary-context: shard-01@sh/2/40
tributary-dep: shard-01@bj/1/8,shard-00@gz/1/9
tributary-cell: 1001
tributary-epoch: 3
tributary-key-ref: 12
tributary-crc: 7fedc668
`
	got := EncodeEvent(&e, frameOf(&e))
	if diff := cmp.Diff(want, text(got)); diff != "" {
		t.Fatalf("record (-want +got):\n%s", diff)
	}
	decoded, err := Decode(got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Event{Recorded: e}, decoded); diff != "" {
		t.Fatalf("decoded (-want +got):\n%s", diff)
	}
}

func TestRecordTextSmallest(t *testing.T) {
	e := full()
	e = eventstore.Recorded{
		Position: e.Position, Dot: e.Dot, HLC: e.HLC, Stream: eventstore.Stream("order", "7"), Version: 1,
		Batch: eventstore.Batch{FirstSeq: 42, Count: 1},
		Event: eventstore.Event{ID: e.Event.ID, Type: "order.created.v1", SchemaVersion: 1, Kind: eventstore.KindDomain, Encoding: eventstore.Protobuf},
	}
	e.Cell = eventstore.CellOf(e.Stream)
	want := `time 2026-03-04T05:06:07.891Z
key "default/order/7"
value ""
tributary-dot: shard-01@sh/2/42
tributary-position: 2-77
tributary-type: order.created.v1
tributary-version: 1
tributary-hlc: 1772600767891.9
tributary-event-id: 019a5b3c-7d1e-7f00-8a3b-0123456789ab
content-type: application/protobuf
tributary-crc: d179f873
`
	got := EncodeEvent(&e, frameOf(&e))
	if diff := cmp.Diff(want, text(got)); diff != "" {
		t.Fatalf("record (-want +got):\n%s", diff)
	}
	if got.Value == nil {
		t.Fatal("an empty payload became null, which means deletion in a compacted topic")
	}
}

func TestMarks(t *testing.T) {
	e := full()
	fence := &Fence{Log: e.Dot.Log, Writer: "a1b2", ProducerID: 4001, ProducerEpoch: 7, HLC: e.HLC}
	heartbeat := &Heartbeat{
		Log: e.Dot.Log, Mirrored: e.Dot, MirroredAt: e.Position, Chain: eventstore.Hash{7}, Position: eventstore.Position{Incarnation: 2, LSN: 80},
		Head: 50, Durable: eventstore.Position{Incarnation: 2, LSN: 90}, HLC: e.HLC, Applied: e.Dep,
	}
	var enc encoder
	for _, c := range []struct {
		entry Entry
		got   Record
		want  string
	}{
		{fence, enc.fence(fence), `time 2026-03-04T05:06:07.891Z
key ""
value ""
tributary-record: fence
tributary-log: shard-01@sh/2
tributary-writer: a1b2
tributary-producer: 4001/7
tributary-hlc: 1772600767891.9
`},
		{heartbeat, enc.heartbeat(heartbeat), `time 2026-03-04T05:06:07.891Z
key ""
value ""
tributary-record: heartbeat
tributary-log: shard-01@sh/2
tributary-mirrored: shard-01@sh/2/42
tributary-mirrored-at: 2-77
tributary-chain: 0700000000000000000000000000000000000000000000000000000000000000
tributary-position: 2-80
tributary-head: 50
tributary-durable: 2-90
tributary-hlc: 1772600767891.9
tributary-dep: shard-01@bj/1/8,shard-00@gz/1/9
`},
	} {
		if diff := cmp.Diff(c.want, text(c.got)); diff != "" {
			t.Fatalf("record (-want +got):\n%s", diff)
		}
		decoded, err := Decode(c.got)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.entry, decoded); diff != "" {
			t.Fatalf("decoded (-want +got):\n%s", diff)
		}
	}
}

// What a feed says beyond the other topic.
func TestFeedRecordText(t *testing.T) {
	e := full()
	e.Revises = true
	own := eventstore.Dot{Log: eventstore.LogID{Site: "bj", Incarnation: 2}, Seq: 31}
	enc := encoder{own: own}
	event := enc.event(&e, frameOf(&e))
	heartbeat := &Heartbeat{Log: own.Log, Mirrored: e.Dot, MirroredAt: e.Position, Position: e.Position, Durable: e.Position, HLC: e.HLC, Own: own}
	for _, c := range []struct {
		got  Record
		want Entry
		says []string
	}{
		{event, &Event{e, own}, []string{"tributary-position: 2-77\ntributary-own: shard-00@bj/2/31\ntributary-revises: true\ntributary-type: "}},
		{enc.heartbeat(heartbeat), heartbeat, []string{"tributary-own: shard-00@bj/2/31\n"}},
	} {
		for _, says := range c.says {
			if !strings.Contains(text(c.got), says) {
				t.Errorf("record lacks %q:\n%s", says, text(c.got))
			}
		}
		decoded, err := Decode(c.got)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, decoded); diff != "" {
			t.Errorf("decoded (-want +got):\n%s", diff)
		}
	}
	for i := range event.Headers {
		if event.Headers[i].Key == headerOwn || event.Headers[i].Key == headerRevises {
			broken := event
			broken.Headers = slices.Clone(event.Headers)
			broken.Headers[i].Value = []byte("no")
			if _, err := Decode(broken); !errors.Is(err, eventstore.ErrCorrupt) {
				t.Errorf("a broken %s gives %v", event.Headers[i].Key, err)
			}
		}
	}
}

func drawEvent(t *rapid.T) eventstore.Recorded {
	name := rapid.StringMatching(`[a-z0-9$][a-z0-9._-]{0,20}`)
	site := rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,15}`)
	anything := rapid.String()
	log := rapid.Custom(func(t *rapid.T) eventstore.LogID {
		return eventstore.LogID{Site: site.Draw(t, "site"), Incarnation: rapid.Uint32().Draw(t, "inc"), Shard: rapid.Uint16().Draw(t, "shard")}
	})
	dot := rapid.Custom(func(t *rapid.T) eventstore.Dot {
		return eventstore.Dot{Log: log.Draw(t, "log"), Seq: rapid.Uint64().Draw(t, "seq")}
	})
	vector := rapid.SliceOfN(dot, 0, 3)
	e := eventstore.Recorded{
		Position: eventstore.Position{Incarnation: rapid.Uint32().Draw(t, "inc"), LSN: rapid.Uint64().Draw(t, "lsn")},
		Dot:      dot.Draw(t, "dot"),
		Batch:    eventstore.Batch{FirstSeq: rapid.Uint64Min(1).Draw(t, "first"), Count: rapid.Uint32Min(1).Draw(t, "count")},
		HLC:      hlc.Timestamp(rapid.Uint64Max(1<<57).Draw(t, "hlc")),
		Stream:   eventstore.StreamID{Tenant: name.Draw(t, "tenant"), Category: name.Draw(t, "category"), ID: anything.Draw(t, "id")},
		Version:  rapid.Uint64().Draw(t, "version"),
		Cell:     rapid.Uint16().Draw(t, "cell"), Epoch: rapid.Uint32().Draw(t, "epoch"),
		Event: eventstore.Event{
			ID: uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid")), Type: anything.Draw(t, "type"),
			SchemaVersion: rapid.Uint16().Draw(t, "schema"), Kind: eventstore.Kind(rapid.IntRange(1, 5).Draw(t, "kind")),
			Encoding: eventstore.Encoding(rapid.IntRange(1, 2).Draw(t, "encoding")),
			Payload:  rapid.SliceOf(rapid.Byte()).Draw(t, "payload"),
			Tags:     rapid.SliceOfN(rapid.StringN(1, -1, 40), 0, 4).Draw(t, "tags"), KeyRef: rapid.Uint32().Draw(t, "key"),
		},
		CommandID: anything.Draw(t, "command"),
		Metadata: eventstore.Metadata{
			Causation: anything.Draw(t, "causation"), Correlation: anything.Draw(t, "correlation"),
			TraceParent: anything.Draw(t, "parent"), TraceState: anything.Draw(t, "state"), Actor: anything.Draw(t, "actor"),
		},
		Context: vector.Draw(t, "context"), Dep: vector.Draw(t, "dep"),
	}
	if rapid.Bool().Draw(t, "hashed") {
		e.RequestHash = eventstore.Hash(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
	}
	return e
}

// INVARIANT: value, key and headers of a record reproduce the canonical frame byte for byte (M4).
func TestRecordReproducesFrame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawEvent(t)
		frame := frameOf(&e)
		entry, err := Decode(EncodeEvent(&e, frame))
		if err != nil {
			t.Fatal(err)
		}
		got := entry.(*Event).Recorded
		if !bytes.Equal(frameOf(&got), frame) {
			t.Fatalf("frame differs:\n%s", cmp.Diff(e, got))
		}
		if got.Position != e.Position {
			t.Fatalf("position %s became %s", e.Position, got.Position)
		}
	})
}

// Whatever is changed by hand in a record of an event, Decode does not give it out as that event. (The position is the
// one header outside the frame; Audit compares it with the store.)
func TestDecodeRefusesChanges(t *testing.T) {
	e := full()
	original := EncodeEvent(&e, frameOf(&e))
	copied := func() Record {
		r := original
		r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
		r.Headers = make([]Header, len(original.Headers))
		for i, h := range original.Headers {
			r.Headers[i] = Header{h.Key, bytes.Clone(h.Value)}
		}
		return r
	}
	refuse := func(what string, r Record) {
		t.Helper()
		if entry, err := Decode(r); !errors.Is(err, eventstore.ErrCorrupt) && !errors.Is(err, ErrForeign) {
			t.Errorf("%s changed: got %+v, %v", what, entry, err)
		}
	}
	for i := range original.Value {
		r := copied()
		r.Value[i] ^= 4
		refuse("value", r)
	}
	for i := range original.Key {
		r := copied()
		r.Key[i] ^= 1
		refuse("key", r)
	}
	for i, h := range original.Headers {
		if h.Key == headerPosition {
			continue
		}
		for j := range h.Value {
			r := copied()
			r.Headers[i].Value[j] ^= 1
			refuse(h.Key, r)
		}
		r := copied()
		r.Headers = append(r.Headers[:i:i], r.Headers[i+1:]...)
		refuse(h.Key+" removed", r)
	}
}

func FuzzDecode(f *testing.F) {
	e := full()
	r := EncodeEvent(&e, frameOf(&e))
	f.Add(r.Key, r.Value, headerDot, []byte("shard-01@sh/2/42"), headerCRC, []byte("00000000"))
	f.Add([]byte("a/b/c"), []byte{}, headerRecord, []byte(recordHeartbeat), headerDep, []byte("shard-01@sh/2/42,"))
	f.Fuzz(func(t *testing.T, key, value []byte, name1 string, value1 []byte, name2 string, value2 []byte) {
		entry, err := Decode(Record{Key: key, Value: value, Headers: []Header{{name1, value1}, {name2, value2}}})
		if (entry == nil) == (err == nil) {
			t.Fatalf("entry %v with error %v", entry, err)
		}
	})
}
