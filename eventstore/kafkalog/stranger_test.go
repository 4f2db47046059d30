package kafkalog_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/twmb/franz-go/pkg/kgo"
)

// What follows is written from docs/topic.md alone, as a stranger would: it shares no code with the mirror and knows
// nothing of package eventstore.

type stranger struct {
	headers map[string][]string
	key     []string // tenant, category, id
	value   []byte
}

func meet(r *kgo.Record) stranger {
	s := stranger{headers: map[string][]string{}, key: strings.SplitN(string(r.Key), "/", 3), value: r.Value}
	for _, h := range r.Headers {
		s.headers[h.Key] = append(s.headers[h.Key], string(h.Value))
	}
	return s
}

// text returns a header's value or what its absence means.
func (s stranger) text(name, absent string) string {
	if v := s.headers[name]; v != nil {
		return v[0]
	}
	return absent
}

func number(text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

type strangersDot struct {
	site                    string
	shard, incarnation, seq uint64
}

func readDot(text string) strangersDot {
	shard, rest, _ := strings.Cut(strings.TrimPrefix(text, "shard-"), "@")
	parts := strings.Split(rest, "/")
	return strangersDot{parts[0], number(shard), number(parts[1]), number(parts[2])}
}

func (s stranger) hlc() uint64 {
	ms, counter, _ := strings.Cut(s.text("tributary-hlc", ""), ".")
	return number(ms)*65536 + number(counter)
}

func (s stranger) content() []byte {
	kinds := map[string]byte{"domain": 1, "resolution": 2, "compensation": 3, "transfer": 4, "system": 5}
	encodings := map[string]byte{"application/protobuf": 1, "application/json": 2}
	b := []byte{kinds[s.text("tributary-kind", "domain")], encodings[s.text("content-type", "")]}
	b = binary.BigEndian.AppendUint16(b, uint16(number(s.text("tributary-schema-version", "1"))))
	b = append(b, unhex(strings.ReplaceAll(s.text("tributary-event-id", ""), "-", ""), 16)...)
	b = binary.BigEndian.AppendUint32(b, uint32(number(s.text("tributary-key-ref", "0"))))
	b = append(b, unhex(s.text("tributary-request-hash", ""), 32)...)
	str := func(v string) { b = append(binary.AppendUvarint(b, uint64(len(v))), v...) }
	for _, v := range s.key {
		str(v)
	}
	for _, name := range []string{"tributary-type", "tributary-command-id", "tributary-causation", "tributary-correlation", "traceparent", "tracestate", "tributary-actor"} {
		str(s.text(name, ""))
	}
	tags := s.headers["tributary-tag"]
	b = binary.AppendUvarint(b, uint64(len(tags)))
	for _, tag := range tags {
		str(tag)
	}
	for _, name := range []string{"tributary-context", "tributary-dep"} {
		var dots []string
		if v := s.text(name, ""); v != "" {
			dots = strings.Split(v, ",")
		}
		b = binary.AppendUvarint(b, uint64(len(dots)))
		for _, text := range dots {
			d := readDot(text)
			str(d.site)
			b = binary.AppendUvarint(b, d.incarnation)
			b = binary.AppendUvarint(b, d.shard)
			b = binary.AppendUvarint(b, d.seq)
		}
	}
	str(string(s.value))
	return b
}

func unhex(text string, size int) []byte {
	b := make([]byte, size)
	if _, err := hex.Decode(b, []byte(text)); err != nil {
		panic(err)
	}
	return b
}

func (s stranger) cell() uint64 {
	h := uint64(14695981039346656037)
	for _, c := range []byte(strings.Join(s.key, "/")) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return (h ^ h>>32) % 1024
}

func (s stranger) crc() string {
	d, content := readDot(s.text("tributary-dot", "")), s.content()
	first, count := d.seq, uint64(1)
	if v := s.text("tributary-batch", ""); v != "" {
		a, b, _ := strings.Cut(v, "+")
		first, count = number(a), number(b)
	}
	b := append([]byte{1, byte(len(d.site))}, d.site...)
	b = binary.BigEndian.AppendUint32(b, uint32(d.incarnation))
	b = binary.BigEndian.AppendUint16(b, uint16(d.shard))
	b = binary.BigEndian.AppendUint64(b, d.seq)
	b = binary.BigEndian.AppendUint64(b, s.hlc())
	b = binary.BigEndian.AppendUint64(b, number(s.text("tributary-version", "")))
	b = binary.BigEndian.AppendUint64(b, first)
	b = binary.BigEndian.AppendUint32(b, uint32(count))
	b = binary.BigEndian.AppendUint16(b, uint16(number(s.text("tributary-cell", strconv.FormatUint(s.cell(), 10)))))
	b = binary.BigEndian.AppendUint32(b, uint32(number(s.text("tributary-epoch", "0"))))
	b = binary.BigEndian.AppendUint32(b, uint32(len(content)))
	b = append(b, content...)
	return fmt.Sprintf("%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// A stranger with the page on the topic's format verifies every event and every heartbeat of a topic.
func TestStrangerVerifiesTheTopic(t *testing.T) {
	onBrokers(t, func(t *testing.T, addr string) {
		s := memstore.New(memstore.Options{LogID: head(t, newStore(t)).ID})
		defer s.Close()
		fill(t, s, 300)
		strange := request(3)
		strange.Metadata = eventstore.Metadata{Causation: "a/b", TraceParent: "00-1-2-01", TraceState: "x=1", Actor: "Jörg"}
		other := eventstore.Dot{Log: eventstore.LogID{Site: "bj", Incarnation: 300, Shard: 129}, Seq: 1 << 40}
		for i := range strange.Appends {
			strange.Appends[i].Context = eventstore.Vector{other}
			e := &strange.Appends[i].Events[0]
			e.Kind, e.SchemaVersion, e.KeyRef, e.Tags, e.Payload = eventstore.KindTransfer, 7, 99, []string{"b,c", "a"}, nil
		}
		for _, r := range []eventstore.Request{strange, {ID: "decided nothing"}} {
			if _, err := s.Append(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		m := runMirror(t, s, fast(addr))
		waitFor(t, m.Mirror, s)
		n := m.Status().Heartbeats
		eventually(t, "a heartbeat at the end", func() bool { return m.Status().Heartbeats > n })
		m.stop()

		var chain [32]byte
		events, heartbeats, seq := 0, 0, uint64(0)
		for i, r := range rawRecords(t, addr, topicOf(t, s)) {
			x := meet(r)
			if i == 0 {
				chain = sha256.Sum256([]byte("tributary log " + x.text("tributary-log", "")))
			}
			switch {
			case x.text("tributary-dot", "") != "":
				events++
				if d := readDot(x.text("tributary-dot", "")); d.seq != seq+1 {
					t.Fatalf("seq %d follows %d", d.seq, seq)
				}
				seq++
				if got, want := x.crc(), x.text("tributary-crc", ""); got != want {
					t.Fatalf("offset %d: CRC of the frame is %s, the record says %s", r.Offset, got, want)
				}
				if ms, _, _ := strings.Cut(x.text("tributary-hlc", ""), "."); number(ms) != uint64(r.Timestamp.UnixMilli()) {
					t.Fatalf("offset %d: timestamp %v, hlc %s", r.Offset, r.Timestamp, ms)
				}
				content := sha256.Sum256(x.content())
				b := binary.BigEndian.AppendUint64(chain[:], seq)
				b = binary.BigEndian.AppendUint64(b, x.hlc())
				b = binary.BigEndian.AppendUint64(b, number(x.text("tributary-version", "")))
				chain = sha256.Sum256(append(b, content[:]...))
			case x.text("tributary-record", "") == "heartbeat":
				heartbeats++
				if d := readDot(x.text("tributary-mirrored", "")); d.seq != seq {
					t.Fatalf("offset %d: heartbeat speaks of seq %d behind seq %d", r.Offset, d.seq, seq)
				}
				if got := hex.EncodeToString(chain[:]); got != x.text("tributary-chain", "") {
					t.Fatalf("offset %d: chain is %s, the heartbeat says %s", r.Offset, got, x.text("tributary-chain", ""))
				}
			}
		}
		if events != 304 || heartbeats < 2 {
			t.Fatalf("topic has %d events and %d heartbeats", events, heartbeats)
		}
	})
}
