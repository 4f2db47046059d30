package kafkasync

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
)

// written is a batch with records at some offsets; a producer other than 0 has written it in a transaction.
func written(producer int64, offsets ...int64) *protocol.RecordBatch {
	b := &protocol.RecordBatch{BaseOffset: offsets[0], ProducerID: producer}
	if producer != 0 {
		b.Attributes = protocol.Transactional
	}
	var records []protocol.Record
	for _, o := range offsets {
		records = append(records, protocol.Record{Offset: o, Value: protocol.NewBytes(fmt.Append(nil, o))})
	}
	b.Records = protocol.NewRecordReader(records...)
	return b
}

// ended is the end of a transaction of a producer.
func ended(producer, offset int64, kind int16) *protocol.ControlBatch {
	c := protocol.NewControlBatch(protocol.ControlRecord{Offset: offset, Type: kind})
	c.BaseOffset, c.ProducerID = offset, producer
	return c
}

// emptied is a batch of which compaction has left nothing.
func emptied(offset int64) *protocol.RecordBatch {
	return &protocol.RecordBatch{BaseOffset: offset, Records: protocol.NewRecordReader()}
}

func TestTransactionsSettle(t *testing.T) {
	type read struct {
		from    int64
		batches []protocol.RecordReader
		next    int64
		settled string // the offsets
	}
	for what, reads := range map[string][]read{
		"nothing":                   {{5, nil, 5, "[]"}},
		"a batch that began before": {{5, []protocol.RecordReader{written(0, 3, 4, 5, 6)}, 7, "[5 6]"}},
		"two producers, one aborts, across reads": {
			{0, []protocol.RecordReader{written(1, 0, 1), written(2, 2), written(0, 3)}, 4, "[]"},
			{4, []protocol.RecordReader{ended(2, 4, controlAbort), written(2, 5)}, 6, "[]"},
			{6, []protocol.RecordReader{ended(1, 6, controlCommit)}, 7, "[0 1 3]"},
			{7, []protocol.RecordReader{ended(2, 7, controlCommit), written(0, 8)}, 9, "[5 8]"},
		},
		"an end that was read before": {{3, []protocol.RecordReader{ended(1, 2, controlAbort), written(1, 3), ended(1, 4, controlCommit)}, 5, "[3]"}},
		"an end of something else": {
			{0, []protocol.RecordReader{written(1, 0), ended(1, 1, 7)}, 2, "[]"},
			{2, []protocol.RecordReader{ended(1, 2, controlCommit)}, 3, "[0]"},
		},
		"compaction has left nothing": {{4, []protocol.RecordReader{emptied(2), emptied(9)}, 4, "[]"}},
	} {
		open := transactions{}
		for i, r := range reads {
			var reader kafka.RecordReader = &protocol.RecordStream{Records: r.batches}
			if r.batches == nil {
				reader = protocol.NewRecordReader()
			}
			next, err := open.take(reader, r.from)
			if err != nil || next != r.next {
				t.Errorf("%s, read %d: next is %d, %v; want %d", what, i, next, err, r.next)
			}
			settled, _ := open.settled()
			offsets := []int64{}
			for _, record := range settled {
				offsets = append(offsets, record.Offset)
				if string(record.Value) != fmt.Sprint(record.Offset) {
					t.Errorf("%s: offset %d has %q", what, record.Offset, record.Value)
				}
			}
			if got := fmt.Sprint(offsets); got != r.settled {
				t.Errorf("%s, read %d: %s are settled, want %s", what, i, got, r.settled)
			}
		}
		if !open.none() {
			t.Errorf("%s: something is left", what)
		}
	}
}

// hollow is a broker whose partition 0 has a batch that reaches from one offset to another, of which compaction has left the first record.
type hollow struct {
	from, to, end int64
	asked         int
}

func (h *hollow) RoundTrip(_ context.Context, _ net.Addr, r kafka.Request) (kafka.Response, error) {
	h.asked++
	at := r.(*fetch.Request).Topics[0].Partitions[0].FetchOffset
	b := written(0, h.from)
	if at >= h.to {
		b = written(0, at)
	}
	return &fetch.Response{Topics: []fetch.ResponseTopic{{Partitions: []fetch.ResponsePartition{{
		HighWatermark: h.end, LastStableOffset: h.end, RecordSet: protocol.RecordSet{Records: &protocol.RecordStream{Records: []protocol.RecordReader{b}}},
	}}}}}, nil
}

// What compaction has left nothing of is stepped over at once, and nothing behind it.
func TestHollowBatchesAreSteppedOver(t *testing.T) {
	for _, h := range []*hollow{{100, 20_100, 30_000, 0}, {100, 102, 103, 0}, {100, 20_100, 20_100, 0}, {0, 1 << 40, 1 << 41, 0}} {
		p := partition{f: &follower{s: &Syncer{}, client: &kafka.Client{Addr: kafka.TCP("none:1"), Transport: h}}}
		answer, err := p.fetch(t.Context(), h.from+1)
		if err != nil {
			t.Fatal(err)
		}
		open := transactions{}
		next, err := open.take(answer.Records, h.from+1)
		if err != nil || next != h.from+1 {
			t.Errorf("of a hollow batch %d comes next, %v", next, err)
		}
		next, err = p.skip(t.Context(), answer, next)
		if err != nil || next != h.to || h.asked > 100 {
			t.Errorf("behind a batch to %d it goes on at %d, %v, after %d requests", h.to, next, err, h.asked)
		}
	}
}

// broken is a batch that cannot be read.
type broken struct{ *protocol.RecordBatch }

func (broken) ReadRecord() (*protocol.Record, error) { return nil, io.ErrUnexpectedEOF }

func TestBrokenBatchIsAnError(t *testing.T) {
	open := transactions{}
	if _, err := open.take(&protocol.RecordStream{Records: []protocol.RecordReader{broken{}}}, 0); err == nil {
		t.Error("a batch that cannot be read is passed over")
	}
}

// Records at one place that say something else have other IDs, as those of a topic that was made anew.
func TestIDsAreOfWhatIsSaid(t *testing.T) {
	s := &Syncer{o: Options{Topic: "t"}}
	first := kafkalog.Record{Offset: 1, Time: time.UnixMilli(5), Key: []byte("k"), Value: []byte("v")}
	ids := map[string]bool{s.id(0, &first): true}
	if !ids[s.id(0, &first)] {
		t.Error("one record has two IDs")
	}
	for i, change := range []func(r *kafkalog.Record){
		func(r *kafkalog.Record) { r.Offset = 2 }, func(r *kafkalog.Record) { r.Time = time.UnixMilli(6) },
		func(r *kafkalog.Record) { r.Key = []byte("l") }, func(r *kafkalog.Record) { r.Value = []byte("w") },
	} {
		r := first
		change(&r)
		if id := s.id(0, &r); ids[id] {
			t.Errorf("change %d has the ID of another record", i)
		} else {
			ids[id] = true
		}
	}
	if ids[s.id(1, &first)] || ids[(&Syncer{o: Options{Topic: "u"}}).id(0, &first)] {
		t.Error("a record of another partition, or another topic, has the same ID")
	}
}
