package e2e

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"hash/fnv"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// canonicalCRC computes the checksum of a record's canonical frame, by docs/topic.md alone.
func canonicalCRC(t *testing.T, r *kgo.Record) string {
	t.Helper()
	f := frameWriter{t: t, r: r}
	content := f.content()
	b := append(f.header(len(content)), content...)
	return hex.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

type frameWriter struct {
	t *testing.T
	r *kgo.Record
}

// number returns a header that is a number, def when it is absent.
func (f frameWriter) number(name string, def uint64) uint64 {
	text := header(f.r, name)
	if text == "" {
		return def
	}
	return f.parse(name, text)
}

func (f frameWriter) parse(name, text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		f.t.Fatalf("header %s: %v", name, err)
	}
	return n
}

// dot takes a dot such as shard-00@local/1/42 apart.
func (f frameWriter) dot(text string) (site string, incarnation, shard, seq uint64) {
	parts := strings.Split(text, "/")
	shardName, site, ok := strings.Cut(parts[0], "@")
	if !ok || len(parts) != 3 {
		f.t.Fatalf("dot %q", text)
	}
	return site, f.parse("dot", parts[1]), f.parse("dot", strings.TrimPrefix(shardName, "shard-")), f.parse("dot", parts[2])
}

func (f frameWriter) header(content int) []byte {
	site, incarnation, shard, seq := f.dot(header(f.r, "tributary-dot"))
	millis, counter, _ := strings.Cut(header(f.r, "tributary-hlc"), ".")
	first, count := seq, uint64(1)
	if batch := header(f.r, "tributary-batch"); batch != "" {
		a, b, _ := strings.Cut(batch, "+")
		first, count = f.parse("batch", a), f.parse("batch", b)
	}
	key := fnv.New64a()
	key.Write(f.r.Key)
	hash := key.Sum64()
	b := append([]byte{1, byte(len(site))}, site...)
	b = binary.BigEndian.AppendUint32(b, uint32(incarnation))
	b = binary.BigEndian.AppendUint16(b, uint16(shard))
	b = binary.BigEndian.AppendUint64(b, seq)
	b = binary.BigEndian.AppendUint64(b, f.parse("hlc", millis)<<16+f.parse("hlc", counter))
	b = binary.BigEndian.AppendUint64(b, f.number("tributary-version", 0))
	b = binary.BigEndian.AppendUint64(b, first)
	b = binary.BigEndian.AppendUint32(b, uint32(count))
	b = binary.BigEndian.AppendUint16(b, uint16(f.number("tributary-cell", (hash^hash>>32)%1024)))
	b = binary.BigEndian.AppendUint32(b, uint32(f.number("tributary-epoch", 0)))
	return binary.BigEndian.AppendUint32(b, uint32(content))
}

func (f frameWriter) content() []byte {
	kinds := map[string]byte{"": 1, "domain": 1, "resolution": 2, "compensation": 3, "transfer": 4, "system": 5}
	encodings := map[string]byte{"application/protobuf": 1, "application/json": 2}
	b := []byte{kinds[header(f.r, "tributary-kind")], encodings[header(f.r, "content-type")]}
	b = binary.BigEndian.AppendUint16(b, uint16(f.number("tributary-schema-version", 1)))
	b = append(b, f.bytes("tributary-event-id", 16)...)
	b = binary.BigEndian.AppendUint32(b, uint32(f.number("tributary-key-ref", 0)))
	b = append(b, f.bytes("tributary-request-hash", 32)...)
	key := strings.SplitN(string(f.r.Key), "/", 3)
	for _, s := range []string{
		key[0], key[1], key[2], header(f.r, "tributary-type"), header(f.r, "tributary-command-id"), header(f.r, "tributary-causation"),
		header(f.r, "tributary-correlation"), header(f.r, "traceparent"), header(f.r, "tracestate"), header(f.r, "tributary-actor"),
	} {
		b = appendText(b, s)
	}
	var tags []string
	for _, h := range f.r.Headers {
		if h.Key == "tributary-tag" {
			tags = append(tags, string(h.Value))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(tags)))
	for _, tag := range tags {
		b = appendText(b, tag)
	}
	b = f.appendDots(b, "tributary-context")
	b = f.appendDots(b, "tributary-dep")
	return appendText(b, string(f.r.Value))
}

// bytes returns a header that is hex digits, perhaps with dashes; zeros when it is absent.
func (f frameWriter) bytes(name string, n int) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(header(f.r, name), "-", ""))
	if err != nil || len(b) != n && len(b) != 0 {
		f.t.Fatalf("header %s: %v", name, err)
	}
	return append(b, make([]byte, n-len(b))...)
}

func (f frameWriter) appendDots(b []byte, name string) []byte {
	var dots []string
	if text := header(f.r, name); text != "" {
		dots = strings.Split(text, ",")
	}
	b = binary.AppendUvarint(b, uint64(len(dots)))
	for _, d := range dots {
		site, incarnation, shard, seq := f.dot(d)
		b = appendText(b, site)
		b = binary.AppendUvarint(b, incarnation)
		b = binary.AppendUvarint(b, shard)
		b = binary.AppendUvarint(b, seq)
	}
	return b
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
