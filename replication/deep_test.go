package replication_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/replication"
)

// mirroredTopic is a topic that has all up to an event.
type mirroredTopic struct{ last eventstore.Dot }

func (m mirroredTopic) Ends(context.Context, func()) ([]eventstore.LogHead, error) { return nil, nil }

func (mirroredTopic) Behind(context.Context, eventstore.LogID, []eventstore.LogHead) (through uint64, anything bool, err error) {
	return 0, false, nil
}

func (m mirroredTopic) Mirrored(ctx context.Context, tell func(context.Context, eventstore.Dot) error) error {
	if err := tell(ctx, m.last); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// asked is a site that counts the bytes of the digests that it is asked for, and tells none where it refuses to.
type asked struct {
	*replication.Site
	bytes   int
	refuses error
	after   uint64 // seq, of those behind which it refuses
}

func (a *asked) Digests(ctx context.Context, log eventstore.LogID, after, through, every uint64) ([]replication.Digest, error) {
	if a.refuses != nil && after >= a.after {
		return nil, a.refuses
	}
	digests, err := a.Site.Digests(ctx, log, after, through, every)
	a.bytes += 40 // the question
	for _, d := range digests {
		a.bytes += 16 + len(d.Sum) + len(d.Err)
	}
	return digests, err
}

func openStore(t *testing.T, dir, site string) *pebblestore.Store {
	t.Helper()
	s, err := pebblestore.Open(dir, &pebblestore.Options{Site: site, MemTableBytes: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// runSite runs a site over a store until the test ends.
func runSite(t *testing.T, name string, store replication.Store, topic replication.OwnTopic, peers map[string]replication.Peer) *replication.Site {
	t.Helper()
	site, err := replication.NewSite(replication.Options{
		Config: replication.Config{Site: name, Begun: true}, Store: store, Topic: topic, Peers: peers, Links: map[string]replication.Link{},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- site.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return site
}

// original is a site whose log is copied, with what it holds.
type original struct {
	*asked
	log  eventstore.LogID
	all  []eventstore.Recorded
	size int // of the payloads
}

// newOriginal runs a site bj that has recorded so many events.
func newOriginal(t *testing.T, events int, random *rand.Rand) *original {
	t.Helper()
	store := openStore(t, t.TempDir(), "bj")
	o := &original{log: eventstore.LogID{Site: "bj", Incarnation: 1}}
	for i := 0; i < events; i += 50 {
		r := eventstore.Request{}
		for j := range 50 {
			payload := make([]byte, 200)
			for k := range payload {
				payload[k] = byte('a' + random.IntN(26))
			}
			o.size += len(payload)
			r.Appends = append(r.Appends, eventstore.StreamAppend{
				Stream: eventstore.Stream("note", fmt.Sprint(i+j)), Events: []eventstore.Event{{Type: "note.made.v1", Payload: payload}},
			})
		}
		if _, err := store.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for e, err := range store.ReadLog(t.Context(), o.log, 0) {
		if err != nil {
			t.Fatal(err)
		}
		o.all = append(o.all, e)
	}
	o.asked = &asked{Site: runSite(t, "bj", store, mirroredTopic{o.all[len(o.all)-1].Dot}, nil)}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		digests, err := o.Digests(t.Context(), o.log, 0, uint64(events), replication.SegmentEvents)
		if n := len(digests); err == nil && n > 0 && digests[n-1].Through == uint64(events) {
			return o
		}
		if time.Now().After(end) {
			t.Fatalf("bj tells nothing of its log: %v, %v", digests, err)
		}
	}
}

// copied returns a folder of a site sh that has received the log, with events changed.
func (o *original) copied(t *testing.T, change func(*eventstore.Recorded)) string {
	t.Helper()
	dir := t.TempDir()
	s := openStore(t, dir, "sh")
	for part := range slices.Chunk(o.all, 1000) {
		part = slices.Clone(part)
		for i := range part {
			change(&part[i])
		}
		if _, err := s.Receive(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mending is how a site has its store mended.
type mending func(*pebblestore.Store, *replication.Site) func(context.Context, eventstore.LogID, uint64, uint64) (left string, err error)

// comparer runs the site sh on a folder, and returns what compares it with bj, once that is heard.
func (o *original) comparer(t *testing.T, dir string, mend mending) *replication.Comparer {
	t.Helper()
	store := openStore(t, dir, "sh")
	site := o.other(t, store)
	options := replication.ComparerOptions{EventsPerSecond: 1e9}
	if mend != nil {
		options.Mend = mend(store, site)
	}
	return replication.NewComparer(site, options)
}

// other runs the site sh on a store, until bj is heard.
func (o *original) other(t *testing.T, store replication.Store) *replication.Site {
	t.Helper()
	site := runSite(t, "sh", store, emptyTopic{}, map[string]replication.Peer{"bj": o.asked})
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		v, err := site.Overview(t.Context())
		if err != nil || time.Now().After(end) {
			t.Fatalf("bj is not heard: %v", err)
		}
		if v.Peers[0].Up && len(v.Peers[0].Heads) > 0 {
			return site
		}
	}
}

// hindered is a store of which the first events of every log cannot be read.
type hindered struct {
	*pebblestore.Store
	through uint64
	why     error
}

// ReadLog implements eventstore.Replica.
func (h *hindered) ReadLog(ctx context.Context, log eventstore.LogID, after uint64) iter.Seq2[eventstore.Recorded, error] {
	if after >= h.through {
		return h.Store.ReadLog(ctx, log, after)
	}
	return func(yield func(eventstore.Recorded, error) bool) { yield(eventstore.Recorded{}, h.why) }
}

// What a policy has dropped is passed over, and what follows is compared; a store that cannot be read now, as one that is being closed, is no
// difference. Shows R31.
func TestWhatCannotBeReadIsNoDifference(t *testing.T) {
	bj := newOriginal(t, 5000, rand.New(rand.NewPCG(31, 31)))
	changed := bj.copied(t, func(e *eventstore.Recorded) {
		if seq := e.Dot.Seq; seq == 70 || seq == 4999 {
			e.Payload = append(slices.Clone(e.Payload), '!')
		}
	})
	store := &hindered{openStore(t, changed, "sh"), 100, &eventstore.TruncatedError{}}
	c := replication.NewComparer(bj.other(t, store), replication.ComparerOptions{})
	if through, found, err := c.Part(t.Context(), "bj", bj.log, 0, 2, false); err != nil || through != 5000 || len(found) != 1 || found[0].Last < 4999 || found[0].Problem != "the two have other events" {
		t.Errorf("of a store that has dropped what was changed, and one other event, up to seq %d it is said %v, %v", through, found, err)
	}
	store.why = eventstore.ErrClosed
	if _, found, err := c.Part(t.Context(), "bj", bj.log, 0, 2, false); !errors.Is(err, eventstore.ErrClosed) || len(found) > 0 {
		t.Errorf("of a store that is closed it is said %v, %v", found, err)
	}
	if _, err := bj.Digests(t.Context(), bj.log, 0, replication.SegmentEvents+1, replication.SegmentEvents+1); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("a digest of more events than a segment has: %v", err)
	}
	store.why = eventstore.ErrCorrupt
	if _, found, err := c.Part(t.Context(), "bj", bj.log, 0, 1, false); err != nil || len(found) != 1 || found[0].Last != 128 || !strings.Contains(found[0].Problem, "damaged here: seq 1 ") {
		t.Errorf("of a damaged store it is said %v, %v", found, err)
	}
}

// What stands in two stores of one log is compared by digests: where nothing differs nothing is found, an event that is another one is
// found to FineEvents, and so are blocks of a table whose bytes have flipped; little is sent for it. R19.
func TestDifferencesAreFound(t *testing.T) {
	const events = 30_000
	random := rand.New(rand.NewPCG(22, 22))
	bj := newOriginal(t, events, random)
	compare := func(dir string) (found []replication.Finding, sent int) {
		c := bj.comparer(t, dir, nil)
		bj.bytes = 0
		for after := uint64(0); ; {
			through, more, err := c.Part(t.Context(), "bj", bj.log, after, replication.MaxDigests, false)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, more...)
			if through == after {
				if after != events {
					t.Errorf("compared up to seq %d of %d", after, events)
				}
				return found, bj.bytes
			}
			after = through
		}
	}
	if found, sent := compare(bj.copied(t, func(*eventstore.Recorded) {})); len(found) > 0 || sent*100 > bj.size {
		t.Errorf("of two that are the same it is said that they differ: %v; %d bytes were sent", found, sent)
	}
	for range 5 {
		at := 1 + random.Uint64N(events)
		found, sent := compare(bj.copied(t, func(e *eventstore.Recorded) {
			if e.Dot.Seq == at {
				e.Payload = append([]byte(nil), e.Payload...)
				e.Payload[random.IntN(len(e.Payload))] ^= 1
			}
		}))
		if len(found) != 1 || found[0].First > at || found[0].Last < at || found[0].Problem != "the two have other events" || found[0].Last-found[0].First >= replication.FineEvents {
			t.Errorf("seq %d is another event, and found are %v", at, found)
		}
		if sent*100 > bj.size {
			t.Errorf("%d bytes were sent for one difference in %d", sent, bj.size)
		}
	}
	dir := bj.copied(t, func(*eventstore.Recorded) {})
	flipLargestTable(t, dir)
	found, sent := compare(dir)
	if len(found) == 0 || sent*100 > bj.size {
		t.Fatalf("a flipped bit is not found: %v; %d bytes were sent", found, sent)
	}
	for i := range found {
		if !strings.HasPrefix(found[i].Problem, "damaged here") {
			t.Errorf("a flipped bit here is found as %s", found[i].String())
		}
	}
}

// flipLargestTable flips a bit in the largest table of a store's log.
func flipLargestTable(t *testing.T, dir string) {
	t.Helper()
	tables, err := filepath.Glob(filepath.Join(dir, "log", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("the log has the tables %v (%v)", tables, err)
	}
	var table []byte
	path := ""
	for _, other := range tables {
		b, err := os.ReadFile(other)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > len(table) {
			table, path = b, other
		}
	}
	table[len(table)/2] ^= 0x10
	if err := os.WriteFile(path, table, 0o600); err != nil {
		t.Fatal(err)
	}
}
