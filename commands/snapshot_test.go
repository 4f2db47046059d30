package commands_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// keptAccounts is the aggregate of these tests with snapshots every ten events.
func keptAccounts(version uint32) commands.Aggregate[account, accountCommand, accountEvent] {
	a := accounts
	a.Snapshots = &commands.Snapshots[account]{
		Version: version, Every: 10,
		Encode: func(s account) ([]byte, error) { return json.Marshal(s) },
		Decode: func(b []byte) (s account, err error) { return s, json.Unmarshal(b, &s) },
	}
	return a
}

// keptBank is a bus that keeps snapshots, with what it logs.
func keptBank(t testing.TB, store eventstore.Store, snapshots commands.SnapshotStore, version uint32) (*commands.Bus, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	b := commands.NewBus(store, commands.Options{Snapshots: snapshots, Log: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, commands.Register[account, accountCommand, accountEvent](b, keptAccounts(version), deposit{}, withdraw{}))
	return b, &log
}

func TestSnapshotsSaveFolding(t *testing.T) {
	store, snapshots := newStore(t), &commands.MemorySnapshots{}
	b, _ := keptBank(t, store, snapshots, 1)
	for range 95 {
		dispatch(t, b, commands.Meta{}, deposit{"a", 1})
	}
	if s := b.Stats(); s.SnapshotsTaken != 9 {
		t.Errorf("%d snapshots were taken of 95 events, want 9", s.SnapshotsTaken)
	}
	b, log := keptBank(t, store, snapshots, 1)
	dispatch(t, b, commands.Meta{}, withdraw{"a", 95})
	if s := b.Stats(); s.SnapshotsUsed != 1 || s.Folded > 10 {
		t.Errorf("%d snapshots were used and %d events folded, want 1 and the few behind it", s.SnapshotsUsed, s.Folded)
	}
	if got := balance(t, store, "a"); got != 0 {
		t.Errorf("balance is %d, want 0", got)
	}
	if log.Len() > 0 {
		t.Errorf("logged %q", log)
	}
}

// TestSnapshotsAreNotBelieved shows C6: whatever is wrong with a snapshot, states are those of the log.
func TestSnapshotsAreNotBelieved(t *testing.T) {
	stream := eventstore.Stream("account", "a")
	ctx := context.Background()
	for name, c := range map[string]struct {
		// spoil changes the snapshot of 50 deposits of 1, or the store that it is used with.
		spoil   func(t *testing.T, s *commands.MemorySnapshots, raw []byte, store eventstore.Store) eventstore.Store
		version uint32
		logs    string
	}{
		"another version of the fold": {nil, 2, ""},
		"a bit flipped": {func(t *testing.T, s *commands.MemorySnapshots, raw []byte, store eventstore.Store) eventstore.Store {
			raw = bytes.Clone(raw)
			raw[len(raw)-3] ^= 1
			must(t, s.Save(ctx, stream, raw))
			return store
		}, 1, "checksum"},
		"cut short": {func(t *testing.T, s *commands.MemorySnapshots, raw []byte, store eventstore.Store) eventstore.Store {
			must(t, s.Save(ctx, stream, raw[:len(raw)/2]))
			return store
		}, 1, "checksum"},
		"empty": {func(t *testing.T, s *commands.MemorySnapshots, _ []byte, store eventstore.Store) eventstore.Store {
			must(t, s.Save(ctx, stream, nil))
			return store
		}, 1, "checksum"},
		"another stream's": {func(t *testing.T, s *commands.MemorySnapshots, raw []byte, store eventstore.Store) eventstore.Store {
			foreign(t, store, "b", 1)
			must(t, s.Save(ctx, eventstore.Stream("account", "b"), raw))
			must(t, s.Drop(ctx, stream))
			return store
		}, 1, "it is of stream"},
		"another log": {func(t *testing.T, _ *commands.MemorySnapshots, _ []byte, _ eventstore.Store) eventstore.Store {
			other := newStore(t)
			for range 60 {
				foreign(t, other, "a", 2)
			}
			return other
		}, 1, "of another log"},
		"another life of the log": {func(t *testing.T, _ *commands.MemorySnapshots, _ []byte, _ eventstore.Store) eventstore.Store {
			other := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "local", Incarnation: 2}})
			for range 60 {
				foreign(t, other, "a", 1)
			}
			return other
		}, 1, "of another log"},
		"a log that is shorter": {func(t *testing.T, _ *commands.MemorySnapshots, _ []byte, _ eventstore.Store) eventstore.Store {
			other := newStore(t)
			foreign(t, other, "a", 1)
			return other
		}, 1, "has no version"},
	} {
		t.Run(name, func(t *testing.T) {
			var store eventstore.Store = newStore(t)
			snapshots := &commands.MemorySnapshots{}
			b, _ := keptBank(t, store, snapshots, 1)
			for range 55 {
				dispatch(t, b, commands.Meta{}, deposit{"a", 1})
			}
			raw, err := snapshots.Load(ctx, stream)
			must(t, err)
			if c.spoil != nil {
				store = c.spoil(t, snapshots, raw, store)
			}
			b, log := keptBank(t, store, snapshots, c.version)
			for _, id := range []string{"a", "b"} {
				want := balance(t, store, id)
				if _, err := b.Dispatch(ctx, commands.Meta{}, withdraw{id, want + 1}); eventstore.ClassOf(err) != eventstore.Rejected {
					t.Errorf("%s has %d, and a withdrawal of more gives %v", id, want, err)
				}
				if want > 0 {
					dispatch(t, b, commands.Meta{}, withdraw{id, want})
				}
			}
			if s := b.Stats(); s.SnapshotsUsed != 0 {
				t.Errorf("%d snapshots were used, want none", s.SnapshotsUsed)
			}
			if (c.logs == "") != (log.Len() == 0) || !strings.Contains(log.String(), c.logs) {
				t.Errorf("logged %q, want %q mentioned", log, c.logs)
			}
			// It is made anew.
			for range 20 {
				dispatch(t, b, commands.Meta{}, deposit{"a", 1})
			}
			if s := b.Stats(); s.SnapshotsTaken == 0 {
				t.Error("no new snapshot was taken")
			}
		})
	}
}

// failing keeps no snapshots and gives none back.
type failing struct{ commands.MemorySnapshots }

func (*failing) Load(context.Context, eventstore.StreamID) ([]byte, error) {
	return nil, eventstore.ErrClosed
}

func (*failing) Save(context.Context, eventstore.StreamID, []byte) error { return eventstore.ErrClosed }

func TestCommandsGoOnWithoutSnapshots(t *testing.T) {
	b, log := keptBank(t, newStore(t), &failing{}, 1)
	for range 30 {
		dispatch(t, b, commands.Meta{}, deposit{"a", 1})
	}
	if n := strings.Count(log.String(), "no snapshot was taken"); n != 2 || !strings.Contains(log.String(), "passed over") {
		t.Errorf("logged %d times that none was taken, want twice for 30 events:\n%s", n, log)
	}
}

// forgetting drops what its bus holds, while it loads.
type forgetting struct {
	commands.MemorySnapshots
	bus *commands.Bus
}

func (f *forgetting) Load(ctx context.Context, stream eventstore.StreamID) ([]byte, error) {
	f.bus.Forget()
	return f.MemorySnapshots.Load(ctx, stream)
}

// A state that begins with a snapshot of before all were dropped is not kept.
func TestForgetWhileASnapshotIsLoaded(t *testing.T) {
	store, snapshots := newStore(t), &forgetting{}
	snapshots.bus, _ = keptBank(t, store, snapshots, 1)
	for range 15 {
		dispatch(t, snapshots.bus, commands.Meta{}, deposit{"a", 1})
	}
	b, _ := keptBank(t, store, snapshots, 1)
	snapshots.bus = b
	dispatch(t, b, commands.Meta{}, deposit{"a", 1})
	if s := b.Stats(); s.SnapshotsUsed != 1 || s.CachedStates != 0 {
		t.Errorf("%d snapshots were used and %d states are kept, want 1 and none", s.SnapshotsUsed, s.CachedStates)
	}
}

// What is erased must not live on in a snapshot: an aggregate whose events have personal fields, those of old names too, is
// not registered with snapshots, whether the store seals or not, and is without them. Shows C10.
func TestSnapshotsOfWhatIsPersonalAreRefused(t *testing.T) {
	_, sealing := sealing(t)
	kept := &commands.Snapshots[string]{
		Version: 1,
		Encode:  func(s string) ([]byte, error) { return []byte(s), nil },
		Decode:  func(b []byte) (string, error) { return string(b), nil },
	}
	lately := parcels // the personal event is of an old name
	lately.Codec = commands.ProtoCodec(map[string]proto.Message{"parcel.sent.v2": &commercev1.OrderCancelled{}},
		commands.UpcastProto[*commercev1.OrderCreated, proto.Message]("parcel.sent.v1", func(*commercev1.OrderCreated) (proto.Message, error) {
			return &commercev1.OrderCancelled{}, nil
		}))
	for what, a := range map[string]commands.Aggregate[string, parcel, proto.Message]{"events": parcels, "old events": lately} {
		for _, store := range []eventstore.Store{newStore(t), sealing} {
			a.Snapshots = kept
			err := commands.Register(commands.NewBus(store, commands.Options{}), a)
			if err == nil || !strings.Contains(err.Error(), "parcel.sent.v1 has personal fields") {
				t.Errorf("%s over %T: error is %v, want the personal event named", what, store, err)
			}
			a.Snapshots = nil
			if err := commands.Register(commands.NewBus(store, commands.Options{}), a); err != nil {
				t.Errorf("%s over %T, without snapshots: %v", what, store, err)
			}
		}
	}
}

func TestSnapshotsThatSayNothingAreRefused(t *testing.T) {
	other := accounts
	other.Snapshots = &commands.Snapshots[account]{}
	if err := commands.Register[account, accountCommand, accountEvent](commands.NewBus(newStore(t), commands.Options{}), other, touch{}); err == nil {
		t.Error("an aggregate whose snapshots say nothing was registered")
	}
}

// BenchmarkLoadLongStream is the first command after a start on a stream of a million events in Pebble, with a snapshot of it and without.
func BenchmarkLoadLongStream(b *testing.B) {
	const events = 1_000_000
	dir := b.TempDir()
	store, err := pebblestore.Open(dir+"/store", nil)
	must(b, err)
	defer store.Close()
	e, err := accounts.Codec.Encode(deposited{1})
	must(b, err)
	for range events / 10_000 {
		batch := make([]eventstore.Event, 10_000)
		for i := range batch {
			batch[i] = e
		}
		_, err := store.Append(context.Background(), eventstore.Request{Appends: []eventstore.StreamAppend{{Stream: eventstore.Stream("account", "a"), Events: batch}}})
		must(b, err)
	}
	snapshots, err := pebblestore.OpenSnapshots(dir+"/snapshots", nil)
	must(b, err)
	defer snapshots.Close()
	for _, kept := range []bool{false, true} {
		b.Run(fmt.Sprintf("snapshots=%v", kept), func(b *testing.B) {
			var o commands.Options
			if kept {
				o.Snapshots = snapshots
				first := commands.NewBus(store, o)
				must(b, commands.Register[account, accountCommand, accountEvent](first, keptAccounts(1), deposit{}, withdraw{}))
				dispatch(b, first, commands.Meta{}, deposit{"a", 1})
			}
			for b.Loop() {
				bus := commands.NewBus(store, o)
				must(b, commands.Register[account, accountCommand, accountEvent](bus, keptAccounts(1), deposit{}, withdraw{}))
				if _, err := bus.Dispatch(context.Background(), commands.Meta{}, withdraw{"a", 2_000_000_000}); eventstore.ClassOf(err) != eventstore.Rejected {
					b.Fatal(err)
				}
			}
		})
	}
}
