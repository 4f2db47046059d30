package wire

import (
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tributary-es/tributary/eventstore"
)

// appendEvent appends the wire form of e's RecordedEvent, which event_test.go compares with what the generated code
// writes. The generated code needs the message first, with a dozen allocations an event; a server that sends a million
// events a second has no time for those.
func appendEvent(dst []byte, e *eventstore.Recorded) []byte {
	var small [96]byte
	dst = appendBytes(dst, 1, appendPosition(small[:0], e.Position))
	dst = appendString(dst, 2, e.Stream.Tenant)
	dst = appendString(dst, 3, e.Stream.Category)
	dst = appendString(dst, 4, e.Stream.ID)
	dst = appendNumber(dst, 5, e.Version)
	dst = appendString(dst, 6, e.Type)
	dst = appendNumber(dst, 7, uint64(e.SchemaVersion))
	dst = appendBytes(dst, 8, appendUUID(small[:0], e.Event.ID))
	dst = appendTime(dst, 9, e.Time().UnixMilli())
	dst = appendString(dst, 10, e.Encoding.ContentType())
	dst = appendBytes(dst, 11, e.Payload)
	for _, tag := range e.Tags {
		dst = appendString(dst, 12, tag)
	}
	dst = appendString(dst, 13, e.Kind.String())
	dst = appendString(dst, 14, e.CommandID)
	dst = appendMetadata(dst, 15, &e.Metadata)
	dst = appendBytes(dst, 16, appendDot(small[:0], e.Dot))
	dst = appendNumber(dst, 17, uint64(e.Batch.Count))
	if e.EndsBatch() {
		dst = appendNumber(dst, 18, 1)
	}
	dst = appendNumber(dst, 19, uint64(e.KeyRef))
	if e.Revises {
		dst = appendNumber(dst, 20, 1)
	}
	return dst
}

// The fields below are left out when they are empty, as proto3 asks.

func appendString(dst []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), s)
}

func appendBytes(dst []byte, field protowire.Number, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), b)
}

func appendNumber(dst []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), n)
}

// appendTime appends a google.protobuf.Timestamp.
func appendTime(dst []byte, field protowire.Number, millis int64) []byte {
	seconds, rest := millis/1000, millis%1000
	if rest < 0 {
		seconds, rest = seconds-1, rest+1000
	}
	var small [24]byte
	inner := appendNumber(small[:0], 1, uint64(seconds))
	inner = appendNumber(inner, 2, uint64(rest)*1_000_000)
	return protowire.AppendBytes(protowire.AppendTag(dst, field, protowire.BytesType), inner)
}

func appendMetadata(dst []byte, field protowire.Number, m *eventstore.Metadata) []byte {
	texts := [...]string{m.Causation, m.Correlation, m.TraceParent, m.TraceState, m.Actor}
	size := 0
	for _, text := range texts {
		if text != "" {
			size += 1 + protowire.SizeBytes(len(text)) // the tags have one byte each
		}
	}
	if size == 0 {
		return dst
	}
	dst = protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.BytesType), uint64(size))
	for i, text := range texts {
		dst = appendString(dst, protowire.Number(i+1), text)
	}
	return dst
}

func appendPosition(dst []byte, p eventstore.Position) []byte {
	dst = strconv.AppendUint(dst, uint64(p.Incarnation), 10)
	return strconv.AppendUint(append(dst, '-'), p.LSN, 10)
}

func appendDot(dst []byte, d eventstore.Dot) []byte {
	dst = append(dst, "shard-"...)
	if d.Log.Shard < 10 {
		dst = append(dst, '0')
	}
	dst = strconv.AppendUint(dst, uint64(d.Log.Shard), 10)
	dst = append(append(dst, '@'), d.Log.Site...)
	dst = strconv.AppendUint(append(dst, '/'), uint64(d.Log.Incarnation), 10)
	return strconv.AppendUint(append(dst, '/'), d.Seq, 10)
}

func appendUUID(dst []byte, id [16]byte) []byte {
	const digits = "0123456789abcdef"
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, digits[b>>4], digits[b&15])
	}
	return dst
}
