package projections

import (
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// State says what a runner does.
type State string

// The states of a runner.
const (
	Starting   State = "starting"    // Run is yet to be called, or it looks at source and sink
	Rebuilding State = "rebuilding"  // there is no model to answer from until it is filled
	CatchingUp State = "catching up" // it folds what is already in the log
	Live       State = "live"        // it has all that is durable, or is less than liveLag behind
	Retrying   State = "retrying"    // source or sink cannot be reached, LastError says why
	Damaged    State = "damaged"     // files of the log are damaged where it has to be read; tried again, for it may be repaired
	Paused     State = "paused"      // an operator, or a rebuild that cuts over, holds it still
	Stopped    State = "stopped"     // Run has returned
)

// liveLag is how far behind a projection is still called live.
const liveLag = 2 * time.Second

// Status is a view of a runner at one time.
type Status struct {
	Name string `json:"name"`
	// Version is that of the projection, 0 when the sink does not say.
	Version int   `json:"version"`
	State   State `json:"state"`
	// Position is how far the log is folded; Head is how far it was last seen to be durable.
	Position eventstore.Position `json:"position"`
	Head     eventstore.Position `json:"head"`
	// LagEvents is how many entries of the log lie between; of a model that is being filled, and answers nobody until it has all, it is
	// how many are not in it yet. LagSeconds is the age of the oldest of them that is known.
	LagEvents  uint64  `json:"lag_events"`
	LagSeconds float64 `json:"lag_seconds"`
	// Events counts the entries of the log that were folded since the runner was made, EventsPerSecond those of the
	// last ten seconds.
	Events          uint64  `json:"events"`
	EventsPerSecond float64 `json:"events_per_second"`
	// Parked is the number of parked events that is known of.
	Parked int `json:"parked"`
	// Rebuild tells of a rebuild under way, Rebuilds counts the finished ones since the runner was made.
	Rebuild  *RebuildProgress `json:"rebuild,omitempty"`
	Rebuilds int              `json:"rebuilds"`
	// LastError is what last went wrong and LastErrorAt when; they stay when it goes well again.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
}

// board is what a runner writes its status on.
type board struct {
	mu     sync.Mutex // guards what follows
	status Status
	// behindSince is when the runner was last known to be up to date, oldest the time of the oldest event it has read
	// and not folded.
	behindSince, oldest time.Time
	// known: the sink has a model to read from, as far as it was last seen. sinkDown: it cannot be reached.
	known, sinkDown bool
	// cause is what Status.LastError says.
	cause error
	// uncounted: events may be parked that Status.Parked does not count.
	uncounted bool
	meter     meter
}

// update changes the board under its mutex.
func (b *board) update(change func(*Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(&b.status)
}

// fault notes an error and the state that it leads to.
func (b *board) fault(state State, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cause = err
	b.status.State, b.status.LastError, b.status.LastErrorAt = state, err.Error(), time.Now()
}

// head notes how far the log is durable.
func (b *board) head(p eventstore.Position, oldest time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.status.Head.Compare(p) < 0 {
		b.status.Head = p
	}
	b.oldest = oldest
	b.settle()
}

// folded notes that the log is folded up to p, read entries further than before.
func (b *board) folded(p eventstore.Position, read uint64, oldest time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := &b.status
	s.Position = p
	if s.Head.Compare(p) < 0 {
		s.Head = p
	}
	s.Events += read
	b.meter.add(time.Now(), read)
	b.oldest = oldest
	b.settle()
}

// Damage returns what is wrong with the log while the state is Damaged, else nil.
func (r *Runner) Damage() error { return r.board.damage() }

// damage returns what is wrong with the log while the state is Damaged, else nil.
func (b *board) damage() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.status.State != Damaged {
		return nil
	}
	return b.cause
}

// settle notes the time when there is no lag. REQUIRES: b.mu is held.
func (b *board) settle() {
	if b.status.Position.Compare(b.status.Head) >= 0 {
		b.behindSince, b.oldest = time.Now(), time.Time{}
	}
}

// read returns the status as it is now.
func (b *board) read() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, now := b.status, time.Now()
	if s.Rebuild != nil {
		p := *s.Rebuild
		s.Rebuild = &p
	}
	s.EventsPerSecond = b.meter.rate(now)
	if s.Position.Compare(s.Head) < 0 {
		s.LagEvents = s.Head.LSN
		if s.Position.Incarnation == s.Head.Incarnation {
			s.LagEvents = s.Head.LSN - s.Position.LSN
		}
		if s.State == Rebuilding && s.Rebuild != nil {
			s.LagEvents = max(1, s.Head.LSN-min(s.Head.LSN, s.Rebuild.Done))
		}
		since := b.behindSince
		if !b.oldest.IsZero() && (since.IsZero() || b.oldest.Before(since)) {
			since = b.oldest
		}
		if !since.IsZero() {
			s.LagSeconds = max(0, now.Sub(since).Seconds())
		}
	}
	if s.State == Live && (s.LagSeconds > liveLag.Seconds() || s.LagEvents > 0 && s.LagSeconds == 0) {
		s.State = CatchingUp
	}
	return s
}

// meterSeconds is the span of time over which a meter averages.
const meterSeconds = 10

// meter counts events by second in a ring.
type meter struct {
	started time.Time
	seconds [meterSeconds + 1]int64
	counts  [meterSeconds + 1]uint64
}

func (m *meter) add(now time.Time, n uint64) {
	if m.started.IsZero() {
		m.started = now
	}
	i := now.Unix() % int64(len(m.counts))
	if m.seconds[i] != now.Unix() {
		m.seconds[i], m.counts[i] = now.Unix(), 0
	}
	m.counts[i] += n
}

func (m *meter) rate(now time.Time) float64 {
	if m.started.IsZero() {
		return 0
	}
	var sum uint64
	for i, second := range m.seconds {
		if now.Unix()-second < meterSeconds {
			sum += m.counts[i]
		}
	}
	return float64(sum) / min(meterSeconds, max(1, now.Sub(m.started).Seconds()))
}
