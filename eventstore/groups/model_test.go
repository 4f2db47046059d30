package groups_test

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// flaky is a store that can be told to take no appends: what ends then leaves no checkpoint, as if it had been killed.
type flaky struct {
	eventstore.Store
	down atomic.Bool
}

func (f *flaky) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	if f.down.Load() {
		return eventstore.Receipt{}, eventstore.ErrUnavailable
	}
	return f.Store.Append(ctx, r)
}

// fate is what the oracle knows of an event.
type fate struct {
	event   eventstore.Recorded
	settled bool // acknowledged or skipped since it was last handed out
	durable bool // and in a checkpoint
	unsure  bool // or so it was before a crash, of which no checkpoint tells
	parked  bool
	passed  bool // was parked, and its stream may have gone on
	holder  *groups.Delivery
	member  string
	expires time.Time
}

// model holds a group against an oracle: what may be handed out, and what must be in the end.
type model struct {
	t       *rapid.T
	ctx     context.Context
	store   *flaky
	groups  *groups.Groups
	options groups.Options
	s       groups.Settings
	members map[string]*groups.Member
	// fates are of the events that the group wants, in the order of the log.
	fates  []*fate
	head   map[eventstore.StreamID]int
	from   uint64 // lsn that the group began after
	serial int
}

const capacity = 3

// TestModel shows G1, G2, G3, G4 and G5: random appends, members that come, go, die and fall silent, failures, parked
// events, resets, restarts and crashes, against an oracle that knows what may be handed out.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var fault any
		synctest.Test(t, func(t *testing.T) {
			defer func() { // rapid ends a run by a panic, which is to end on its own goroutine
				fault = recover()
				if err, ours := fault.(error); ours {
					rt.Logf("%s", debug.Stack())
					rt.Error(err)
				}
			}()
			runModel(t.Context(), rt)
		})
		// By the line of the panic rapid tells whether a shorter run ends as the one before. What fails and what has nothing
		// left to draw have lines of their own, or it is a run that was cut short that is shown in the end.
		switch {
		case fault == nil:
		case rt.Failed():
			rt.Fatal(fault)
		default:
			panic(fault)
		}
	})
}

func runModel(ctx context.Context, t *rapid.T) {
	m := &model{
		t: t, ctx: ctx, store: &flaky{Store: memstore.New(memstore.Options{})}, members: map[string]*groups.Member{},
		head: map[eventstore.StreamID]int{},
		s: groups.Settings{
			Categories: []string{"order", "stock"}, Lease: 10 * time.Second,
			MaxTries: rapid.IntRange(1, 3).Draw(t, "tries"), PassOver: rapid.Bool().Draw(t, "pass over"),
		},
		options: groups.Options{
			Window: rapid.IntRange(1, 8).Draw(t, "window"), MaxParked: rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "max parked"),
			CheckpointEvents: 1 << 30, CheckpointEvery: time.Hour, Idle: 20 * time.Second,
		},
	}
	m.open()
	if made, err := m.groups.Create(ctx, "g", m.s); err != nil || !made {
		t.Fatalf("create: %v, %v", made, err)
	}
	defer func() {
		if err := errors.Join(m.groups.Close(), m.store.Close()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
	}()
	t.Repeat(map[string]func(*rapid.T){
		"append": m.append, "append again": m.append, "join": m.join, "leave": m.leave, "next": m.next, "next again": m.next, "ack": m.ack, "ack again": m.ack, "nack": m.nack,
		"park": m.park, "retry": m.retry, "skip": m.skip, "wait": m.wait, "flush": m.flush, "restart": m.restart, "crash": m.crash,
		"reset": m.reset, "extend": m.extend,
	})
	m.drain()
}

func (m *model) open() {
	var err error
	if m.groups, err = groups.Open(m.ctx, m.store, m.options); err != nil {
		m.t.Fatal(err)
	}
}

func (m *model) append(t *rapid.T) {
	r := eventstore.Request{}
	for _, c := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"order/1", "order/2", "stock/1", "other/1"}), 1, 2, rapid.ID[string]).Draw(t, "streams") {
		id, err := eventstore.ParseStreamID("default/" + c)
		if err != nil {
			t.Fatal(err)
		}
		var events []eventstore.Event
		for range rapid.IntRange(1, 3).Draw(t, "events") {
			m.serial++
			events = append(events, eventstore.Event{Type: "thing.done.v1", Encoding: eventstore.JSON, Payload: fmt.Append(nil, m.serial)})
		}
		r.Appends = append(r.Appends, eventstore.StreamAppend{Stream: id, Events: events})
	}
	before := m.log()
	if _, err := m.store.Append(m.ctx, r); err != nil {
		t.Fatal(err)
	}
	for e, err := range m.store.ReadAll(m.ctx, before, eventstore.Filter{Categories: m.s.Categories}) {
		if err != nil {
			t.Fatal(err)
		}
		m.fates = append(m.fates, &fate{event: e})
	}
}

func (m *model) log() eventstore.Position {
	state, err := m.store.Log(m.ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	return state.Durable
}

func (m *model) join(t *rapid.T) {
	name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "member")
	member, err := m.groups.Join(m.ctx, "g", name, capacity)
	if err != nil {
		t.Fatal(err)
	}
	if old := m.members[name]; old != nil {
		if _, err := old.Next(m.ctx); !errors.Is(err, groups.ErrReplaced) {
			t.Fatalf("a member that was replaced: %v", err)
		}
	}
	m.gone(name)
	m.members[name] = member
}

// gone forgets what a member had.
func (m *model) gone(name string) {
	for _, f := range m.fates {
		if f.holder != nil && f.member == name {
			d := f.holder
			f.holder = nil
			if err := d.Ack(); !errors.Is(err, groups.ErrLeaseLost) {
				m.t.Fatalf("acknowledged at %s after %s was gone: %v", f.event.Position, name, err)
			}
		}
	}
	delete(m.members, name)
}

func (m *model) some(t *rapid.T) (string, *groups.Member) {
	var names []string
	for name := range m.members {
		names = append(names, name)
	}
	if len(names) == 0 {
		m.join(t)
		return m.some(t)
	}
	slices.Sort(names)
	name := rapid.SampledFrom(names).Draw(t, "member")
	return name, m.members[name]
}

func (m *model) leave(t *rapid.T) {
	name, member := m.some(t)
	if rapid.Bool().Draw(t, "lost") {
		member.Lose("it died")
	} else {
		member.Leave()
	}
	m.gone(name)
}

// next asks for an event and judges the one that comes; nothing may come only when nothing could.
func (m *model) next(t *rapid.T) {
	name, member := m.some(t)
	m.expire()
	for range rapid.IntRange(1, capacity+1).Draw(t, "times") {
		d, ok := m.ask(member)
		if !ok {
			return
		}
		m.judge(name, d)
	}
}

// ask returns what a member is given now.
func (m *model) ask(member *groups.Member) (*groups.Delivery, bool) {
	ctx, cancel := context.WithCancel(m.ctx)
	defer cancel()
	got := make(chan *groups.Delivery, 1)
	go func() {
		d, err := member.Next(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			m.t.Errorf("next: %v", err)
		}
		got <- d
	}()
	synctest.Wait()
	cancel()
	d := <-got
	return d, d != nil
}

func (m *model) judge(name string, d *groups.Delivery) {
	t, held := m.t, 0
	var f *fate
	for _, other := range m.fates {
		if other.event.Position == d.Event.Position {
			f = other
		}
		if other.holder != nil && other.member == name {
			held++
		}
	}
	switch {
	case f == nil:
		t.Fatalf("handed out %s of %s, which the group does not want", d.Event.Position, d.Event.Stream)
	case held >= capacity:
		t.Fatalf("handed out to %s beyond its capacity", name)
	case f.holder != nil:
		t.Fatalf("handed out %s to %s while %s has it", d.Event.Position, name, f.member)
	case f.durable:
		t.Fatalf("handed out %s, which was settled and checkpointed", d.Event.Position)
	case string(d.Event.Payload) != string(f.event.Payload) || d.Event.Version != f.event.Version:
		t.Fatalf("handed out %+v for %+v", d.Event, f.event)
	}
	again := f.settled || f.parked
	f.settled, f.parked, f.unsure = false, false, false
	for _, e := range m.fates {
		if e.event.Stream != f.event.Stream || e == f {
			continue
		}
		switch before := e.event.Version < f.event.Version; {
		case before && !e.settled && !e.passed:
			t.Fatalf("handed out %s of %s before %s is settled", d.Event.Position, d.Event.Stream, e.event.Position)
		case !before && again && !m.s.PassOver:
			e.settled = false // the crash took it back too
			if e.durable {
				t.Fatalf("handed out %s again though %s after it is settled and checkpointed", d.Event.Position, e.event.Position)
			}
		}
	}
	f.holder, f.member, f.expires = d, name, time.Now().Add(m.s.Lease)
}

// held draws a delivery that a member has.
func (m *model) held(t *rapid.T) *fate {
	m.expire()
	have := m.inFlight()
	if len(have) == 0 {
		m.next(t)
		have = m.inFlight()
	}
	if len(have) == 0 {
		t.Skip("nothing is in flight")
	}
	return rapid.SampledFrom(have).Draw(t, "delivery")
}

func (m *model) inFlight() (have []*fate) {
	for _, f := range m.fates {
		if f.holder != nil {
			have = append(have, f)
		}
	}
	return have
}

func (m *model) ack(t *rapid.T) {
	f := m.held(t)
	if err := f.holder.Ack(); err != nil {
		t.Fatalf("ack: %v", err)
	}
	if err := f.holder.Ack(); !errors.Is(err, groups.ErrLeaseLost) {
		t.Fatalf("a second ack: %v", err)
	}
	f.holder, f.settled = nil, true
}

func (m *model) nack(t *rapid.T) {
	f := m.held(t)
	after := time.Duration(rapid.IntRange(0, 2).Draw(t, "after")) * time.Second
	if err := f.holder.Nack(after, "not now"); err != nil {
		t.Fatalf("nack: %v", err)
	}
	f.holder = nil
}

func (m *model) park(t *rapid.T) {
	f := m.held(t)
	if err := f.holder.Park("bad"); err != nil {
		t.Fatalf("park: %v", err)
	}
	f.holder = nil
}

func (m *model) extend(t *rapid.T) {
	f := m.held(t)
	if err := f.holder.Extend(); err != nil {
		t.Fatalf("extend: %v", err)
	}
	f.expires = time.Now().Add(m.s.Lease)
}

// look brings the oracle's view of what is parked up to date: an event whose tries are over is parked by the group itself.
func (m *model) look() []groups.Parked {
	list, err := m.groups.ListParked(m.ctx, "g")
	if err != nil {
		m.t.Fatalf("list parked: %v", err)
	}
	for _, p := range list {
		for _, f := range m.fates {
			if f.event.Position == p.Position {
				f.passed = m.s.PassOver
				f.parked = f.parked || f.holder == nil && !p.Retrying
			}
		}
	}
	return list
}

func (m *model) retry(t *rapid.T) {
	m.look()
	if _, err := m.groups.RetryParked(m.ctx, "g", eventstore.Position{}); err != nil {
		t.Fatalf("retry: %v", err)
	}
	m.saved()
}

func (m *model) skip(t *rapid.T) {
	list := slices.DeleteFunc(m.look(), func(p groups.Parked) bool { return p.Retrying })
	if len(list) == 0 {
		t.Skip("nothing is parked")
	}
	p := rapid.SampledFrom(list).Draw(t, "parked")
	if err := m.groups.SkipParked(m.ctx, "g", p.Position); err != nil {
		t.Fatalf("skip: %v", err)
	}
	for _, f := range m.fates {
		if f.event.Position == p.Position {
			f.settled, f.parked, f.unsure = true, false, false
		}
	}
	m.saved()
}

func (m *model) wait(t *rapid.T) {
	time.Sleep(time.Duration(rapid.SampledFrom([]int{1, 3, 9, 11, 60}).Draw(t, "seconds")) * time.Second)
	m.expire()
}

// expire takes what is beyond its lease from its holder.
func (m *model) expire() {
	synctest.Wait()
	m.look()
	for _, f := range m.fates {
		if f.holder != nil && !f.expires.After(time.Now()) {
			if err := f.holder.Ack(); !errors.Is(err, groups.ErrLeaseLost) {
				m.t.Fatalf("ack after the lease: %v", err)
			}
			f.holder = nil
		}
	}
}

// saved notes that all that is settled is in a checkpoint now.
func (m *model) saved() {
	for _, f := range m.fates {
		f.durable = f.settled && !f.unsure
	}
}

func (m *model) flush(t *rapid.T) {
	_, member := m.some(t)
	if err := member.Flush(m.ctx); err != nil {
		t.Fatalf("flush: %v", err)
	}
	m.saved()
}

func (m *model) restart(*rapid.T) {
	if err := m.groups.Close(); err != nil {
		m.t.Fatalf("close: %v", err)
	}
	m.saved()
	m.reopen()
}

func (m *model) crash(*rapid.T) {
	m.store.down.Store(true)
	_ = m.groups.Close() // its checkpoint cannot be written
	m.store.down.Store(false)
	for _, f := range m.fates {
		f.unsure = f.settled && !f.durable
	}
	m.reopen()
}

func (m *model) reopen() {
	for name, member := range m.members {
		if _, err := member.Next(m.ctx); !errors.Is(err, eventstore.ErrClosed) {
			m.t.Fatalf("a member of groups that are closed: %v", err)
		}
		m.gone(name)
	}
	m.open()
	m.look()
}

func (m *model) reset(t *rapid.T) {
	if rapid.IntRange(0, 3).Draw(t, "seldom") > 0 {
		t.Skip("seldom")
	}
	to := eventstore.Position{Incarnation: 1, LSN: rapid.Uint64Range(0, m.log().LSN).Draw(t, "to")}
	if at, err := m.groups.Reset(m.ctx, "g", groups.Start{Position: to}, "ops"); err != nil || at != to {
		t.Fatalf("reset: %s, %v", at, err)
	}
	m.from = to.LSN
	for _, f := range m.fates {
		if f.holder != nil {
			if err := f.holder.Ack(); !errors.Is(err, groups.ErrLeaseLost) {
				t.Fatalf("ack after a reset: %v", err)
			}
		}
		done := f.event.Position.LSN <= to.LSN
		*f = fate{event: f.event, settled: done, durable: done}
	}
}

// drain settles all that is left: every event that the group wants must come.
func (m *model) drain() {
	for name := range m.members {
		m.members[name].Leave()
		m.gone(name)
	}
	member, err := m.groups.Join(m.ctx, "g", "last", 1)
	if err != nil {
		m.t.Fatal(err)
	}
	m.members["last"] = member
	for round := 0; ; round++ {
		time.Sleep(time.Minute) // what was delayed goes on
		m.look()
		if _, err := m.groups.RetryParked(m.ctx, "g", eventstore.Position{}); err != nil {
			m.t.Fatal(err)
		}
		n := 0
		for d, ok := m.ask(member); ok; d, ok = m.ask(member) {
			m.judge("last", d)
			if err := d.Ack(); err != nil {
				m.t.Fatal(err)
			}
			for _, f := range m.fates {
				if f.holder == d {
					f.holder, f.settled = nil, true
				}
			}
			n++
		}
		if n == 0 && round > 0 {
			break
		}
	}
	info, err := m.groups.Describe(m.ctx, "g")
	if err != nil || info.Cursor != info.Head || info.Parked+info.InFlight+info.Waiting > 0 {
		m.t.Fatalf("after all is settled: %+v, %v", info, err)
	}
	for _, f := range m.fates {
		if !f.settled {
			m.t.Fatalf("event at %s was never settled", f.event.Position)
		}
	}
}
