package eventstore

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/google/uuid"
	"github.com/tributary-es/tributary/internal/hlc"
)

// A request without events is recorded by one system event of this type, in the stream of this category that has the
// request's ID. It keeps the receipt in the log itself: counted, mirrored, and there after a crash.
const (
	ReceiptType     = "tributary.receipt.v1"
	ReceiptCategory = "$receipt"
)

// NewEventID returns a new UUIDv7 with the wall-clock part of at. It costs no system call: the random bits are those of
// math/rand/v2, which are good enough to be unique and are not meant to be secret.
func NewEventID(at hlc.Timestamp) uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], uint64(at)&^0xffff|rand.Uint64()&0x0fff|0x7000)
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()&^(3<<62)|2<<62)
	return id
}

// Records returns the events by which a normalized request is recorded, in order, with all that is known before the
// sequencer's turn: everything but log, numbers, HLC and chain. newID is called for each event without an id. A request
// without events gives its receipt event.
//
// A store calls it on the caller's goroutine, so that encoding and hashing stay off the sequencer.
func (r *Request) Records(newID func() uuid.UUID) []Recorded {
	n := 0
	for i := range r.Appends {
		n += len(r.Appends[i].Events)
	}
	if n == 0 {
		receipt := Event{Type: ReceiptType, SchemaVersion: 1, Kind: KindSystem, Encoding: Protobuf}
		stream := StreamID{Tenant: r.Tenant, Category: ReceiptCategory, ID: r.ID}
		records := make([]Recorded, 1)
		r.fill(&records[0], stream, CellOf(stream), &receipt, newID)
		return records
	}
	records := make([]Recorded, n)
	next := records
	for i := range r.Appends {
		a := &r.Appends[i]
		cell := CellOf(a.Stream)
		for j := range a.Events {
			r.fill(&next[0], a.Stream, cell, &a.Events[j], newID)
			next[0].Context = a.Context
			next = next[1:]
		}
	}
	return records
}

// fill sets the fields of a record that is zero.
func (r *Request) fill(rec *Recorded, stream StreamID, cell uint16, e *Event, newID func() uuid.UUID) {
	rec.Stream, rec.Cell, rec.Event = stream, cell, *e
	if rec.Event.ID == (uuid.UUID{}) {
		rec.Event.ID = newID()
	}
	if len(rec.Payload) == 0 {
		rec.Payload = nil // as it is when it is read
	}
	rec.Metadata = r.Metadata
	if r.ID != "" {
		rec.CommandID, rec.RequestHash = r.ID, r.Hash
	}
}

// ReceiptOf returns the receipt of a request from the whole batch that recorded it, in order. The batch must not be
// empty. Duplicate is false and Reached is Local: the caller knows better.
func ReceiptOf(batch []Recorded) Receipt {
	first, last := &batch[0], &batch[len(batch)-1]
	receipt := Receipt{ID: first.CommandID, First: first.Position, Position: last.Position, Dot: last.Dot}
	if first.Type == ReceiptType && first.Stream.Category == ReceiptCategory {
		return receipt
	}
	for i := range batch {
		e := &batch[i]
		if n := len(receipt.Streams); n > 0 && receipt.Streams[n-1].Stream == e.Stream {
			receipt.Streams[n-1].Last = e.Version
			continue
		}
		receipt.Streams = append(receipt.Streams, StreamReceipt{Stream: e.Stream, First: e.Version, Last: e.Version})
	}
	return receipt
}

// Supported returns ErrUnsupported when the request asks for what a store alone cannot give:
// durability beyond the local disk.
func (r *Request) Supported() error {
	if r.Durability != Local {
		return fmt.Errorf("%w: durability %s", ErrUnsupported, r.Durability)
	}
	return nil
}
