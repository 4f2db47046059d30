package main

import (
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// progress shows how far long work is, with rate and time left: a bar on a terminal, else a line every few seconds.
// With --json there is none of it. It is safe for concurrent use.
type progress struct {
	g    *globals
	name string
	unit string

	mu    sync.Mutex // guards what follows
	pool  *mpb.Progress
	bar   *mpb.Bar
	begun time.Time
	said  time.Time
}

const sayEvery = 5 * time.Second

func newProgress(g *globals, name, unit string) *progress {
	return &progress{g: g, name: name, unit: unit, begun: time.Now()}
}

// set says that done of total is done; total 0 means that it is not known.
func (p *progress) set(done, total int64) {
	if p.g.JSON {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !isTerminal(p.g.err) {
		p.line(done, total)
		return
	}
	if p.bar == nil {
		p.pool = mpb.New(mpb.WithOutput(p.g.err), mpb.WithWidth(40), mpb.WithAutoRefresh())
		p.g.bars.Store(p.pool)
		p.bar = p.pool.AddBar(total,
			mpb.PrependDecorators(decor.Name(p.name+" ")),
			mpb.AppendDecorators(decor.CountersNoUnit("%d/%d "), decor.AverageSpeed(0, "%.0f "+p.unit+"/s "), decor.AverageETA(decor.ET_STYLE_GO)))
	}
	if total > 0 {
		p.bar.SetTotal(total, false)
	}
	p.bar.SetCurrent(done)
}

func (p *progress) line(done, total int64) {
	now := time.Now()
	if now.Sub(p.begun) < sayEvery || now.Sub(p.said) < sayEvery {
		return
	}
	p.said = now
	rate := float64(done) / now.Sub(p.begun).Seconds()
	left := "?"
	if rate > 0 && total > done {
		left = (time.Duration(float64(total-done)/rate) * time.Second).String()
	}
	p.g.say("%s: %d of %d %s, %.0f/s, %s left", p.name, done, total, p.unit, rate, left)
}

// end leaves what was last shown and stops showing.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil {
		return
	}
	p.bar.SetTotal(-1, true)
	p.g.bars.CompareAndSwap(p.pool, nil)
	p.pool.Wait()
	p.bar = nil
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
