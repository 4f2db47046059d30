package commands

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tributary-es/tributary/eventstore"
)

// Defaults of Options.
const (
	DefaultMaxAttempts  = 12
	DefaultCacheEntries = 50_000
	DefaultCacheBytes   = 16 << 20
)

// Options tune a Bus. The zero value is good.
type Options struct {
	// Middleware wraps the handling of every message; the first is the outermost.
	Middleware []Middleware
	// MaxAttempts bounds how often a message is decided when other writers of its streams keep being faster; zero means
	// DefaultMaxAttempts. Writers that use the same Bus wait for each other instead.
	MaxAttempts int
	// Backoff returns how long to wait after the given number of failed attempts (from 1). Nil means a random time up to
	// 1 ms, then 2, 4, … 128 ms.
	Backoff func(attempts int) time.Duration
	// CacheEntries and CacheBytes bound the folded states kept between commands, whichever comes first. Zero means the
	// default; a negative number keeps none.
	CacheEntries, CacheBytes int
	// Decidable, when set, is asked with the category of each stream that a message is to be decided on, before anything of it is
	// loaded, and with those whose types of events a decider's query names. Its error is returned as it is, and nothing is decided:
	// neither what a state that is not all there would have refused, nor what it would have allowed. A message that was applied
	// before is answered all the same.
	Decidable func(category string) error
	// Snapshots keeps states on disk, of those aggregates that say how; nil keeps none.
	Snapshots SnapshotStore
	// Log gets what went wrong and kept nothing from going on; nil means slog.Default.
	Log *slog.Logger
}

// Handler handles a message: all its commands, or none.
type Handler func(ctx context.Context, m Message) (eventstore.Receipt, error)

// Middleware wraps a Handler with something that is the same for all messages.
type Middleware func(next Handler) Handler

// Bus finds the aggregate or decider of each command, has it decide, and appends what it decided. It is safe for concurrent use once
// every aggregate is registered. It has nothing to close.
type Bus struct {
	store    eventstore.Store
	options  Options
	handler  Handler
	commands map[reflect.Type]registered
	// categories has the aggregate of each, so that two never write the same streams; deciders names the deciders, likewise.
	categories map[string]aggregate
	deciders   map[string]bool
	// writers are the categories whose aggregates have events of a wire name.
	writers map[string][]string
	// codecs decode events by wire name, for deciders, whose events are those of several aggregates.
	codecs map[string]decodeAny
	// sealer is the store when it seals personal fields; else unsealed has the personal fields of each type.
	sealer   Sealer
	unsealed map[string][]protowire.Number
	// messages describes the protobuf events by wire name, and frozen names those that must not be written.
	messages map[string]protoreflect.MessageDescriptor
	frozen   map[string]bool

	others   atomic.Bool // the log is known to hold what other sites have recorded
	locks    *streamLocks
	cache    *stateCache
	counters counters
}

// registered is what decides commands of a type: an aggregate of a category, or a decider.
type registered struct {
	category  string
	aggregate aggregate
	scopes    scoper
}

// String names it in errors.
func (r registered) String() string {
	if r.aggregate != nil {
		return fmt.Sprintf("category %q", r.category)
	}
	return fmt.Sprintf("decider %q", r.scopes.name())
}

// NewBus returns a bus that keeps what is decided in the store.
func NewBus(store eventstore.Store, o Options) *Bus {
	if o.MaxAttempts == 0 {
		o.MaxAttempts = DefaultMaxAttempts
	}
	if o.Backoff == nil {
		o.Backoff = defaultBackoff
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	bound := func(n, otherwise int) int {
		if n == 0 {
			return otherwise
		}
		return max(n, 0)
	}
	b := &Bus{
		store: store, options: o,
		commands: map[reflect.Type]registered{}, categories: map[string]aggregate{}, deciders: map[string]bool{},
		writers: map[string][]string{}, codecs: map[string]decodeAny{},
		messages: map[string]protoreflect.MessageDescriptor{}, frozen: map[string]bool{}, unsealed: map[string][]protowire.Number{},
		locks: newStreamLocks(),
		cache: newStateCache(bound(o.CacheEntries, DefaultCacheEntries), bound(o.CacheBytes, DefaultCacheBytes)),
	}
	b.sealer, _ = store.(Sealer)
	b.handler = b.handle
	for _, m := range slices.Backward(o.Middleware) {
		b.handler = m(b.handler)
	}
	return b
}

func defaultBackoff(attempts int) time.Duration {
	return rand.N(time.Millisecond << min(attempts-1, 7))
}

// add registers what decides command types.
func (b *Bus) add(r registered, types map[reflect.Type]bool) error {
	if r.aggregate != nil && b.categories[r.category] != nil || r.aggregate == nil && b.deciders[r.scopes.name()] {
		return fmt.Errorf("%s is registered already", r)
	}
	if len(types) == 0 {
		return fmt.Errorf("no samples of its commands were given")
	}
	for t := range types {
		if t == nil {
			return fmt.Errorf("a sample command is nil")
		}
		if other, ok := b.commands[t]; ok {
			return fmt.Errorf("command %s is registered already, for %s", t, other)
		}
	}
	if r.aggregate != nil {
		b.categories[r.category] = r.aggregate
	} else {
		b.deciders[r.scopes.name()] = true
	}
	for t := range types {
		b.commands[t] = r
	}
	return nil
}

// know adds the events of a codec to those that deciders can read. A name that several codecs know means the same to all.
func know[E any](b *Bus, c Codec[E]) {
	for _, name := range c.Types() {
		if _, ok := b.codecs[name]; !ok {
			b.codecs[name] = func(r *eventstore.Recorded) (any, error) { return c.Decode(r) }
		}
	}
	if d, ok := c.(Described); ok {
		maps.Copy(b.messages, d.Messages())
	}
}

// Lacks reports whether the states of a category are folded here, and events of a wire name cannot be: a newer program has recorded
// them. The streams that have one take no commands here.
func (b *Bus) Lacks(category, name string) bool {
	return b.categories[category] != nil && b.codecs[name] == nil
}

// Messages says what the events of each wire name look like that are protobuf messages, of all that is registered.
func (b *Bus) Messages() map[string]protoreflect.MessageDescriptor { return maps.Clone(b.messages) }

// Freeze has the bus refuse messages that decide events of these wire names, with eventstore.ErrReadOnly: a newer program has
// recorded them with more in them than this one knows. Like Register it comes before the first Dispatch.
func (b *Bus) Freeze(names ...string) {
	for _, name := range names {
		b.frozen[name] = true
	}
}

// checkFrozen refuses events that the bus must not write.
func (b *Bus) checkFrozen(e *eventstore.Event) error {
	if !b.frozen[e.Type] {
		return nil
	}
	return fmt.Errorf("%w for events %s: a newer program has recorded them with more than this one knows; run that one", eventstore.ErrReadOnly, e.Type)
}

// Decidable returns nil when commands of a category may be decided, else why not (Options.Decidable). Who decides by a state that it
// has loaded itself asks first.
func (b *Bus) Decidable(category string) error {
	if b.options.Decidable == nil {
		return nil
	}
	return b.options.Decidable(category)
}

// decidable returns nil when a message may be decided, as far as is known before anything is loaded.
func (b *Bus) decidable(p *plan) error {
	if b.options.Decidable == nil {
		return nil
	}
	for _, w := range p.work {
		if err := b.Decidable(w.stream.Category); err != nil {
			return err
		}
	}
	for _, s := range p.scopes {
		if err := b.decidableOver(s.query); err != nil {
			return err
		}
	}
	return nil
}

// decidableOver returns nil when something may be decided on what a query matches.
func (b *Bus) decidableOver(q eventstore.Query) error {
	if b.options.Decidable == nil {
		return nil
	}
	for i := range q {
		for _, name := range q[i].Types {
			for _, category := range b.writers[name] {
				if err := b.Decidable(category); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// decode decodes an event of any type that is registered.
func (b *Bus) decode(r *eventstore.Recorded) (any, error) {
	decode, ok := b.codecs[r.Type]
	if !ok {
		return nil, fmt.Errorf("decode %s: %w", r.Type, ErrUnknownEvent)
	}
	return decode(r)
}

// Categories lists the categories of the registered aggregates, sorted.
func (b *Bus) Categories() []string { return slices.Sorted(maps.Keys(b.categories)) }

// Dispatch decides commands one after the other, each on what those before it decided, and appends the events of all of
// them in one atomic request. It returns when they are durable as meta asks.
//
// The receipt's first stream is that of the first command, deciders' apart; where all are deciders', the first that their
// events went to, if any. A stream that the message left as it was has First 0, and Last the version at which that was
// decided.
//
// Decisions are made on the streams, and on what queries match, as they stand when the events are appended; when another
// writer was faster, they are made again, a bounded number of times. A conflict with meta.Expect is returned as a *ConflictError and never retried.
// With meta.ID, a message that was applied before returns its original receipt and is not decided again; a message that
// decides nothing is recorded too, so that a repetition decides nothing as well.
//
// Errors: a *Rejection when an aggregate refuses; eventstore.ErrInvalid for commands that are wrong in themselves;
// ErrContended; ErrUnknownCommand and *AggregateError for bugs; and what the store returns. With
// eventstore.ErrDurabilityTimeout the receipt is valid. When ctx ends the events may have been appended or not: repeat
// with the same ID. Commands belong to the bus once dispatched.
func (b *Bus) Dispatch(ctx context.Context, meta Meta, cmds ...any) (eventstore.Receipt, error) {
	return b.handler(ctx, Message{Meta: meta, Commands: cmds})
}

// Stats are what a bus counted since it was made.
type Stats struct {
	// Attempts counts decisions of whole messages, Conflicts those of them that were made in vain because another writer
	// was faster. Repeated counts messages answered with the receipt of an earlier time.
	Attempts, Conflicts, Repeated uint64
	// CacheHits and CacheMisses count states found and states folded from the first event, of streams and of queries; Folded
	// counts events folded. Rewinds counts states that were folded anew because an event of another site had come that stands
	// before what they had folded.
	CacheHits, CacheMisses, Folded, Rewinds uint64
	// SnapshotsTaken counts states that were kept on disk, SnapshotsUsed those that folding began with.
	SnapshotsTaken, SnapshotsUsed uint64
	// CachedStates and CachedBytes are what the cache holds now, in entries and estimated bytes.
	CachedStates, CachedBytes int
}

type counters struct {
	attempts, conflicts, repeated, hits, misses, folded, rewinds, kept, restored atomic.Uint64
}

// Stats returns the bus's counters.
func (b *Bus) Stats() Stats {
	s := Stats{
		Attempts: b.counters.attempts.Load(), Conflicts: b.counters.conflicts.Load(), Repeated: b.counters.repeated.Load(),
		CacheHits: b.counters.hits.Load(), CacheMisses: b.counters.misses.Load(), Folded: b.counters.folded.Load(), Rewinds: b.counters.rewinds.Load(),
		SnapshotsTaken: b.counters.kept.Load(), SnapshotsUsed: b.counters.restored.Load(),
	}
	s.CachedStates, s.CachedBytes = b.cache.held()
	return s
}
