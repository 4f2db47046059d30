package pebblestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/reliability"
)

// killedLogs are the logs that a child receives, the same in each process that is told the same moment.
func killedLogs(milliseconds int64) []*elsewhere {
	now := time.UnixMilli(milliseconds)
	return []*elsewhere{newElsewhereAt("far", 3000, now.Add(-time.Hour)), newElsewhereAt("late", 3000, now.Add(time.Hour))}
}

// receiveForEver receives two logs and appends, and says what it was told: "log I SEQ" and "own SEQ".
func receiveForEver() {
	began, err := strconv.ParseInt(os.Getenv(childNext), 10, 64)
	if err != nil {
		panic("when the logs begin: " + err.Error())
	}
	o := Options{Logger: quietLog, IndexBatch: 200, MemTableBytes: 128 << 10, TailBytes: 20_000, CachedStreams: 10, BallastBytes: littleBallast}
	s, err := Open(os.Getenv(childDir), &o)
	if err != nil {
		say("error: %v", err)
		os.Exit(1)
	}
	ctx := context.Background()
	for i, l := range killedLogs(began) {
		h, err := s.logHead(ctx, l.id)
		if err != nil {
			say("error: %v", err)
			os.Exit(1)
		}
		go func() {
			for seq := h.Seq; ; {
				events := l.after(seq, 1+rand.IntN(3))
				if len(events) == 0 {
					return
				}
				seq = events[len(events)-1].Dot.Seq
				if _, err := s.Receive(ctx, events); err != nil {
					say("error: receive: %v", err)
					os.Exit(1)
				}
				say("log %d %d", i, seq)
			}
		}()
	}
	for n := 0; ; n++ {
		if _, err := s.Append(ctx, request("", eventstore.Stream("shared", fmt.Sprint(n%2)), eventstore.Any, 1+n%2)); err != nil {
			say("error: append: %v", err)
			os.Exit(1)
		}
		state, err := s.Log(ctx)
		if err != nil {
			say("error: %v", err)
			os.Exit(1)
		}
		say("own 0 %d", state.Seq)
	}
}

// TestKill9WhileReceiving kills a process that receives and appends, again and again, and examines what each left. It shows S33
// and S4.
func TestKill9WhileReceiving(t *testing.T) {
	kills := 4
	if *reliability.Long {
		kills = 300
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var live string
	var began int64
	var told heldOf
	var logs []*elsewhere
	for n := range kills {
		if !reliability.TimeLeft(t) || t.Failed() {
			return
		}
		if n%6 == 0 { // logs that are all there have nothing more to say
			live, began = t.TempDir(), time.Now().UnixMilli()
			told, logs = heldOf{logs: make([]uint64, 2)}, killedLogs(began)
		}
		c := startChild(t, "receive", filepath.Join(live, "store"), "", childNext+"="+strconv.FormatInt(began, 10))
		most := 1 + rng.IntN(600)
		c.lines.Split(wholeLines)
		for lines := 0; c.lines.Scan(); lines++ {
			var what string
			var i int
			var seq uint64
			if n, _ := fmt.Sscan(c.lines.Text(), &what, &i, &seq); n != 3 || what != "log" && what != "own" {
				t.Fatalf("a child says %q", c.lines.Text())
			}
			if what == "own" {
				told.own = max(told.own, seq)
			} else {
				told.logs[i] = max(told.logs[i], seq)
			}
			if lines == most {
				if err := c.cmd.Process.Kill(); err != nil {
					t.Error(err)
				}
			}
		}
		_ = c.cmd.Wait() // was killed
		left := filepath.Join(t.TempDir(), "left")
		if err := os.CopyFS(left, os.DirFS(live)); err != nil {
			t.Fatal(err)
		}
		examineReceived(t, filepath.Join(left, "store"), &Options{Logger: quietLog, BallastBytes: littleBallast}, told, logs)
	}
}
