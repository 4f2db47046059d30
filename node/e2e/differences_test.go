package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/reliability"
	"github.com/tributary-es/tributary/internal/testenv"
)

// notes has a site record so many events in batches of a hundred, 300 bytes of noise each.
func notes(t *testing.T, s *serving, name string, count int) {
	t.Helper()
	c, err := client.Dial(t.Context(), s.grpc, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }() // was only asked
	noise := rand.New(rand.NewPCG(22, uint64(count)))
	for i := 0; i < count; i += 100 {
		var r eventstore.Request
		for j := range 100 {
			payload := fmt.Appendf(nil, "%s-%d ", name, i+j)
			for len(payload) < 300 {
				payload = append(payload, byte('a'+noise.IntN(26)))
			}
			r.Appends = append(r.Appends, eventstore.StreamAppend{
				Stream: eventstore.Stream("note", fmt.Sprint(name, (i+j)%700)), Events: []eventstore.Event{{Type: "note.made.v1", Payload: payload}},
			})
		}
		if _, err := c.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

// writing has a site record a little all the time, until the returned function is called, which says how much it was.
func writing(t *testing.T, s *serving, name string) (stop func() int) {
	t.Helper()
	c, err := client.Dial(t.Context(), s.grpc, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var under sync.WaitGroup
	count := 0
	under.Go(func() {
		for tick := time.NewTicker(5 * time.Millisecond); ; count++ {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if _, err := c.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
				Stream: eventstore.Stream("load", name), Events: []eventstore.Event{{Type: "note.made.v1", Payload: make([]byte, 200)}},
			}}}); err != nil && ctx.Err() == nil {
				t.Errorf("append under load: %v", err)
				return
			}
		}
	})
	return func() int {
		cancel()
		under.Wait()
		_ = c.Close() // nothing is under way
		return count
	}
}

// forge changes a byte of the payloads that begin with the given texts, in the log of a stopped folder, where they stand and with all
// checksums right, and returns which events they are.
func forge(t *testing.T, data string, begin ...string) (dots []eventstore.Dot) {
	t.Helper()
	db, err := pebble.Open(filepath.Join(data, "store", "log"), &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: silent{}})
	if err != nil {
		t.Fatal(err)
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte("b"), UpperBound: []byte("c")})
	if err != nil {
		t.Fatal(err)
	}
	changed := map[string][]byte{}
	for valid := it.First(); valid; valid = it.Next() {
		value := bytes.Clone(it.Value())
		count := binary.BigEndian.Uint32(value[len(value)-9:])
		for rest := value; count > 0; count-- {
			e, after, err := eventstore.DecodeFrame(rest)
			if err != nil {
				t.Fatal(err)
			}
			if slices.ContainsFunc(begin, func(text string) bool { return bytes.HasPrefix(e.Payload, []byte(text+" ")) }) {
				e.Payload = bytes.Clone(e.Payload)
				e.Payload[len(e.Payload)-1] ^= 1
				copy(rest, eventstore.AppendFrame(nil, &e, eventstore.AppendContent(nil, &e)))
				dots, changed[string(it.Key())] = append(dots, e.Dot), value
			}
			rest = after
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	for key, value := range changed {
		if err := db.Set([]byte(key), value, pebble.Sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if len(dots) != len(begin) {
		t.Fatalf("%d of the events %v are in the log", len(dots), begin)
	}
	return dots
}

type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

// comparison is what a site says of the last comparison of its store with the others'.
type comparison struct {
	Ended         string `json:"ended_at"`
	Events, Bytes string
	Repaired      string
	Findings      []struct {
		Log       string
		Deviation struct {
			First, Last   string
			Problem, Left string
			Repaired      bool
		}
	}
}

func (s *serving) comparison(t *testing.T) comparison {
	t.Helper()
	_, body := roundTrip(t, request(t, "GET", "http://"+s.http+"/v1/sites", ""))
	return decoded[struct{ Comparison comparison }](t, body).Comparison
}

// compared waits for so many more passes of a site, and adds all that they found, and the one before them, as log and seqs.
func (s *serving) compared(t *testing.T, passes int, found map[string]bool) (last comparison) {
	t.Helper()
	last = s.comparison(t)
	last.addTo(found)
	for range passes {
		before := last.Ended
		eventually(t, "the stores are compared", func() bool {
			last = s.comparison(t)
			return last.Ended != before
		})
		last.addTo(found)
	}
	return last
}

func (c *comparison) addTo(found map[string]bool) {
	for _, f := range c.Findings {
		found[fmt.Sprintf("%s %s-%s %s repaired=%v %s", f.Log, f.Deviation.First, f.Deviation.Last, f.Deviation.Problem, f.Deviation.Repaired, f.Deviation.Left)] = true
	}
}

// Differences are planted between the stores of two sites and between their read models, of several kinds: all are found, what can be
// proved comes back by itself, and while nothing differs nothing is said to, under load too. It is T22 of docs/reliability.md, and shows
// R30, R31 and R32.
func TestDifferencesBetweenSites(t *testing.T) {
	s := newSites(t)
	server := testenv.Redis(t).Addr()
	redis := dialRedis(t, server)
	s.flags[1] = append(s.flags[1], "--redis", server)
	for i := range s.flags {
		s.flags[i] = append(s.flags[i], "--compare-every", "2s")
	}
	a, b := s.both(t)
	a.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 100}`)
	for part := range 4 { // each end of b makes a table of its log
		if part > 0 {
			b.stop(t)
			b = s.start(t, 1)
		}
		notes(t, a, fmt.Sprint("a", part), 2500)
		notes(t, b, fmt.Sprint("b", part), 1000)
		a.order(t, fmt.Sprint("A-", part))
		s.equal(t)
	}

	// Nothing differs: nothing is found, while both are written to.
	alarms := map[string]bool{}
	stop := []func() int{writing(t, a, "a"), writing(t, b, "b")}
	sound := a.compared(t, 2, alarms)
	b.compared(t, 2, alarms)
	load := stop[0]() + stop[1]()
	if len(alarms) > 0 {
		t.Errorf("where nothing differs it is said: %q", slices.Collect(maps.Keys(alarms)))
	}
	s.equal(t)
	b.stop(t)

	// Events are changed, a table is gone, and one has rotted.
	tables, err := filepath.Glob(filepath.Join(s.data[1], "store", "log", "*.sst"))
	if err != nil || len(tables) < 4 {
		t.Fatalf("the log of b has the tables %v (%v)", tables, err)
	}
	slices.Sort(tables)
	forged := forge(t, s.data[1], "a0-17", "b0-801", "a0-2211")
	if err := os.Remove(tables[len(tables)-3]); err != nil {
		t.Fatal(err)
	}
	flipFile(t, tables[len(tables)-2], 0.4)
	if at := tributary(t, "serve", "--data", s.data[1], "--http", "127.0.0.1:0", "--grpc", s.grpc[1]); at.code == 0 || !strings.Contains(at.stderr, "scrub --stand-in") {
		t.Errorf("without one of its tables a site ends with code %d: %s", at.code, tail(at.stderr, 2000))
	}
	if out := done(t, "scrub", "--stand-in", "--data", s.data[1]); !strings.Contains(out, filepath.Base(tables[len(tables)-3])) {
		t.Errorf("scrub --stand-in says %s", out)
	}
	writer := writing(t, a, "a")
	s.flags[1][len(s.flags[1])-1] = "10s" // what its first pass finds is told until the next has ended
	b = s.start(t, 1)
	found := map[string]bool{}
	defer func() {
		if t.Failed() {
			t.Logf("changed: %v; found: %q", forged, slices.Sorted(maps.Keys(found)))
		}
	}()
	eventually(t, "b has found and repaired what was changed", func() bool {
		b.compared(t, 1, found)
		return len(b.unscrubbed(t, missing(found, forged))) == 0
	})
	eventually(t, "b finds no more", func() bool { return len(b.compared(t, 1, found).Findings) == 0 })
	unseen := len(b.unscrubbed(t, missing(found, forged)))
	scrubs := scrub(t, s.data[1], 0)
	load += writer()
	s.equal(t)
	for i := range s.data {
		eventually(t, "after the repair all sites are the same", func() bool { return areTheSame(t, s.data[i], "--deep") })
		if r := verify(t, s.data[i]); len(r.Faults) > 0 {
			t.Errorf("site %s, after the repair: %v", s.names[i], r.Faults)
		}
	}
	if len(scrubs.Faults) > 0 {
		t.Errorf("after the repair a scrub finds %+v", scrubs.Faults)
	}

	// A row of a read model is changed.
	redis.do(t, "HSET", redis.modelKey(t, "order:A-1"), "total", "0.01")
	differs := tributary(t, "sites", "verify", "--data", s.data[0])
	if differs.code != 4 || !strings.Contains(differs.stdout, "shop-redis, order, site "+s.names[1]) || !strings.Contains(differs.stdout, "rebuild shop-redis") {
		t.Errorf("sites verify with a changed row ends with %d: %s", differs.code, tail(differs.stdout, 2000))
	}
	if a := tributary(t, "rebuild", "shop-redis", "--data", s.data[1]); a.code != 4 {
		t.Errorf("rebuild of a changed model: exit code %d; %s", a.code, tail(a.stderr, 2000))
	}
	eventually(t, "after the rebuild all sites are the same", func() bool { return areTheSame(t, s.data[0]) })

	// A site that is away is no difference.
	b.stop(t)
	eventually(t, "a says that b is away", func() bool {
		away := tributary(t, "sites", "verify", "--deep", "--data", s.data[0])
		return away.code == 5 && strings.Contains(away.stdout, "not compared") && strings.Contains(away.stderr, "not every site")
	})

	var events, sent int
	if _, err := fmt.Sscan(sound.Events+" "+sound.Bytes, &events, &sent); err != nil {
		t.Fatal(err)
	}
	const eventBytes = 450 // of a note in the log, and more
	share := float64(sent) / float64(events*eventBytes)
	if share >= 0.01 {
		t.Errorf("%d bytes are sent to compare %d events", sent, events)
	}
	planted := len(forged) + 3
	reliability.Result{
		Test: "T22", What: "planted differences between two sites: events changed, a table gone, one rotted, a row of a read model changed",
		Faults: planted, Violations: len(alarms) + unseen,
		Extra: map[string]any{"found": planted - unseen, "false_alarms": len(alarms), "sent_share": fmt.Sprintf("%.4f", share), "events": events, "written_meanwhile": load},
	}.Print(t)
}

// Where sites do not compare by themselves an operator does: an event that was changed in a store is named, and put right when that is
// asked for, and then nothing differs. Shows R30.
func TestRepairIsAskedFor(t *testing.T) {
	s := embeddedSites(t)
	for i := range s.flags {
		s.flags[i] = append(s.flags[i], "--compare-every", "0")
	}
	a, b := s.both(t)
	notes(t, a, "a", 300)
	s.equal(t)
	b.stop(t)
	dot := forge(t, s.data[1], "a-117")[0]
	b = s.start(t, 1)
	s.equal(t)
	run := fmt.Sprintf("%s, site %s: seq ", dot.Log, s.names[0])
	differs := tributary(t, "sites", "verify", "--deep", "--data", s.data[1])
	if differs.code != 4 || !strings.Contains(differs.stdout, run) || strings.Contains(differs.stdout, "repaired") {
		t.Errorf("sites verify --deep with a changed event ends with %d: %s", differs.code, tail(differs.stdout, 2000))
	}
	if out := done(t, "sites", "verify", "--deep", "--repair", "--data", s.data[1]); !strings.Contains(out, run) || !strings.Contains(out, "repaired") {
		t.Errorf("sites verify --deep --repair says %s", tail(out, 2000))
	}
	eventually(t, "after the repair the sites are the same", func() bool { return areTheSame(t, s.data[1], "--deep") })
	b.stop(t)
	a.stop(t)
}

// areTheSame reports whether a site finds that all sites hold the same events, and have the same read models. What could not be compared
// in time is no reason to fail: the caller asks again.
func areTheSame(t *testing.T, data string, flags ...string) bool {
	t.Helper()
	out := tributary(t, append([]string{"sites", "verify", "--data", data}, flags...)...)
	return out.code == 0 && strings.Contains(out.stdout, "All sites hold the same events")
}

var scrubFound = regexp.MustCompile(`a scrub found a damaged file.*problem="lsn (\d+) to (\d+): corrupt: its events are not those of the hash chain"`)

// unscrubbed returns those of some events that the site's scrub has not found changed either: to mend what a comparison has found it reads
// files whole, and what it comes upon in them is no difference any more when the comparison gets there.
func (s *serving) unscrubbed(t *testing.T, dots []eventstore.Dot) (out []eventstore.Dot) {
	t.Helper()
	if len(dots) == 0 {
		return nil
	}
	c, err := client.Dial(t.Context(), s.grpc, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }() // was only asked
	at := map[eventstore.Dot]uint64{}
	for e, err := range c.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{Categories: []string{"note"}}) {
		if err != nil { // not mended yet
			return dots
		}
		at[e.Dot] = e.Position.LSN
	}
	for _, d := range dots {
		if !slices.ContainsFunc(scrubFound.FindAllStringSubmatch(s.errText(), -1), func(m []string) bool {
			var first, last uint64
			_, err := fmt.Sscan(m[1]+" "+m[2], &first, &last)
			return err == nil && first <= at[d] && at[d] <= last
		}) {
			out = append(out, d)
		}
	}
	return out
}

// missing returns those of some events that no repaired finding speaks of.
func missing(found map[string]bool, dots []eventstore.Dot) (out []eventstore.Dot) {
	for _, d := range dots {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(found)), func(f string) bool {
			var log, run string
			var first, last uint64
			if _, err := fmt.Sscan(f, &log, &run); err != nil || log != d.Log.String() || !strings.Contains(f, "repaired=true") {
				return false
			}
			_, err := fmt.Sscanf(run, "%d-%d", &first, &last)
			return err == nil && first <= d.Seq && d.Seq <= last
		}) {
			out = append(out, d)
		}
	}
	return out
}
