package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

var natsKind = Kind{Name: "nats", Check: "Nats-Expected-Last-Subject-Sequence, sync_interval always", Start: startNATS}

// natsPeer is JetStream: one stream with a subject for each stream of ours. Several events of one append go as an atomic
// batch.
type natsPeer struct {
	server  *child
	conns   []*nats.Conn // the clients share them
	streams []jetstream.JetStream
	stream  jetstream.Stream
}

const natsConnections = 16

func startNATS(ctx context.Context, dir string) (Peer, string, error) {
	process, port, err := startSelf(ctx, dir, "nats")
	if err != nil {
		return nil, "", err
	}
	p := &natsPeer{server: process}
	if err := p.open(ctx, port); err != nil {
		return nil, "", errors.Join(err, p.Close())
	}
	return p, server.VERSION, nil
}

// serveNATS runs the server until it is told to stop.
func serveNATS(ctx context.Context, dir string, port int) error {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir + "/jetstream", SyncAlways: true, NoSigs: true,
		JetStreamMaxStore: 100 << 30, JetStreamMaxMemory: 1 << 30,
	})
	if err != nil {
		return fmt.Errorf("make nats: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		return errors.New("start nats: not ready after 30 s")
	}
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

func (p *natsPeer) open(ctx context.Context, port int) error {
	for range natsConnections {
		conn, err := nats.Connect("nats://" + loopback(port))
		if err != nil {
			return fmt.Errorf("connect to nats: %w", err)
		}
		js, err := jetstream.New(conn)
		if err != nil {
			return fmt.Errorf("open jetstream: %w", err)
		}
		p.conns, p.streams = append(p.conns, conn), append(p.streams, js)
	}
	var err error
	p.stream, err = p.streams[0].CreateStream(ctx, jetstream.StreamConfig{
		Name: "EVENTS", Subjects: []string{"e.>"}, Storage: jetstream.FileStorage, AllowDirect: true, AllowAtomicPublish: true,
	})
	if err != nil {
		return fmt.Errorf("make stream: %w", err)
	}
	return nil
}

func (p *natsPeer) Append(ctx context.Context, stream string, at Place, payloads [][]byte) (Place, error) {
	js := p.js(stream)
	subject := "e." + stream
	next := Place{Version: at.Version + uint64(len(payloads))}
	if len(payloads) == 1 {
		ack, err := js.Publish(ctx, subject, payloads[0], jetstream.WithExpectLastSequencePerSubject(at.Position))
		if err != nil {
			return at, fmt.Errorf("append to nats: %w", err)
		}
		next.Position = ack.Sequence
		return next, nil
	}
	batch := make([]*nats.Msg, len(payloads))
	for i, b := range payloads {
		batch[i] = &nats.Msg{Subject: subject, Data: b, Header: nats.Header{}}
	}
	batch[0].Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(at.Position, 10))
	ack, err := jetstreamext.PublishMsgBatch(ctx, js, batch)
	if err != nil {
		return at, fmt.Errorf("append to nats: %w", err)
	}
	next.Position = ack.Sequence
	return next, nil
}

// js returns the connection for a stream.
func (p *natsPeer) js(stream string) jetstream.JetStream {
	return p.streams[int(stringHash(stream)%natsConnections)]
}

// stringHash spreads streams over connections, each on the same one always, so that its messages stay in order.
func stringHash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// loadLimit is more than any stream that is loaded has.
const loadLimit = 1000

// Load reads a subject with one direct get of a batch.
func (p *natsPeer) Load(ctx context.Context, stream string) (int, error) {
	messages, err := jetstreamext.GetBatch(ctx, p.js(stream), "EVENTS", loadLimit, jetstreamext.GetBatchSubject("e."+stream))
	if err != nil {
		return 0, fmt.Errorf("load from nats: %w", err)
	}
	n := 0
	for _, err := range messages {
		if err != nil {
			return n, fmt.Errorf("load from nats: %w", err)
		}
		n++
	}
	return n, nil
}

// ReadAll reads with an ordered consumer, which is the way to read a whole stream in order.
func (p *natsPeer) ReadAll(ctx context.Context) (int, error) {
	consumer, err := p.streams[0].OrderedConsumer(ctx, "EVENTS", jetstream.OrderedConsumerConfig{})
	if err != nil {
		return 0, fmt.Errorf("read from nats: %w", err)
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(5000))
	if err != nil {
		return 0, fmt.Errorf("read from nats: %w", err)
	}
	defer messages.Stop()
	for n := 1; ; n++ {
		m, err := messages.Next()
		if err != nil {
			return n, fmt.Errorf("read from nats: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return n, fmt.Errorf("read from nats: %w", err)
		}
		if meta.NumPending == 0 {
			return n, nil
		}
	}
}

func (p *natsPeer) Close() error {
	for _, c := range p.conns {
		c.Close()
	}
	return p.server.stop()
}
