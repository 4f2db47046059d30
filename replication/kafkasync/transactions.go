package kafkasync

import (
	"errors"
	"fmt"
	"io"
	"slices"

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
	// timed: the time of the records is the one by which the brokers look for them, and not that at which they came there, which is not told.
	timed bool
}

// logAppendTime is the attribute of a batch that the brokers have given a time of their own.
const logAppendTime protocol.Attributes = 1 << 3

// The kinds of control records.
const (
	controlAbort  = 0
	controlCommit = 1
)

// take takes in what was read from an offset on, and returns the one to read next: that same one when nothing was behind it.
func (t *transactions) take(read kafka.RecordReader, offset int64) (next int64, err error) {
	next = offset
	stream, ok := read.(*protocol.RecordStream)
	if !ok {
		return next, nil // there was nothing
	}
	for _, part := range stream.Records {
		b := batch{}
		switch part := part.(type) {
		case *protocol.ControlBatch:
			if part.BaseOffset < offset {
				continue // it was read before
			}
			next = part.BaseOffset + 1
			if err := t.end(part); err != nil {
				return next, err
			}
			continue
		case *protocol.RecordBatch:
			b.producer, b.open, b.timed = part.ProducerID, part.Attributes.Transactional(), part.Attributes&logAppendTime == 0
		case *protocol.MessageSet:
			b.timed = part.Attributes&logAppendTime == 0
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
	return next, nil
}

// firstBatch returns the offset that the first batch begins at of what was read.
func firstBatch(read kafka.RecordReader) (base int64, ok bool) {
	stream, ok := read.(*protocol.RecordStream)
	if !ok || len(stream.Records) == 0 {
		return 0, false
	}
	first, ok := stream.Records[0].(interface{ Offset() int64 })
	if !ok {
		return 0, false
	}
	return first.Offset(), true
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

// settled takes out the records before the first whose transaction is open. Timed says that the time of the last is one to go by.
func (t *transactions) settled() (records []kafkalog.Record, timed bool) {
	n := 0
	for n < len(t.batches) && !t.batches[n].open {
		if b := &t.batches[n]; len(b.records) > 0 {
			records, timed = append(records, b.records...), b.timed
		}
		n++
	}
	t.batches = slices.Clone(t.batches[n:])
	return records, timed
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
