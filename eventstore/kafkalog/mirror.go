package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/tributary-es/tributary/eventstore"
)

// Errors that stop a mirror for good: each needs somebody to look.
var (
	// ErrFenced: another mirror has taken over this partition.
	ErrFenced = errors.New("another mirror has taken over")
	// ErrForked: the topic holds, at a place that the log has too, another event than the log.
	ErrForked = errors.New("topic is not a copy of this log")
	// ErrBehind: the topic holds events beyond the log's durable end: the log has lost its tail, or was restored from an
	// older copy. Nothing may be appended to such a log under the same incarnation.
	ErrBehind = errors.New("log is behind its topic")
)

// State is what a mirror is doing.
type State string

// The states of a mirror.
const (
	StateStopped    State = "stopped"    // Run is not running
	StateConnecting State = "connecting" // the brokers are not reached
	StateFencing    State = "fencing"    // taking over the partition and looking for its end
	StateMirroring  State = "mirroring"  // copying, or up to date
	StateFenced     State = "fenced"     // stopped by ErrFenced
	StateForked     State = "forked"     // stopped by ErrForked, ErrBehind or a corrupt record
)

// Status says how a mirror is doing.
type Status struct {
	State     State
	Topic     string
	Partition int
	// Mirrored is the last event that is in the topic; Position is the place of the log up to which nothing is missing
	// there.
	Mirrored eventstore.Dot
	Position eventstore.Position
	// Head is the seq of the log's last durable own event as last seen, Lag how far its durable end is ahead of Position.
	Head, Lag uint64
	durable   uint64 // lsn, as last seen
	// Events, Heartbeats and Sessions count what this mirror has written since it was made: events (those published again
	// count again), heartbeats, and the times it took over the partition.
	Events, Heartbeats, Sessions uint64
	// TopicFaults are settings of the topic that are weaker than they should be.
	TopicFaults []string
	// Silent is since when the brokers have not answered a batch that is on its way; zero while they answer. The mirror waits for them.
	Silent time.Time
	// Err is what went wrong last; nil when nothing has since the last batch was acknowledged.
	Err error
}

// Mirror copies a log's own events to its topic. Run does the work; the other methods are safe for concurrent use.
type Mirror struct {
	store   eventstore.Reader
	options Options
	silence silence
	waiting atomic.Int64  // calls of Wait
	wake    chan struct{} // has something when one has begun, maybe since ended

	mu      sync.Mutex // guards what follows
	status  Status
	changed chan struct{} // closed and replaced when status changes
}

// NewMirror returns a mirror of a store. It does nothing until Run.
func NewMirror(store eventstore.Reader, o Options) *Mirror {
	return &Mirror{store: store, options: o, status: Status{State: StateStopped}, changed: make(chan struct{}), wake: make(chan struct{}, 1)}
}

// Status returns how the mirror is doing.
func (m *Mirror) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	if s.durable > s.Position.LSN {
		s.Lag = s.durable - s.Position.LSN
	}
	return s
}

func (m *Mirror) update(change func(*Status)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.status)
	close(m.changed)
	m.changed = make(chan struct{})
}

// Wait returns when every own event up to a position of the log is in the topic, acknowledged by all its in-sync replicas.
// It ends with ctx's error, or with ErrUnavailable when the mirror has stopped by itself.
func (m *Mirror) Wait(ctx context.Context, p eventstore.Position) error {
	m.waiting.Add(1)
	defer m.waiting.Add(-1)
	select {
	case m.wake <- struct{}{}:
	default: // it has not been seen yet that another one has begun
	}
	return m.until(ctx, "wait for the mirror at "+p.String(), func(s *Status) bool {
		return p.IsZero() || s.Position.Incarnation == p.Incarnation && s.Position.LSN >= p.LSN
	})
}

// Ready returns when the mirror copies. It ends as Wait does.
func (m *Mirror) Ready(ctx context.Context) error {
	return m.until(ctx, "wait for the mirror to begin", func(s *Status) bool { return s.State == StateMirroring })
}

// until waits for a status.
func (m *Mirror) until(ctx context.Context, what string, reached func(*Status) bool) error {
	for {
		m.mu.Lock()
		status, changed := m.status, m.changed
		m.mu.Unlock()
		switch {
		case reached(&status):
			return nil
		case status.State == StateFenced || status.State == StateForked:
			return fmt.Errorf("%s: %w: %w", what, eventstore.ErrUnavailable, status.Err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
	}
}

// Run copies until ctx ends, and then returns nil. Brokers that are down, slow or restarted only make it wait: nothing
// else depends on it, and the backlog drains after. It returns an error when going on would do harm: ErrFenced, ErrForked,
// ErrBehind, eventstore.ErrCorrupt for a record at the topic's end that does not verify, eventstore.ErrClosed when the
// store is closed, eventstore.ErrInvalid for impossible options. It is called once at a time.
func (m *Mirror) Run(ctx context.Context) error {
	err := m.run(ctx)
	m.update(func(s *Status) {
		switch {
		case errors.Is(err, ErrFenced):
			s.State = StateFenced
		case errors.Is(err, ErrForked), errors.Is(err, ErrBehind), errors.Is(err, eventstore.ErrCorrupt):
			s.State = StateForked
		default:
			s.State = StateStopped
		}
		s.Silent = time.Time{}
		if err != nil {
			s.Err = err
		}
	})
	return err
}

func (m *Mirror) run(ctx context.Context) error {
	state, err := m.store.Log(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	o, err := m.options.withDefaults(state.ID)
	if err != nil {
		return fmt.Errorf("mirror: %w", err)
	}
	m.update(func(s *Status) {
		s.State, s.Topic, s.Partition, s.Err = StateConnecting, o.Topic, o.Partition, nil
		s.Head, s.durable = state.Seq, state.Durable.LSN
	})
	w := &writer{
		mirror: m, store: m.store, o: o, log: state.ID,
		name: strconv.FormatUint(rand.Uint64(), 16), held: noProducer, written: -1, before: -1, batchBytes: o.BatchBytes,
	}
	w.logger = o.Logger.With("topic", o.Topic, "partition", o.Partition)
	if o.Checkpoint != nil {
		if w.mark, err = o.Checkpoint.Load(); err != nil {
			w.logger.Warn("mirror goes on without its checkpoint", "error", err)
		}
	}
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer stop()
	watch.Go(func() { m.watchBrokers(watching, &o) })
	return w.run(ctx)
}

// run holds the partition in one session after another.
func (w *writer) run(ctx context.Context) error {
	pauses := backoff{max: w.o.MaxBackoff}
	down := time.Time{}
	for {
		err := w.session(ctx, func() {
			pauses.reset()
			if !down.IsZero() {
				w.logger.Info("mirror is back", "after", time.Since(down).Round(time.Millisecond))
				down = time.Time{}
			}
		})
		w.saveMark()
		switch {
		case ctx.Err() != nil:
			return nil
		case stops(err) && (!w.o.Returning || !errors.Is(err, errLeftOut)):
			return fmt.Errorf("mirror to %s/%d: %w", w.o.Topic, w.o.Partition, err)
		case errors.Is(err, errSessionOld):
			continue
		case errors.Is(err, errTopicMade):
			w.logger.Info("topic made")
		case w.written < 0 && settling(err):
			w.logger.Debug("brokers are not ready yet", "error", err)
		case down.IsZero():
			down = time.Now()
			w.logger.Warn("mirror is interrupted and tries again", "error", err)
		}
		w.mirror.update(func(s *Status) {
			s.State = StateConnecting
			if !errors.Is(err, errTopicMade) {
				s.Err = err
			}
		})
		select {
		case <-time.After(pauses.pause()):
		case <-ctx.Done():
			return nil
		}
	}
}

// stops reports whether trying again would do harm or be vain.
func stops(err error) bool {
	if errors.Is(err, eventstore.ErrDamaged) { // of the log, which may be mended
		return false
	}
	for _, fatal := range []error{ErrFenced, ErrForked, ErrBehind, eventstore.ErrCorrupt, eventstore.ErrClosed, eventstore.ErrWrongIncarnation} {
		if errors.Is(err, fatal) {
			return true
		}
	}
	return false
}

// settling reports whether the error is one that brokers give in the moments after a topic, or their first producer id, was
// asked for.
func settling(err error) bool {
	return errors.Is(err, kafka.NotCoordinatorForGroup) || errors.Is(err, kafka.GroupLoadInProgress) || errors.Is(err, kafka.GroupCoordinatorNotAvailable) ||
		errors.Is(err, protocol.ErrNoPartition) || errors.Is(err, protocol.ErrNoLeader)
}

// fenced reports whether a broker refused because another producer holds the transactional id.
func fenced(err error) bool {
	return errors.Is(err, kafka.InvalidProducerEpoch) || errors.Is(err, kafka.ProducerFenced)
}

// forgotten reports whether the brokers no longer know the producer that is held: it expired, or they lost their state.
func forgotten(err error) bool {
	return errors.Is(err, kafka.InvalidProducerIDMapping) || errors.Is(err, kafka.UnknownProducerId)
}
