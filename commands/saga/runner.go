package saga

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// ErrStopped: the runner's Run has returned.
var ErrStopped = errors.New("saga runner has stopped")

// Dispatcher is what a runner needs of a *commands.Bus.
type Dispatcher interface {
	Dispatch(ctx context.Context, meta commands.Meta, cmds ...any) (eventstore.Receipt, error)
}

// Options tune a Runner. The zero value is good.
type Options struct {
	// Workers is how many instances are worked on at a time; zero means 16.
	Workers int
	// Queue bounds the instances that have something to do, those that wait to be tried again included: beyond it no
	// triggers are read. Zero means 4,096.
	Queue int
	// Timeout bounds one dispatch and one access to the store; what takes longer is tried again. Zero means 30 s.
	Timeout time.Duration
	// Backoff returns how long to wait before the n-th retry (from 1) of something that failed for the moment. Nil means
	// 50 ms, doubled each time up to 30 s, give or take a half.
	Backoff func(n int) time.Duration
	// A checkpoint is written after CheckpointTriggers triggers, or after CheckpointEvery when there was any; zeros mean
	// 1,000 and 5 s.
	CheckpointTriggers int
	CheckpointEvery    time.Duration
	// Grace is how long Run waits at its end for what is under way; zero means 5 s.
	Grace time.Duration
	// Recent is how many messages of ended instances the outbox still shows; zero means 1,000.
	Recent int
	// Void is set where other sites write streams that are written here: it says which events of a stream do not count, and why
	// (commands.Bus.Void). Instances that begin then have the site in their names, and those whose triggers do not count are
	// told.
	Void func(ctx context.Context, stream eventstore.StreamID) (map[eventstore.Dot]string, error)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log is told of parked instances and of checkpoints that could not be written; nil means slog.Default().
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	orElse := func(n *int, otherwise int) {
		if *n <= 0 {
			*n = otherwise
		}
	}
	orElse(&o.Workers, 16)
	orElse(&o.Queue, 4096)
	orElse(&o.CheckpointTriggers, 1000)
	orElse(&o.Recent, 1000)
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	if o.CheckpointEvery <= 0 {
		o.CheckpointEvery = 5 * time.Second
	}
	if o.Grace <= 0 {
		o.Grace = 5 * time.Second
	}
	if o.Backoff == nil {
		o.Backoff = defaultBackoff
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

func defaultBackoff(n int) time.Duration {
	d := min(50*time.Millisecond<<min(n-1, 12), 30*time.Second)
	return d/2 + rand.N(d)
}

// Runner runs the instances of one saga, of all tenants. Its methods are safe for concurrent use.
//
// Two runners of one saga over the same store do no harm, only needless work.
type Runner struct {
	store      eventstore.Store
	bus        Dispatcher
	definition definition
	options    Options
	site       string // of the log; written before anything is read
	// partBytes bounds the payload of a checkpoint event.
	partBytes int

	// earlier tells the alarm loop that its next alarm has changed, due the checkpointer that there is enough to write.
	earlier, due chan struct{}

	mu    sync.Mutex // guards all below
	room  *sync.Cond // intake waits here for busy to sink
	work  *sync.Cond // workers wait here for ready instances
	state state
	// subscribed: the log has accepted the position to read on from. Before that read says nothing.
	subscribed bool
	instances  map[instanceKey]*instance
	ready      []*instance
	busy       int // instances that will do something by themselves
	parked     int
	lastFault  string
	alarms     alarmHeap
	recent     []*Message
	// read is how far triggers were read; marks are those among them that are not dealt with, in order.
	read  eventstore.Position
	marks []*mark
	// changed is closed and replaced when somebody in Idle should look again.
	changed chan struct{}
	waiters int
	// reread: the next Run reads all triggers again.
	reread bool

	checkpoint checkpointState
}

type state uint8

const (
	unstarted state = iota
	started
	stopping
	stopped
)

// New returns a runner that is yet to run. Errors: what is wrong with the definition.
func New[S any](store eventstore.Store, bus Dispatcher, d Definition[S], o Options) (*Runner, error) {
	erased, err := erase(d)
	if err != nil {
		return nil, fmt.Errorf("saga %q: %w", d.Name, err)
	}
	r := &Runner{
		store: store, bus: bus, definition: erased, options: o.withDefaults(),
		partBytes: eventstore.MaxPayloadBytes,
		earlier:   make(chan struct{}, 1), due: make(chan struct{}, 1), changed: make(chan struct{}),
	}
	r.room, r.work = sync.NewCond(&r.mu), sync.NewCond(&r.mu)
	r.reset()
	return r, nil
}

// reset forgets all instances. REQUIRES: mu is held, or nobody knows the runner.
func (r *Runner) reset() {
	r.instances = map[instanceKey]*instance{}
	r.ready, r.busy, r.parked, r.alarms, r.marks = nil, 0, 0, nil, nil
	r.read, r.subscribed, r.lastFault = eventstore.Position{}, false, ""
	r.checkpoint = checkpointState{dirty: map[instanceKey]bool{}}
}

// Run runs the saga until ctx ends, then it finishes what is under way (for at most Options.Grace), writes a checkpoint
// and returns nil. It returns an error when the log cannot be read; what is wrong with single instances parks them, and so
// it does with triggers whose instance cannot be told. It is called once at a time; it may be called again after it has
// returned.
func (r *Runner) Run(ctx context.Context) error {
	r.mu.Lock()
	if r.state == started || r.state == stopping {
		r.mu.Unlock()
		return fmt.Errorf("saga %s: it is running already", r.definition.name)
	}
	r.reset()
	r.state = started
	r.mu.Unlock()

	err := r.run(ctx)

	r.mu.Lock()
	r.state = stopped
	for _, i := range r.instances {
		i.answer(fmt.Errorf("saga %s: %w", r.definition.name, ErrStopped))
	}
	r.announce()
	r.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("saga %s: %w", r.definition.name, err)
	}
	return nil
}

// Reread has the next Run look at every instance that any trigger in the log is for, also at those that have ended: steps of an earlier
// life of the log may have come, beside which those do not count that an instance has ended with.
func (r *Runner) Reread() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reread = true
}

// rereads reports, once, whether all triggers are to be read again.
func (r *Runner) rereads() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	again := r.reread
	r.reread = false
	return again
}

func (r *Runner) run(ctx context.Context) error {
	state, err := r.store.Log(ctx)
	if err != nil {
		return fmt.Errorf("ask for the log's name: %w", err)
	}
	r.site = state.ID.Site
	from, err := r.resume(ctx)
	if err != nil {
		return err
	}
	if r.rereads() {
		from = eventstore.Position{}
	}
	// What is under way when ctx ends may finish; operations end the moment they are cancelled.
	operations, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	helpers, stopHelpers := context.WithCancel(operations)
	defer stopHelpers()

	var workers, others sync.WaitGroup
	for range r.options.Workers {
		workers.Go(func() { r.runWorker(operations) })
	}
	others.Go(func() { r.runAlarms(helpers) })
	others.Go(func() { r.runCheckpoints(helpers) })
	told := make(chan struct{})
	unneeded := context.AfterFunc(ctx, func() {
		defer close(told)
		r.stop()
	})

	err = r.intake(ctx, from)

	if !unneeded() {
		<-told
	}
	r.stop()
	grace := time.AfterFunc(r.options.Grace, cancel)
	workers.Wait()
	grace.Stop()
	stopHelpers()
	others.Wait()
	return errors.Join(err, r.lastCheckpoint(ctx))
}

// stop makes workers and intake end after what they are doing.
func (r *Runner) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = stopping
	r.work.Broadcast()
	r.room.Broadcast()
}
