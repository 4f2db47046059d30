package replication_test

import (
	"context"
	"fmt"
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

func (m mirroredTopic) Ends(context.Context) ([]eventstore.LogHead, error) { return nil, nil }

func (m mirroredTopic) Mirrored(ctx context.Context, tell func(context.Context, eventstore.Dot) error) error {
	if err := tell(ctx, m.last); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// asked is a site that counts the bytes of the digests that it is asked for.
type asked struct {
	*replication.Site
	bytes int
}

func (a *asked) Digests(ctx context.Context, log eventstore.LogID, after, through, every uint64) ([]replication.Digest, error) {
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

// What stands in two stores of one log is compared by digests: where nothing differs nothing is found, an event that is another one is
// found to FineEvents, and so are blocks of a table whose bytes have flipped; little is sent for it. It is T22 without the repair. R19.
func TestDifferencesAreFound(t *testing.T) {
	const events = 30_000
	origin := openStore(t, t.TempDir(), "bj")
	random := rand.New(rand.NewPCG(22, 22))
	size := 0
	for i := 0; i < events; i += 100 {
		r := eventstore.Request{}
		for j := range 100 {
			payload := make([]byte, 200)
			for k := range payload {
				payload[k] = byte('a' + random.IntN(26))
			}
			size += len(payload)
			r.Appends = append(r.Appends, eventstore.StreamAppend{
				Stream: eventstore.Stream("note", fmt.Sprint(i+j)), Events: []eventstore.Event{{Type: "note.made.v1", Payload: payload}},
			})
		}
		if _, err := origin.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	log := eventstore.LogID{Site: "bj", Incarnation: 1}
	var all []eventstore.Recorded
	for e, err := range origin.ReadLog(t.Context(), log, 0) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
	}
	bj := &asked{Site: runSite(t, "bj", origin, mirroredTopic{all[len(all)-1].Dot}, nil)}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		digests, err := bj.Digests(t.Context(), log, 0, events, events)
		if err == nil && len(digests) == 1 && digests[0].Through == events {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("bj tells nothing of its log: %v, %v", digests, err)
		}
	}
	// copied returns a folder that has received the log, with events changed.
	copied := func(change func(*eventstore.Recorded)) string {
		dir := t.TempDir()
		s := openStore(t, dir, "sh")
		for part := range slices.Chunk(all, 1000) {
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
	compare := func(dir string) (found []replication.Deviation, sent int) {
		sh := runSite(t, "sh", openStore(t, dir, "sh"), emptyTopic{}, map[string]replication.Peer{"bj": bj})
		if _, err := sh.Overview(t.Context()); err != nil {
			t.Fatal(err)
		}
		bj.bytes = 0
		for after := uint64(0); ; {
			through, more, err := sh.CompareDeep(t.Context(), "bj", log, after)
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
	if found, sent := compare(copied(func(*eventstore.Recorded) {})); len(found) > 0 || sent*100 > size {
		t.Errorf("of two that are the same it is said that they differ: %v; %d bytes were sent", found, sent)
	}
	for range 5 {
		at := 1 + random.Uint64N(events)
		found, sent := compare(copied(func(e *eventstore.Recorded) {
			if e.Dot.Seq == at {
				e.Payload = append([]byte(nil), e.Payload...)
				e.Payload[random.IntN(len(e.Payload))] ^= 1
			}
		}))
		if len(found) != 1 || found[0].After >= at || found[0].Through < at || found[0].Here+found[0].There != "" || found[0].Through-found[0].After > replication.FineEvents {
			t.Errorf("seq %d is another event, and found are %v", at, found)
		}
		if sent*100 > size {
			t.Errorf("%d bytes were sent for one difference in %d", sent, size)
		}
	}
	dir := copied(func(*eventstore.Recorded) {})
	tables, err := filepath.Glob(filepath.Join(dir, "log", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("the log has the tables %v (%v)", tables, err)
	}
	var table []byte // the largest
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
	found, sent := compare(dir)
	if len(found) == 0 || sent*100 > size {
		t.Fatalf("a flipped bit is not found: %v; %d bytes were sent", found, sent)
	}
	for i := range found {
		if found[i].Here == "" || found[i].There != "" || !strings.Contains(found[i].String(), "damaged here") {
			t.Errorf("a flipped bit here is found as %s", found[i].String())
		}
	}
	t.Logf("a flipped bit is found as %d runs, the first %s", len(found), found[0].String())
}
