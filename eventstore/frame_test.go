package eventstore_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/tributary-es/tributary/eventstore"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fullEvent has every field of the envelope set.
func fullEvent() eventstore.Recorded {
	return eventstore.Recorded{
		Dot:     eventstore.Dot{Log: eventstore.LogID{Site: "sh", Incarnation: 3, Shard: 2}, Seq: 1_000_001},
		Batch:   eventstore.Batch{FirstSeq: 1_000_000, Count: 3},
		HLC:     0x0123_4567_89ab_cdef,
		Stream:  eventstore.StreamID{Tenant: "acme", Category: "order", ID: "ü/536365"},
		Version: 7, Cell: 1023, Epoch: 5,
		Event: eventstore.Event{
			ID:   uuid.MustParse("018f3c2e-7a1b-7c3d-8e4f-0123456789ab"),
			Type: "order.created.v2", SchemaVersion: 2, Kind: eventstore.KindCompensation, Encoding: eventstore.JSON,
			Payload: []byte(`{"lines":7}`), Tags: []string{"customer:17850", "stock:85123A"}, KeyRef: 99,
		},
		CommandID: "place-536365", RequestHash: eventstore.Hash{1, 2, 3},
		Metadata: eventstore.Metadata{
			Causation: "cause", Correlation: "start", Actor: "clerk-7",
			TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TraceState: "vendor=x",
		},
		Context: eventstore.Vector{{Log: eventstore.LogID{Site: "sh", Incarnation: 3, Shard: 2}, Seq: 900}},
		Dep: eventstore.Vector{
			{Log: eventstore.LogID{Site: "bj", Incarnation: 1, Shard: 0}, Seq: 12},
			{Log: eventstore.LogID{Site: "sz", Incarnation: 2, Shard: 1}, Seq: 1 << 40},
		},
	}
}

func leastEvent() eventstore.Recorded {
	return eventstore.Recorded{
		Dot:   eventstore.Dot{Log: eventstore.LogID{Site: "local", Incarnation: 1}, Seq: 1},
		Batch: eventstore.Batch{FirstSeq: 1, Count: 1}, Version: 1, Stream: eventstore.Stream("order", "1"),
		Event: eventstore.Event{Type: "order.created.v1", SchemaVersion: 1, Kind: eventstore.KindDomain, Encoding: eventstore.Protobuf},
	}
}

func frameOf(r *eventstore.Recorded) []byte {
	return eventstore.AppendFrame(nil, r, eventstore.AppendContent(nil, r))
}

// The golden files are what other programs and old data rely on (S10). A difference means a new frame version.
func TestFrameIsWhatItWas(t *testing.T) {
	for name, r := range map[string]eventstore.Recorded{"full": fullEvent(), "least": leastEvent()} {
		path := filepath.Join("testdata", "frame_v1_"+name+".hex")
		frame := frameOf(&r)
		content := eventstore.ContentHash(eventstore.AppendContent(nil, &r))
		chain := eventstore.NextChain(eventstore.ChainStart(r.Dot.Log), r.Dot.Seq, r.HLC, r.Version, content)
		got := hexLines(frame) + "content hash\n" + hexLines(content[:]) + "chain\n" + hexLines(chain[:])
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: the encoding changed; data on disk and in Kafka could not be read or verified any more (-was +is):\n%s", path, cmp.Diff(string(want), got))
		}
		golden, _, _ := strings.Cut(string(want), "content hash")
		b, err := hex.DecodeString(strings.Join(strings.Fields(golden), ""))
		if err != nil {
			t.Fatal(err)
		}
		decoded, rest, err := eventstore.DecodeFrame(b)
		if err != nil || len(rest) != 0 {
			t.Fatalf("%s: decode: %v, %d bytes left", path, err, len(rest))
		}
		if diff := cmp.Diff(r, decoded); diff != "" {
			t.Errorf("%s: decoded otherwise than encoded (-encoded +decoded):\n%s", path, diff)
		}
	}
}

func hexLines(b []byte) string {
	var s strings.Builder
	for len(b) > 0 {
		n := min(32, len(b))
		s.WriteString(hex.EncodeToString(b[:n]) + "\n")
		b = b[n:]
	}
	return s.String()
}

func drawRecorded(t *rapid.T) eventstore.Recorded {
	text := rapid.StringN(0, 20, 60)
	vector := rapid.Custom(func(t *rapid.T) eventstore.Vector {
		var v eventstore.Vector
		for range rapid.IntRange(0, 3).Draw(t, "logs") {
			v = v.With(eventstore.Dot{
				Log: eventstore.LogID{
					Site: rapid.StringMatching(`[a-z]{1,16}`).Draw(t, "site"), Incarnation: rapid.Uint32().Draw(t, "incarnation"), Shard: rapid.Uint16().Draw(t, "shard"),
				},
				Seq: rapid.Uint64().Draw(t, "seq"),
			})
		}
		return v
	})
	r := fullEvent()
	r.Dot.Seq, r.Version, r.Epoch = rapid.Uint64().Draw(t, "seq"), rapid.Uint64().Draw(t, "version"), rapid.Uint32().Draw(t, "epoch")
	r.Stream.ID, r.Type, r.CommandID = text.Draw(t, "stream"), text.Draw(t, "type"), text.Draw(t, "command")
	r.Causation, r.Correlation, r.TraceParent = text.Draw(t, "causation"), text.Draw(t, "correlation"), text.Draw(t, "traceparent")
	r.TraceState, r.Actor = text.Draw(t, "tracestate"), text.Draw(t, "actor")
	r.Tags = nil
	for range rapid.IntRange(0, 4).Draw(t, "tags") {
		r.Tags = append(r.Tags, text.Draw(t, "tag"))
	}
	r.Payload = nil
	if b := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload"); len(b) > 0 {
		r.Payload = b
	}
	r.Context, r.Dep = vector.Draw(t, "context"), vector.Draw(t, "dep")
	return r
}

// TestFrameRoundTrip shows S10.
func TestFrameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first, second := drawRecorded(t), drawRecorded(t)
		b := append(frameOf(&first), frameOf(&second)...)
		for _, want := range []eventstore.Recorded{first, second} {
			got, rest, err := eventstore.DecodeFrame(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("decoded otherwise than encoded (-encoded +decoded):\n%s", diff)
			}
			content, _, err := eventstore.FrameContent(b)
			if err != nil || !bytes.Equal(content, eventstore.AppendContent(nil, &want)) {
				t.Fatalf("content of the frame is not what was encoded (%v)", err)
			}
			if !bytes.Equal(frameOf(&got), b[:len(b)-len(rest)]) {
				t.Fatal("what was decoded encodes to other bytes")
			}
			b = rest
		}
		if len(b) != 0 {
			t.Fatalf("%d bytes left", len(b))
		}
	})
}

// What one decoder makes of many frames is what each of them holds, and stays so, whatever names the events have in common
// (S10).
func TestFrameDecoderRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d eventstore.FrameDecoder
		var want, got []eventstore.Recorded
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			next := drawRecorded(t)
			if len(want) > 0 { // of the same request, or stream, as events often are
				last := want[len(want)-1]
				if rapid.Bool().Draw(t, "same request") {
					next.CommandID, next.Metadata = last.CommandID, last.Metadata
				}
				if rapid.Bool().Draw(t, "same stream") {
					next.Stream, next.Type = last.Stream, last.Type
				}
			}
			want = append(want, next)
			got = append(got, fullEvent()) // is written over
			frame := frameOf(&next)
			if n := eventstore.FrameLength(append(frame, 1, 2, 3)); n != len(frame) {
				t.Fatalf("a frame of %d bytes has length %d", len(frame), n)
			}
			if rest, err := d.Decode(&got[len(got)-1], frame); err != nil || len(rest) > 0 {
				t.Fatalf("decode: %v, %d bytes left", err, len(rest))
			}
			got[len(got)-1].Payload = bytes.Clone(got[len(got)-1].Payload)
			clear(frame)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("decoded otherwise than encoded (-encoded +decoded):\n%s", diff)
		}
	})
}

// Whatever happens to a frame's bytes, decoding says so.
func TestDamagedFrameIsRefused(t *testing.T) {
	r := fullEvent()
	frame := frameOf(&r)
	for i := range frame {
		if _, _, err := eventstore.DecodeFrame(frame[:i]); !errors.Is(err, eventstore.ErrCorrupt) {
			t.Fatalf("cut short at byte %d: %v, want %v", i, err, eventstore.ErrCorrupt)
		}
		for bit := range 8 {
			b := bytes.Clone(frame)
			b[i] ^= 1 << bit
			if _, _, err := eventstore.DecodeFrame(b); !errors.Is(err, eventstore.ErrCorrupt) {
				t.Fatalf("bit %d of byte %d flipped: %v, want %v", bit, i, err, eventstore.ErrCorrupt)
			}
		}
	}
}

func TestDecodedEventKeepsNothingElseAlive(t *testing.T) {
	r := fullEvent()
	b := frameOf(&r)
	got, _, err := eventstore.DecodeFrame(b)
	if err != nil {
		t.Fatal(err)
	}
	payload := bytes.Clone(got.Payload)
	clear(b)
	got.Payload = payload
	if diff := cmp.Diff(r, got); diff != "" {
		t.Errorf("names change with the memory they were decoded from (-encoded +decoded):\n%s", diff)
	}
}

// FuzzDecodeFrame feeds bytes with right checksums, so that the fuzzer gets past them.
func FuzzDecodeFrame(f *testing.F) {
	for _, r := range []eventstore.Recorded{fullEvent(), leastEvent()} {
		f.Add(frameOf(&r), false)
		f.Add(eventstore.AppendContent(nil, &r), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, content bool) {
		if content {
			r := leastEvent()
			b = eventstore.AppendFrame(nil, &r, b)
		}
		r, rest, err := eventstore.DecodeFrame(b)
		if err != nil {
			if !errors.Is(err, eventstore.ErrCorrupt) {
				t.Fatalf("decode: %v, want %v", err, eventstore.ErrCorrupt)
			}
			return
		}
		again := frameOf(&r)
		decoded, _, err := eventstore.DecodeFrame(again)
		if err != nil {
			t.Fatalf("what was decoded cannot be decoded again: %v", err)
		}
		if diff := cmp.Diff(r, decoded); diff != "" {
			t.Fatalf("decoded otherwise the second time (-first +second):\n%s", diff)
		}
		if len(again) > len(b)-len(rest) {
			t.Fatalf("canonical frame has %d bytes, was decoded from %d", len(again), len(b)-len(rest))
		}
	})
}

func BenchmarkDecodeFrame(b *testing.B) {
	r := leastEvent()
	r.Payload = make([]byte, 512)
	frame := frameOf(&r)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := eventstore.DecodeFrame(frame); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeFrame(b *testing.B) {
	r := leastEvent()
	r.Payload = make([]byte, 512)
	var content, frame []byte
	b.ReportAllocs()
	for b.Loop() {
		content = eventstore.AppendContent(content[:0], &r)
		frame = eventstore.AppendFrame(frame[:0], &r, content)
	}
}
