// Package bench measures the store against the limit of the disk under it, and the store API against an empty call.
//
// In a closed loop clients wait for each answer before they go on. In an open loop (Load.Rate) work arrives at a fixed rate
// whether or not the work before it is done, and its latency counts from the time at which it should have begun.
package bench

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/internal/bench/rawlog"
)

// Load is what a measurement does: Clients append at once, each waiting for its receipt, Batch events of Size bytes at a
// time, with a request id, the expected version and metadata. They go round over Streams streams, which every client has
// its own share of.
type Load struct {
	Clients int `json:"clients"`
	Batch   int `json:"batch"`
	Size    int `json:"size"`
	Streams int `json:"streams"`
	// Rounds share Duration evenly.
	Rounds   int           `json:"rounds"`
	Duration time.Duration `json:"-"`
	// Raw has a raw file with group commit and one fdatasync a group measured too, in turn with the store; over gRPC an
	// empty call as well.
	Raw bool `json:"-"`
	// GRPC goes through the store API over loopback, an append a call. The server is one in this process, or the one that
	// listens on Addr.
	GRPC bool   `json:"grpc,omitempty"`
	Addr string `json:"addr,omitempty"`
	// Condition has each append demand that no event with its client's tag came after the client's last one, and measures the
	// same appends without that too, in turn.
	Condition bool `json:"condition,omitempty"`
	// Durability is the class of each append; empty is local. A store of this process has a broker of this process for kafka, and no
	// other site.
	Durability string `json:"durability,omitempty"`
	// Rate makes the loop an open one: so many appends a second; 0 is a closed loop.
	Rate float64 `json:"open_rate,omitempty"`

	enough func() bool // when set, a round ends once it says so
}

// Validate says what is wrong with a load.
func (l *Load) Validate() error {
	class, err := eventstore.ParseDurability(l.Durability)
	switch {
	case err != nil:
		return fmt.Errorf("--durability: %w", err)
	case l.Clients < 1 || l.Batch < 1 || l.Size < 1 || l.Rounds < 1:
		return errors.New("--clients, --batch, --size and --rounds are at least 1")
	case l.Streams < l.Clients:
		return fmt.Errorf("--streams %d is too few for --clients %d, of which each has its own", l.Streams, l.Clients)
	case l.round() < 50*time.Millisecond:
		return fmt.Errorf("--duration %s is too short for --rounds %d of 50 ms at least", l.Duration, l.Rounds)
	case class != eventstore.Local && l.Raw:
		return fmt.Errorf("--durability %s is not measured with --raw, which writes to the local disk alone", class)
	case class == eventstore.Peer && l.Addr == "":
		return errors.New("--durability peer needs another site: name a server that has one (--grpc --addr HOST:PORT)")
	case l.Rate < 0:
		return fmt.Errorf("--rate %g is negative", l.Rate)
	case l.Condition && l.GRPC:
		return errors.New("--condition is measured in process, without --grpc")
	case l.Addr != "" && (!l.GRPC || l.Raw):
		return errors.New("--addr is for --grpc, and not with --raw, which measures this machine")
	}
	return nil
}

func (l *Load) round() time.Duration { return l.Duration / time.Duration(l.Rounds) }

// Side is how one of the two did: rate and latencies are medians over the rounds, events their sum.
type Side struct {
	Rate   float64 // events a second
	P50    float64 // microseconds
	P99    float64 // microseconds
	CPU    float64 // microseconds of this process's processor time for each work, clients and server together
	Events int64
}

// AppendResult is what Append found. The fields of the raw file are left out where it was not measured.
type AppendResult struct {
	Load
	Rate      float64 `json:"rate"` // events a second
	P50Micros float64 `json:"p50_us"`
	P99Micros float64 `json:"p99_us"`
	Events    int64   `json:"events"`
	// CPUMicros is the processor time of this process for each append, clients and server together, but for a server on Addr.
	CPUMicros float64 `json:"cpu_us"`

	RawRate      float64 `json:"raw_rate,omitempty"`
	RawP50Micros float64 `json:"raw_p50_us,omitempty"`
	RawP99Micros float64 `json:"raw_p99_us,omitempty"`
	// Ratio is the median over the rounds of store to raw, each pair measured one right after the other.
	Ratio  float64   `json:"ratio,omitempty"`
	Ratios []float64 `json:"ratios,omitempty"`

	// PlainRate is that of the same appends without a condition, PlainRatio the median over the rounds of those with one to
	// those without.
	PlainRate  float64 `json:"plain_rate,omitempty"`
	PlainRatio float64 `json:"plain_ratio,omitempty"`

	// EchoRate is in empty calls a second, EchoRatio the median over the rounds of appends to empty calls.
	EchoRate  float64 `json:"echo_rate,omitempty"`
	EchoRatio float64 `json:"echo_ratio,omitempty"`
	// EchoCPUMicros is the processor time for each empty call, on a server of gRPC as it comes. OwnEchoRate and
	// OwnEchoCPUMicros are those of empty calls on a node's server, with all that it does for each call.
	EchoCPUMicros    float64 `json:"echo_cpu_us,omitempty"`
	OwnEchoRate      float64 `json:"own_echo_rate,omitempty"`
	OwnEchoCPUMicros float64 `json:"own_echo_cpu_us,omitempty"`
	// Connections is how many the clients share, those of the empty calls as well.
	Connections int `json:"connections,omitempty"`

	Seconds float64 `json:"seconds"` // measured of each side
	Cores   int     `json:"cores"`
}

// Append measures durable appends, in process or over gRPC, on the disk of dir.
func Append(ctx context.Context, dir string, l Load, progress func(done, total int)) (AppendResult, error) {
	out := AppendResult{Load: l, Seconds: l.Duration.Seconds(), Cores: runtime.GOMAXPROCS(0)}
	if l.GRPC {
		out.Connections = connections
	}
	steps, done := l.Rounds, 0
	for _, too := range []bool{l.Raw, l.Raw && l.GRPC, l.Raw && l.GRPC, l.Condition} {
		if too {
			steps += l.Rounds
		}
	}
	step := func() { done++; progress(done, steps) }
	var store, raw, echo, ownEcho, plain []Side
	var echoRatios, plainRatios []float64
	for round := range l.Rounds {
		s, err := storeRound(ctx, filepath.Join(dir, fmt.Sprintf("store-%d", round)), l)
		if err != nil {
			return out, fmt.Errorf("measure the store: %w", err)
		}
		step()
		store = append(store, s)
		if l.Condition {
			without := l
			without.Condition = false
			p, err := storeRound(ctx, filepath.Join(dir, fmt.Sprintf("plain-%d", round)), without)
			if err != nil {
				return out, fmt.Errorf("measure the store without a condition: %w", err)
			}
			step()
			plain = append(plain, p)
			plainRatios = append(plainRatios, s.Rate/p.Rate)
		}
		if !l.Raw {
			continue
		}
		if l.GRPC {
			e, err := echoRound(ctx, l, &emptypb.Empty{})
			if err != nil {
				return out, fmt.Errorf("measure an empty call: %w", err)
			}
			step()
			echo = append(echo, e)
			echoRatios = append(echoRatios, s.Rate/float64(l.Batch)/e.Rate)
			if e, err = ownEchoRound(ctx, l); err != nil {
				return out, fmt.Errorf("measure an empty call of a node's server: %w", err)
			}
			step()
			ownEcho = append(ownEcho, e)
		}
		r, err := rawRound(ctx, filepath.Join(dir, fmt.Sprintf("raw-%d", round)), l)
		if err != nil {
			return out, fmt.Errorf("measure the raw file: %w", err)
		}
		step()
		raw = append(raw, r)
		out.Ratios = append(out.Ratios, s.Rate/r.Rate)
	}
	s := medianSide(store)
	out.Rate, out.P50Micros, out.P99Micros, out.CPUMicros, out.Events = s.Rate, s.P50, s.P99, s.CPU, s.Events
	if l.Raw {
		r := medianSide(raw)
		out.RawRate, out.RawP50Micros, out.RawP99Micros = r.Rate, r.P50, r.P99
		out.Ratio = medianOf(out.Ratios)
	}
	if len(plain) > 0 {
		out.PlainRate, out.PlainRatio = medianSide(plain).Rate, medianOf(plainRatios)
	}
	if len(echo) > 0 {
		e := medianSide(echo)
		out.EchoRate, out.EchoCPUMicros, out.EchoRatio = e.Rate, e.CPU, medianOf(echoRatios)
		own := medianSide(ownEcho)
		out.OwnEchoRate, out.OwnEchoCPUMicros = own.Rate, own.CPU
	}
	return out, nil
}

// writer is a client that appends to its share of the streams.
type writer struct {
	store    appendsTo
	class    eventstore.Durability
	name     string
	load     *Load
	payload  []byte
	versions []uint64
	sent     int

	tags      []string
	condition *eventstore.Condition // nil: none
}

// appendsTo is what a writer appends to. A request's condition is moved on to the request itself.
type appendsTo func(ctx context.Context, r *eventstore.Request) error

func newWriter(store appendsTo, client int, l *Load) *writer {
	class, _ := eventstore.ParseDurability(l.Durability) // the load is valid
	w := &writer{store: store, class: class, name: strconv.Itoa(client), load: l, payload: noise(l.Size), versions: make([]uint64, l.Streams/l.Clients)}
	if l.Condition {
		w.tags = []string{"client:" + w.name}
		w.condition = &eventstore.Condition{Query: eventstore.Query{{Tags: w.tags}}}
	}
	return w
}

// noise returns bytes that nothing on the way can compress.
func noise(size int) []byte {
	b := make([]byte, size)
	_, _ = crand.Read(b) // never fails
	return b
}

func (w *writer) append(ctx context.Context) error {
	n := w.sent % len(w.versions)
	w.sent++
	events := make([]eventstore.Event, w.load.Batch)
	for i := range events {
		events[i] = eventstore.Event{Type: "bench.happened.v1", Payload: w.payload, Tags: w.tags}
	}
	id := w.name + "-" + strconv.Itoa(w.sent)
	err := w.store(ctx, &eventstore.Request{
		ID: id, Metadata: eventstore.Metadata{Causation: id, Correlation: id, Actor: "bench"}, Condition: w.condition, Durability: w.class,
		Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("bench", w.name+"-"+strconv.Itoa(n)), Expect: eventstore.Exactly(w.versions[n]), Events: events,
		}},
	})
	w.versions[n] += uint64(w.load.Batch)
	return err
}

func storeRound(ctx context.Context, dir string, l Load) (_ Side, err error) {
	targets, closeAll, err := l.open(ctx, dir)
	if err != nil {
		return Side{}, err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	writers := l.writers(targets)
	return l.run(ctx, func(client int) error { return writers[client].append(ctx) })
}

// writers returns a writer for each client; they share the targets.
func (l *Load) writers(targets []appendsTo) []*writer {
	writers := make([]*writer, l.Clients)
	for client := range writers {
		writers[client] = newWriter(targets[client%len(targets)], client, l)
		if l.Addr != "" { // it may have the streams of an earlier run
			writers[client].name = crand.Text()[:8] + "-" + writers[client].name
		}
	}
	return writers
}

// open returns what the load is appended to: a new store in dir, itself or behind a server, or the server on Addr.
func (l *Load) open(ctx context.Context, dir string) (_ []appendsTo, closeAll func() error, err error) {
	if l.Addr != "" {
		conns, err := dialAll(l.Addr)
		if err != nil {
			return nil, nil, err
		}
		return conns.appends(), conns.close, nil
	}
	store, err := pebblestore.Open(dir, nil)
	if err != nil {
		return nil, nil, err
	}
	kept, closeKept, err := l.kept(ctx, store, dir)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	closeStore := func() error { return errors.Join(closeKept(), store.Close()) }
	if !l.GRPC {
		return []appendsTo{appendsIn(kept)}, closeStore, nil
	}
	serving, err := serveStore(ctx, kept, store)
	if err != nil {
		return nil, nil, errors.Join(err, closeStore())
	}
	return serving.conns.appends(), func() error { return errors.Join(serving.close(), closeStore()) }, nil
}

// appendsIn returns what appends to a store of this process.
func appendsIn(store eventstore.Appender) appendsTo {
	return func(ctx context.Context, r *eventstore.Request) error {
		receipt, err := store.Append(ctx, *r)
		if r.Condition != nil {
			r.Condition.After = receipt.Position
		}
		return err
	}
}

func rawRound(ctx context.Context, path string, l Load) (_ Side, err error) {
	log, err := rawlog.Create(path)
	if err != nil {
		return Side{}, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	record := make([]byte, l.Batch*l.Size)
	return l.run(ctx, func(int) error { return log.Append(record) })
}

func medianSide(sides []Side) Side {
	var events int64
	for _, s := range sides {
		events += s.Events
	}
	return Side{
		Events: events,
		Rate:   median(sides, func(s Side) float64 { return s.Rate }),
		P50:    median(sides, func(s Side) float64 { return s.P50 }),
		P99:    median(sides, func(s Side) float64 { return s.P99 }),
		CPU:    median(sides, func(s Side) float64 { return s.CPU }),
	}
}

func medianOf(values []float64) float64 {
	return median(values, func(x float64) float64 { return x })
}

func median[T any](values []T, of func(T) float64) float64 {
	sorted := make([]float64, len(values))
	for i, v := range values {
		sorted[i] = of(v)
	}
	slices.Sort(sorted)
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
