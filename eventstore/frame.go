package eventstore

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The canonical encoding of an event has two parts, so that the caller does the costly one before the sequencer's turn:
//
//	frame  = header ‖ content ‖ CRC-32C of both (big-endian)
//	header = what the sequencer gives: version, dot, batch, HLC, stream version, cell, epoch, length of content
//	content = what the caller knows: names, ids, metadata, context, payload
//
// Integers of the header are big-endian and of fixed size; lengths and numbers of the content are uvarints. Everything
// that leaves the store can reproduce a frame byte for byte, which frame_test.go keeps with golden files.
const frameVersion = 1

// fixed part of the header after the site's name.
const headerFixed = 4 + 2 + 8 + 8 + 8 + 8 + 4 + 2 + 4 + 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendContent appends the content part of r's frame to dst.
func AppendContent(dst []byte, r *Recorded) []byte {
	dst = append(dst, byte(r.Kind), byte(r.Encoding))
	dst = binary.BigEndian.AppendUint16(dst, r.SchemaVersion)
	dst = append(dst, r.Event.ID[:]...)
	dst = binary.BigEndian.AppendUint32(dst, r.KeyRef)
	dst = append(dst, r.RequestHash[:]...)
	for _, s := range [...]string{
		r.Stream.Tenant, r.Stream.Category, r.Stream.ID, r.Type, r.CommandID,
		r.Causation, r.Correlation, r.TraceParent, r.TraceState, r.Actor,
	} {
		dst = appendString(dst, s)
	}
	dst = binary.AppendUvarint(dst, uint64(len(r.Tags)))
	for _, t := range r.Tags {
		dst = appendString(dst, t)
	}
	dst = appendVector(dst, r.Context)
	dst = appendVector(dst, r.Dep)
	dst = binary.AppendUvarint(dst, uint64(len(r.Payload)))
	return append(dst, r.Payload...)
}

// ContentHash hashes the content part of a frame, as the chain takes it.
func ContentHash(content []byte) Hash { return sha256.Sum256(content) }

// AppendFrame appends the frame of r to dst, given r's content part.
func AppendFrame(dst []byte, r *Recorded, content []byte) []byte {
	start := len(dst)
	dst = append(dst, frameVersion, byte(len(r.Dot.Log.Site)))
	dst = append(dst, r.Dot.Log.Site...)
	dst = binary.BigEndian.AppendUint32(dst, r.Dot.Log.Incarnation)
	dst = binary.BigEndian.AppendUint16(dst, r.Dot.Log.Shard)
	dst = binary.BigEndian.AppendUint64(dst, r.Dot.Seq)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.HLC))
	dst = binary.BigEndian.AppendUint64(dst, r.Version)
	dst = binary.BigEndian.AppendUint64(dst, r.Batch.FirstSeq)
	dst = binary.BigEndian.AppendUint32(dst, r.Batch.Count)
	dst = binary.BigEndian.AppendUint16(dst, r.Cell)
	dst = binary.BigEndian.AppendUint32(dst, r.Epoch)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(content)))
	dst = append(dst, content...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendVector(dst []byte, v Vector) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(v)))
	for _, d := range v {
		dst = appendString(dst, d.Log.Site)
		dst = binary.AppendUvarint(dst, uint64(d.Log.Incarnation))
		dst = binary.AppendUvarint(dst, uint64(d.Log.Shard))
		dst = binary.AppendUvarint(dst, d.Seq)
	}
	return dst
}

func corruptf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}
