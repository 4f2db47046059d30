package hlc

import (
	"testing"
	"time"
)

// machine is a machine's clocks, set by hand.
type machine struct {
	wall time.Time
	mono time.Duration
}

func (m *machine) read() (time.Time, time.Duration) { return m.wall, m.mono }

func (m *machine) pass(d time.Duration) {
	m.wall, m.mono = m.wall.Add(d), m.mono+d
}

func newMachine() *machine {
	return &machine{wall: time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC), mono: 7 * time.Minute}
}

// A held clock goes on by the monotonic one while the time of day is anywhere else, and follows it when it is told to, or when it is back. It
// shows R24.
func TestSteady(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour, 501 * time.Millisecond, -501 * time.Millisecond, 20 * 365 * 24 * time.Hour} {
		m := newMachine()
		s := NewSteady(SteadyOptions{Read: m.read})
		s.Hold()
		clock := New(s.Now)
		want := m.wall
		expect := func(what string, wantJump time.Duration) {
			t.Helper()
			if got, mono, jump := s.Read(); !got.Equal(want) || mono != m.mono || jump != wantJump {
				t.Fatalf("%s: jumped by %s, %s: it is %s at %s, off by %s; want %s, off by %s", by, what, m.wall, got, mono, jump, want, wantJump)
			}
			if got := clock.Now().Time(); !got.Equal(want.Truncate(time.Millisecond)) {
				t.Fatalf("%s: jumped by %s, events are of %s, want %s", what, by, got, want)
			}
		}
		expect("at first", 0)
		for range 3 {
			m.wall = m.wall.Add(by)
			expect("at once", by)
			m.pass(2 * time.Second)
			want = want.Add(2 * time.Second)
			expect("2 s later", by)
			m.wall = m.wall.Add(-by)
			expect("back again", 0)
		}
		m.wall = m.wall.Add(by)
		if s.Follow(by + time.Second) {
			t.Errorf("jumped by %s: it follows a jump by a second more", by)
		}
		expect("told of another jump", by)
		if !s.Follow(by) {
			t.Errorf("jumped by %s: it does not follow", by)
		}
		if got, _, jump := s.Read(); !got.Equal(m.wall) || jump != 0 {
			t.Errorf("jumped by %s and followed: it is %s, off by %s; want %s", by, got, jump, m.wall)
		}
	}
}

// What a clock is corrected by is followed, step by step; and so is everything before it is held, which is told.
func TestSteadyFollows(t *testing.T) {
	m := newMachine()
	var told []time.Duration
	s := NewSteady(SteadyOptions{Read: m.read, Jumped: func(by time.Duration) { told = append(told, by) }})
	s.Now()
	m.wall = m.wall.Add(time.Hour)
	if got := s.Now(); !got.Equal(m.wall) || len(told) != 1 || told[0] != time.Hour {
		t.Errorf("before it is held it is %s, and was told of %v; want %s and one hour", got, told, m.wall)
	}
	s.Hold()
	for range 10 {
		m.pass(time.Second)
		m.wall = m.wall.Add(-MaxStep)
		if got, _, jump := s.Read(); !got.Equal(m.wall) || jump != 0 {
			t.Fatalf("corrected to %s it is %s, off by %s", m.wall, got, jump)
		}
	}
	if len(told) != 1 {
		t.Errorf("corrections were told as jumps: %v", told)
	}
}

// The machine's own clocks agree with each other.
func TestSteadyOfTheMachine(t *testing.T) {
	s := NewSteady(SteadyOptions{})
	s.Hold()
	before := time.Now()
	now, mono, jump := s.Read()
	if jump != 0 || now.Before(before.Round(0).Add(-MaxStep)) || now.After(time.Now().Add(MaxStep)) || mono < 0 {
		t.Errorf("it is %s at %s, off by %s", now, mono, jump)
	}
	if _, later, _ := s.Read(); later < mono {
		t.Errorf("the monotonic clock goes from %s to %s", mono, later)
	}
}
