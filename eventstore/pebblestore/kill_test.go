package pebblestore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/reliability"
)

// childNext tells a child at which request each writer goes on.
const childNext = "PEBBLESTORE_TEST_NEXT"

var printing sync.Mutex

// say prints a line for the process that started this one.
func say(format string, args ...any) {
	printing.Lock()
	defer printing.Unlock()
	fmt.Printf(format+"\n", args...)
}

// sayAppend appends and says so: "ask ID" before, "ack ID FIRST LAST" or "no ID" after it. It returns false after an error.
func sayAppend(s *Store, w work) bool {
	say("ask %s", w.id())
	receipt, err := s.Append(context.Background(), w.request())
	switch {
	case err == nil:
		say("ack %s %d %d", w.id(), receipt.First.LSN, receipt.Position.LSN)
	case errors.Is(err, eventstore.ErrConflict) && w.isClaim():
		say("no %s", w.id())
	default:
		say("error: request %s: %v", w.id(), err)
		return false
	}
	return true
}

// workForEver has all writers append, and say so. Now and then a writer repeats an old request.
func workForEver() {
	o := Options{Logger: quietLog, IndexBatch: 200, MemTableBytes: 128 << 10, TailBytes: 20_000, CachedStreams: 10, BallastBytes: littleBallast}
	s, err := Open(os.Getenv(childDir), &o)
	if err != nil {
		say("error: %v", err)
		os.Exit(1)
	}
	for w, next := range strings.Split(os.Getenv(childNext), ",") {
		begin, err := strconv.Atoi(next)
		if err != nil {
			panic("next request: " + err.Error())
		}
		go func() {
			for n := begin; ; n++ {
				now := work{w, n}
				if n > begin && rand.IntN(10) == 0 {
					now.n = rand.IntN(n) // an old one; n has its turn next
					n--
				}
				if !sayAppend(s, now) {
					os.Exit(1)
				}
			}
		}()
	}
	select {}
}

// answers notes what a child says of its requests, until it ends, and calls heard after each answer. Other lines go to
// other, which returns false for those that must not be.
func (c *child) answers(l *ledger, other func(line string) bool, heard func()) {
	c.lines.Split(wholeLines)
	for c.lines.Scan() {
		verb, rest, _ := strings.Cut(c.lines.Text(), " ")
		id, places, _ := strings.Cut(rest, " ")
		w, ok := parseWork(id)
		if !ok {
			if !other(c.lines.Text()) {
				return
			}
			continue
		}
		switch verb {
		case "ask":
			l.asked[w.writer] = max(l.asked[w.writer], w.n+1)
			continue
		case "ack":
			var at eventstore.Receipt
			if n, _ := fmt.Sscan(places, &at.First.LSN, &at.Position.LSN); n != 2 && !other(c.lines.Text()) {
				return
			}
			l.tell(w, at, nil)
		case "no":
			l.tell(w, eventstore.Receipt{}, &eventstore.ConflictError{})
		}
		heard()
	}
}

// killings are what the kills of a test have shown so far.
type killings struct {
	mu     sync.Mutex // guards what follows
	result reliability.Result
	f      findings
	took   []time.Duration // to open what was left
	opened int             // killed after the first answer; the others were while they opened
}

// TestKill9 kills a process in full flight, again and again, and examines what each left. The next one goes on from there,
// and first repeats what was under way. It is T1 of docs/reliability.md, and shows S2, S3, S4, S5, S7 and S16.
func TestKill9(t *testing.T) {
	logs, kills := 2, 10 // of each log: one that grows for ever would make the examination slow
	if *reliability.Long {
		logs, kills = 50, 20
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	k := &killings{result: reliability.Result{Test: "T1", What: "a process on this machine's disk", Seed: seed}}
	sideBySide(logs, 3, func(n int) bool {
		dir := t.TempDir()
		defer os.RemoveAll(dir)
		return k.killAgainAndAgain(t, dir, kills, rand.New(rand.NewPCG(seed, uint64(n))))
	})
	result := &k.result
	k.f.report(t, fmt.Sprintf("after %d kills", result.Cycles))
	result.Lost, result.Duplicated, result.Phantom, result.Violations = len(k.f.lost), len(k.f.duplicated), len(k.f.phantom), len(k.f.violations)
	result.P50, result.P99 = reliability.Percentiles(k.took)
	result.Extra = map[string]any{"killed while appending": k.opened}
	result.Print(t)
	if k.opened < result.Cycles/3 {
		t.Errorf("only %d of %d processes had given an answer when they were killed", k.opened, result.Cycles)
	}
}

// killAgainAndAgain has processes work on a log in a folder, one after another, and kills each. It returns false when there
// is something wrong, or no time left.
func (k *killings) killAgainAndAgain(t *testing.T, dir string, times int, rng *rand.Rand) bool {
	l := newLedger()
	if err := os.Mkdir(filepath.Join(dir, "live"), 0o700); err != nil {
		t.Error(err)
		return false
	}
	for range times {
		if !reliability.TimeLeft(t) || t.Failed() {
			return false
		}
		before := len(l.told)
		answers := workUntilKilled(t, filepath.Join(dir, "live", "store"), l, rng)
		f, took := examineCopy(t, filepath.Join(dir, "live"), filepath.Join(dir, "left"), l)
		k.mu.Lock()
		k.result.Cycles++
		k.result.Acked += len(l.told) - before
		if answers > 0 {
			k.opened++
		}
		k.took = append(k.took, took)
		k.f.add(f)
		sound := k.f.count() == 0
		k.mu.Unlock()
		if !sound {
			return false
		}
	}
	return true
}

// examineCopy examines what a kill left in a copy, so that the next process finds it as it is, and says how long it took to
// open.
func examineCopy(t *testing.T, live, left string, l *ledger) (f findings, took time.Duration) {
	if err := os.CopyFS(left, os.DirFS(live)); err != nil {
		t.Error(err)
		return f, 0
	}
	defer os.RemoveAll(left)
	began := time.Now()
	s, err := Open(filepath.Join(left, "store"), &Options{Logger: quietLog, BallastBytes: littleBallast})
	took = time.Since(began)
	if err != nil {
		note(&f.lost, "open: %v", err)
		return f, took
	}
	f = l.examine(context.Background(), s)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return f, took
}

// workUntilKilled runs a child and kills it at a moment that is drawn. It notes what the child was told, and returns how
// many answers there were.
func workUntilKilled(t *testing.T, dir string, l *ledger, rng *rand.Rand) (answers int) {
	t.Helper()
	var next []string
	for _, n := range l.next {
		next = append(next, fmt.Sprint(n))
	}
	c := startChild(t, "work", dir, "", childNext+"="+strings.Join(next, ","))
	// Some die while they open, most after a number of answers.
	most := -1
	if rng.IntN(10) > 0 {
		most = 1 + rng.IntN(600)
	} else {
		after := time.AfterFunc(time.Duration(rng.IntN(60))*time.Millisecond, func() { _ = c.cmd.Process.Kill() })
		defer after.Stop()
	}
	unwanted := func(line string) bool {
		t.Errorf("a child says %q", line)
		return false
	}
	c.answers(l, unwanted, func() {
		if answers++; answers == most {
			if err := c.cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	})
	_ = c.cmd.Wait() // was killed
	return answers
}

// wholeLines splits lines as bufio.ScanLines does, and drops a last one that was cut off.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	advance, token, err = bufio.ScanLines(data, atEOF)
	if atEOF && advance == len(data) && len(data) > 0 && data[len(data)-1] != '\n' {
		return len(data), nil, nil
	}
	return advance, token, err
}
