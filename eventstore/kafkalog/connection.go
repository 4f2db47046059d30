package kafkalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/tributary-es/tributary/eventstore"
)

// connection is a client of one partition. After an error it is thrown away: a new one asks for the cluster's layout
// again, where kafka-go's transport would go on with what it knew for seconds.
type connection struct {
	client    *kafka.Client
	transport *kafka.Transport
	topic     string
	partition int
	answered  func() // when not nil, it is called after each answer to what is read
	lenient   bool   // findTail passes over what does not verify, as a link does
}

func connect(o *Options) *connection {
	t := &kafka.Transport{ClientID: o.ClientID, TLS: o.TLS, MetadataTopics: []string{o.Topic}, DialTimeout: min(o.RequestTimeout, 3*time.Second)}
	if o.User != "" {
		t.SASL = plain.Mechanism{Username: o.User, Password: o.Password}
	}
	return &connection{
		client:    &kafka.Client{Addr: kafka.TCP(o.Brokers...), Timeout: o.RequestTimeout, Transport: t},
		transport: t, topic: o.Topic, partition: o.Partition,
	}
}

func (c *connection) close() { c.transport.CloseIdleConnections() }

// hears says that the brokers have answered.
func (c *connection) hears() {
	if c.answered != nil {
		c.answered()
	}
}

// offsets returns the offset of the partition's first record and the one after its last.
func (c *connection) offsets(ctx context.Context) (start, end int64, err error) {
	response, err := c.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{
		c.topic: {kafka.FirstOffsetOf(c.partition), kafka.LastOffsetOf(c.partition)},
	}})
	if err != nil {
		return 0, 0, fmt.Errorf("ask for offsets of %s/%d: %w", c.topic, c.partition, err)
	}
	for _, p := range response.Topics[c.topic] {
		if p.Partition != c.partition {
			continue
		}
		if p.Error != nil {
			return 0, 0, fmt.Errorf("ask for offsets of %s/%d: %w", c.topic, c.partition, p.Error)
		}
		if p.FirstOffset < 0 || p.LastOffset < p.FirstOffset {
			break
		}
		c.hears()
		return p.FirstOffset, p.LastOffset, nil
	}
	return 0, 0, fmt.Errorf("ask for offsets of %s/%d: %w", c.topic, c.partition, protocol.ErrNoPartition)
}

// fetch returns records from an offset on, at least one if there is one, in some bytes more or less than asked for. It
// waits for them up to the given time. end is the offset after the partition's last record.
func (c *connection) fetch(ctx context.Context, from int64, size int, wait time.Duration) (records []Record, end int64, err error) {
	response, err := c.client.Fetch(ctx, &kafka.FetchRequest{
		Topic: c.topic, Partition: c.partition, Offset: from, MinBytes: 1, MaxBytes: int64(size), MaxWait: wait,
	})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		if damaged(err) {
			err = fmt.Errorf("%w: %w", eventstore.ErrCorrupt, err)
		}
		return nil, 0, fmt.Errorf("fetch %s/%d from offset %d: %w", c.topic, c.partition, from, err)
	}
	c.hears()
	for {
		r, err := response.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return records, response.HighWatermark, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("fetch %s/%d from offset %d: %w", c.topic, c.partition, from, err)
		}
		record, err := copyRecord(r)
		if err != nil {
			return nil, 0, fmt.Errorf("fetch %s/%d, offset %d: %w", c.topic, c.partition, r.Offset, err)
		}
		// A broker gives whole batches, the first of which may begin earlier.
		if record.Offset >= from {
			records = append(records, record)
		}
	}
}

// damaged reports whether an error of a fetch says that a batch arrived whole and does not verify or unpack. kafka-go and
// its decompressors have no types for that.
func damaged(err error) bool {
	if errors.Is(err, kafka.InvalidMessage) {
		return true
	}
	var answered kafka.Error
	if errors.As(err, &answered) {
		return false
	}
	text := err.Error()
	for _, sign := range []string{"checksum", "lz4:", "snappy:", "zstd", "zstandard", "gzip:", "magic number", "corrupt", "unsupported compression", "unsupported message version", "impossible record set"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

func copyRecord(r *protocol.Record) (Record, error) {
	out := Record{Offset: r.Offset, Time: r.Time.UTC()}
	var err error
	if r.Key != nil {
		defer r.Key.Close()
		if out.Key, err = protocol.ReadAll(r.Key); err != nil {
			return out, fmt.Errorf("read key: %w", err)
		}
	}
	if r.Value != nil {
		defer r.Value.Close()
		if out.Value, err = protocol.ReadAll(r.Value); err != nil {
			return out, fmt.Errorf("read value: %w", err)
		}
	}
	if len(r.Headers) > 0 {
		out.Headers = make([]Header, len(r.Headers))
		for i, h := range r.Headers {
			out.Headers[i] = Header{h.Key, h.Value}
		}
	}
	return out, nil
}

// producer is an identity under which the brokers accept batches: numbered, each once, and none of an earlier epoch.
type producer struct {
	id    int64
	epoch int16
}

// noProducer asks for an identity without having one.
var noProducer = producer{-1, -1}

// initProducer takes over the transactional id: what any earlier holder sends from now on is refused. With the identity
// that one holds, it succeeds only if nobody took over since.
func (c *connection) initProducer(ctx context.Context, transactionalID string, held producer) (producer, error) {
	response, err := c.client.InitProducerID(ctx, &kafka.InitProducerIDRequest{
		TransactionalID: transactionalID, TransactionTimeoutMs: 60_000,
		ProducerID: int(held.id), ProducerEpoch: int(held.epoch),
	})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		return noProducer, fmt.Errorf("take producer id of %s: %w", transactionalID, err)
	}
	return producer{int64(response.Producer.ProducerID), int16(response.Producer.ProducerEpoch)}, nil
}

// produce sends a signed batch and waits until every replica in sync has it. It returns the offset of the first record.
func (c *connection) produce(ctx context.Context, b batch) (offset int64, err error) {
	response, err := c.client.RawProduce(ctx, &kafka.RawProduceRequest{
		Topic: c.topic, Partition: c.partition, RequiredAcks: kafka.RequireAll, MessageVersion: 2,
		RawRecords: protocol.RawRecordSet{Reader: bytes.NewReader(b.bytes)},
	})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		return 0, fmt.Errorf("produce %d records to %s/%d: %w", b.records, c.topic, c.partition, err)
	}
	return response.BaseOffset, nil
}
