package kafkasync

import (
	"errors"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
)

// transactions are the records of a partition that were read, and wait for the transactions that they, or some before them, are of to end.
type transactions struct {
	batches []batch
}

// batch is what stands together in the topic, written by one producer.
type batch struct {
	records  []kafkalog.Record
	producer int64
	open     bool // it is of a transaction whose end has not been read
}

// The kinds of control records.
const (
	controlAbort  = 0
	controlCommit = 1
)

// take takes in what was read from an offset on, and returns the one to read next.
func (t *transactions) take(read kafka.RecordReader, offset int64) (next int64, err error) {
	next = offset
	stream, ok := read.(*protocol.RecordStream)
	if !ok {
		return next, nil // there was nothing
	}
	last := int64(-1)
	for _, part := range stream.Records {
		b := batch{}
		switch part := part.(type) {
		case *protocol.ControlBatch:
			last = part.BaseOffset
			if part.BaseOffset < offset {
				continue // it was read before
			}
			next = part.BaseOffset + 1
			if err := t.end(part); err != nil {
				return next, err
			}
			continue
		case *protocol.RecordBatch:
			last = part.BaseOffset
			b.producer, b.open = part.ProducerID, part.Attributes.Transactional()
		case *protocol.MessageSet:
			last = part.BaseOffset
		}
		for {
			r, err := part.ReadRecord()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return next, err
			}
			record, err := recordOf(r)
			if err != nil {
				return next, err
			}
			if record.Offset >= offset { // a broker gives whole batches, the first of which may begin earlier
				b.records = append(b.records, record)
				next = record.Offset + 1
			}
		}
		if len(b.records) > 0 {
			t.batches = append(t.batches, b)
		}
	}
	if next == offset && last >= 0 { // of what there was compaction has left nothing
		next = max(offset, last) + 1
	}
	return next, nil
}

// end takes in that a transaction of a producer has ended.
func (t *transactions) end(control *protocol.ControlBatch) error {
	for {
		r, err := control.ReadControlRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the end of a transaction: %w", err)
		}
		if r.Type != controlAbort && r.Type != controlCommit {
			continue
		}
		for i := range t.batches {
			b := &t.batches[i]
			if !b.open || b.producer != control.ProducerID {
				continue
			}
			b.open = false
			if r.Type == controlAbort {
				b.records = nil
			}
		}
	}
}

// settled takes out the records before the first whose transaction is open.
func (t *transactions) settled() (records []kafkalog.Record) {
	n := 0
	for n < len(t.batches) && !t.batches[n].open {
		records = append(records, t.batches[n].records...)
		n++
	}
	t.batches = append([]batch(nil), t.batches[n:]...)
	return records
}

// none reports whether no record waits.
func (t *transactions) none() bool { return len(t.batches) == 0 }

func recordOf(r *protocol.Record) (out kafkalog.Record, err error) {
	out = kafkalog.Record{Offset: r.Offset, Time: r.Time.UTC()}
	if out.Key, err = bytesOf(r.Key); err == nil {
		out.Value, err = bytesOf(r.Value)
	}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, kafkalog.Header{Key: h.Key, Value: h.Value})
	}
	if err != nil {
		return out, fmt.Errorf("read the record at offset %d: %w", r.Offset, err)
	}
	return out, nil
}

// bytesOf returns what a record lends; nil is Kafka's null.
func bytesOf(lent protocol.Bytes) ([]byte, error) {
	if lent == nil {
		return nil, nil
	}
	defer lent.Close()
	return protocol.ReadAll(lent)
}
