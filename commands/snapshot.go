package commands

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	systemv1 "github.com/tributary-es/tributary/schemas/gen/tributary/system/v1"
)

// DefaultSnapshotEvery is how many events are folded between two snapshots of a stream, unless the aggregate says otherwise.
const DefaultSnapshotEvery = 500

// Snapshots says how states of an aggregate are kept on disk, so that a long stream is not folded from its first event. They
// are invisible to the aggregate otherwise: a state comes out the same with and without them.
type Snapshots[S any] struct {
	// Version is that of the fold. Raise it whenever Evolve leads to another state from the same events, or Encode writes
	// another form: snapshots of other versions are passed over. From 1.
	Version uint32
	// Encode writes a state and Decode reads it back, equal in every part. Decode gets what Encode wrote in this version.
	Encode func(S) ([]byte, error)
	Decode func([]byte) (S, error)
	// Every is how many events are folded between two snapshots of a stream; zero means DefaultSnapshotEvery. Large states are
	// kept less often, so that no more than about 1,000 bytes are written for each event.
	Every int
}

// SnapshotStore keeps the last snapshot of each stream. What it keeps is derived from the log, and may be lost at any time.
// Implementations are safe for concurrent use.
type SnapshotStore interface {
	// Load returns what Save was last given for the stream; eventstore.ErrNotFound when there is nothing.
	Load(ctx context.Context, stream eventstore.StreamID) ([]byte, error)
	Save(ctx context.Context, stream eventstore.StreamID, snapshot []byte) error
	// Drop removes the snapshots of streams, and Clear all there are. Nothing of them is left when they return.
	Drop(ctx context.Context, streams ...eventstore.StreamID) error
	Clear(ctx context.Context) error
}

// bytesPerEvent bounds what snapshots write for each event.
const bytesPerEvent = 1000

// kept says of a folded state when the last snapshot was taken.
type kept struct {
	at    uint64 // version; 0: never
	bytes int
}

// due reports whether a state at a version should be kept.
func (k kept) due(version uint64, every int) bool {
	return version-k.at >= uint64(max(every, k.bytes/bytesPerEvent))
}

// restored returns the state of a stream from its snapshot, nil when there is none that can be believed: it is one of this
// log, taken by this fold, and whole.
func (b *Bus) restored(ctx context.Context, w *work) *folded {
	fold, _, ok := w.aggregate.snapshots()
	if !ok || b.options.Snapshots == nil {
		return nil
	}
	born := b.cache.birth()
	raw, err := b.options.Snapshots.Load(ctx, w.stream)
	if errors.Is(err, eventstore.ErrNotFound) {
		return nil
	}
	var s *systemv1.Snapshot
	if err == nil {
		s, err = decodeSnapshot(raw, w.stream)
	}
	if err == nil && s.GetFold() != fold {
		return nil
	}
	var last eventstore.Position
	if err == nil {
		last, err = b.checkSnapshot(ctx, w.stream, s)
	}
	instance := w.aggregate.newInstance()
	if err == nil {
		err = instance.restore(s.GetState())
	}
	if err != nil {
		b.options.Log.Warn("a snapshot is passed over, and made anew", slog.String("stream", w.stream.String()), slog.Any("error", err))
		return nil
	}
	b.counters.restored.Add(1)
	f := &folded{stream: w.stream, state: instance, version: s.GetVersion(), last: last, born: born, kept: kept{s.GetVersion(), len(raw)}}
	for _, d := range s.GetContext() {
		log := eventstore.LogID{Site: d.GetSite(), Incarnation: d.GetIncarnation(), Shard: uint16(d.GetShard())}
		f.context = cover(f.context, eventstore.Dot{Log: log, Seq: d.GetSeq()})
	}
	return f
}

// checkSnapshot compares the last event that a snapshot has folded with the one that the log has in its place, and returns
// where that stands in the log.
func (b *Bus) checkSnapshot(ctx context.Context, stream eventstore.StreamID, s *systemv1.Snapshot) (eventstore.Position, error) {
	last, at, err := b.identity(ctx, stream, s.GetVersion())
	if err == nil && !bytes.Equal(last[:], s.GetLast()) {
		err = errors.New("it is of another log, of one that was written anew, or lacks what another site had recorded before")
	}
	return at, err
}

// identity is a hash of an event and of its place in the log that it was born in; at is its place in this one.
func (b *Bus) identity(ctx context.Context, stream eventstore.StreamID, version uint64) (id eventstore.Hash, at eventstore.Position, err error) {
	for r, err := range b.store.Read(ctx, stream, version) {
		if err != nil {
			return id, at, fmt.Errorf("read version %d of stream %s: %w", version, stream, err)
		}
		return sha256.Sum256(append([]byte(r.Dot.String()+"\x00"), eventstore.AppendContent(nil, &r)...)), r.Position, nil
	}
	return id, at, fmt.Errorf("stream %s has no version %d", stream, version)
}

// keep takes a snapshot of a state that has come far enough since the last one. What keeps it from that is logged: commands
// go on without. None is taken of a stream with branches: a state does not tell whether a person has to pick one, and every
// event that follows may have another one count, so it is folded from all events each time. Nor is one taken of a stream with
// void events, which a state does not tell either.
func (b *Bus) keep(ctx context.Context, a aggregate, f *folded) {
	fold, every, ok := a.snapshots()
	if !ok || b.options.Snapshots == nil || f.branch || len(f.void) > 0 || !f.due(f.version, every) {
		return
	}
	size, err := b.save(ctx, fold, f)
	if errors.Is(err, errRewound) {
		return // the state is behind: what is decided on it is refused by the log, and then it is folded anew
	}
	if err != nil {
		b.options.Log.Warn("no snapshot was taken", slog.String("stream", f.stream.String()), slog.Any("error", err))
	}
	f.kept = kept{f.version, size}
}

// save takes a snapshot of a state; errRewound when the event that it has folded last does not stand in its place any more, by
// which the snapshot is known again.
func (b *Bus) save(ctx context.Context, fold uint32, f *folded) (size int, err error) {
	last, at, err := b.identity(ctx, f.stream, f.version)
	if err != nil {
		return 0, err
	}
	if at != f.last {
		return 0, errRewound
	}
	s := &systemv1.Snapshot{Stream: f.stream.String(), Version: f.version, Fold: fold, Last: last[:]}
	if s.State, err = f.state.snapshot(); err != nil {
		return 0, fmt.Errorf("encode state: %w", err)
	}
	for _, d := range f.context {
		s.Context = append(s.Context, &systemv1.SnapshotDot{
			Site: d.Log.Site, Incarnation: d.Log.Incarnation, Shard: uint32(d.Log.Shard), Seq: d.Seq,
		})
	}
	raw, err := encodeSnapshot(s)
	if err != nil {
		return 0, err
	}
	if err := b.options.Snapshots.Save(ctx, f.stream, raw); err != nil {
		return 0, err
	}
	b.counters.kept.Add(1)
	return len(raw), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encodeSnapshot puts a checksum of 4 bytes in front of the encoded message.
func encodeSnapshot(s *systemv1.Snapshot) ([]byte, error) {
	raw, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 4, 4+proto.Size(s)), s)
	if err != nil {
		return nil, fmt.Errorf("encode snapshot: %w", err)
	}
	binary.BigEndian.PutUint32(raw, crc32.Checksum(raw[4:], castagnoli))
	return raw, nil
}

func decodeSnapshot(raw []byte, stream eventstore.StreamID) (*systemv1.Snapshot, error) {
	if len(raw) < 4 || binary.BigEndian.Uint32(raw) != crc32.Checksum(raw[4:], castagnoli) {
		return nil, fmt.Errorf("its checksum is wrong: %w", eventstore.ErrCorrupt)
	}
	s := &systemv1.Snapshot{}
	if err := proto.Unmarshal(raw[4:], s); err != nil {
		return nil, fmt.Errorf("decode snapshot: %w", err)
	}
	if s.GetStream() != stream.String() || s.GetVersion() == 0 {
		return nil, fmt.Errorf("it is of stream %s at version %d", s.GetStream(), s.GetVersion())
	}
	return s, nil
}

// MemorySnapshots is a SnapshotStore in memory, for tests. The zero value is empty and ready.
type MemorySnapshots struct {
	mu sync.Mutex // guards m
	m  map[eventstore.StreamID][]byte
}

// Load implements SnapshotStore.
func (m *MemorySnapshots) Load(_ context.Context, stream eventstore.StreamID) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.m[stream]
	if !ok {
		return nil, fmt.Errorf("snapshot of stream %s: %w", stream, eventstore.ErrNotFound)
	}
	return s, nil
}

// Save implements SnapshotStore.
func (m *MemorySnapshots) Save(_ context.Context, stream eventstore.StreamID, snapshot []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.m == nil {
		m.m = map[eventstore.StreamID][]byte{}
	}
	m.m[stream] = snapshot
	return nil
}

// Drop implements SnapshotStore.
func (m *MemorySnapshots) Drop(_ context.Context, streams ...eventstore.StreamID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range streams {
		delete(m.m, s)
	}
	return nil
}

// Clear implements SnapshotStore.
func (m *MemorySnapshots) Clear(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.m)
	return nil
}
