package restsync_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication/restsync"
)

// shop answers for its changes, a few at a time.
type shop struct {
	changes []restsync.Change
	fail    int // requests that are answered with an error
	asked   []string
}

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.asked = append(s.asked, q.Encode()+" "+r.Header.Get("Authorization"))
	if s.fail > 0 {
		s.fail--
		http.Error(w, "too busy", http.StatusServiceUnavailable)
		return
	}
	since, err := strconv.ParseInt(q.Get("since"), 10, 64)
	limit, err2 := strconv.Atoi(q.Get("limit"))
	if errors.Join(err, err2) != nil {
		http.Error(w, "bad query", http.StatusBadRequest)
		return
	}
	first := 0
	if after := q.Get("after"); after != "" {
		first, _ = strconv.Atoi(after)
	}
	answer := map[string]any{}
	var page []restsync.Change
	for i := first; i < len(s.changes); i++ {
		if s.changes[i].At < since {
			continue
		}
		if len(page) == limit {
			answer["next"] = strconv.Itoa(i)
			break
		}
		page = append(page, s.changes[i])
	}
	answer["changes"] = page
	_ = json.NewEncoder(w).Encode(answer) // to a client that is there
}

func (s *shop) happen(key string, at int64) {
	s.changes = append(s.changes, restsync.Change{Key: key, At: at, Data: json.RawMessage(fmt.Sprintf(`{"n":%d}`, len(s.changes)))})
}

// Every change comes, page by page, through errors of both sides; what is given again has the ID that it had.
func TestEveryChangeComes(t *testing.T) {
	source := &shop{fail: 1}
	for i := range 25 {
		source.happen(fmt.Sprintf("order-%d", i%4), int64(1000+i/3)) // several at one time
	}
	server := httptest.NewServer(source)
	defer server.Close()
	done := map[string]restsync.Change{}
	var order []int64
	failures := 2
	s, err := restsync.New(restsync.Options{
		URL: server.URL + "/changes?tenant=a", Limit: 4, Header: http.Header{"Authorization": {"Bearer x"}},
		Apply: func(_ context.Context, changes []restsync.Change) error {
			for _, c := range changes {
				if earlier, again := done[c.ID]; again && (earlier.At != c.At || earlier.Key != c.Key) {
					t.Errorf("%+v has the ID of %+v", c, earlier)
				} else if !again {
					order = append(order, c.At)
				}
				done[c.ID] = c
			}
			if failures--; failures >= 0 {
				return errors.New("the target is away")
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if healthy, _ := s.HealthCheck(); healthy {
		t.Error("a syncer that has never run is healthy")
	}
	calls := 0
	for err = errors.New("not called"); err != nil; calls++ {
		if calls == 10 {
			t.Fatal(err)
		}
		err = s.Sync(t.Context(), 0)
		if healthy, lag := s.HealthCheck(); healthy != (err == nil) || lag > time.Minute {
			t.Errorf("after %v the syncer is healthy: %t, %s", err, healthy, lag)
		}
	}
	if calls != 4 || len(done) != 25 {
		t.Errorf("%d changes came in %d calls, want 25 in 4", len(done), calls)
	}
	for i := 1; i < len(order); i++ {
		if order[i] < order[i-1] {
			t.Errorf("a change of %d came after one of %d", order[i], order[i-1])
		}
	}
	if !strings.Contains(source.asked[0], "tenant=a") || !strings.HasSuffix(source.asked[0], "Bearer x") {
		t.Errorf("the source was asked %q", source.asked[0])
	}

	source.happen("order-9", 2000)
	s.Share(func(key string) bool { return key != "order-9" })
	if err := s.Sync(t.Context(), 1500); err != nil || len(done) != 25 {
		t.Errorf("a key of another's share came: %d changes, %v", len(done), err)
	}
	s.Share(nil)
	if err := s.Sync(t.Context(), 1500); err != nil || len(done) != 26 {
		t.Errorf("with all keys again %d changes came, want 26, %v", len(done), err)
	}
}

// A source is asked every so often at most, and for changes that became known late.
func TestEveryAndLate(t *testing.T) {
	var asked []time.Time
	var since []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, since = append(asked, time.Now()), append(since, r.URL.Query().Get("since"))
		fmt.Fprint(w, `{"changes":[]}`)
	}))
	defer server.Close()
	const every = 100 * time.Millisecond
	s, err := restsync.New(restsync.Options{URL: server.URL, Every: every, Late: 5, Apply: func(context.Context, []restsync.Change) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []int64{0, 3, 20} {
		if err := s.Sync(t.Context(), from); err != nil {
			t.Fatal(err)
		}
	}
	for i := 1; i < len(asked); i++ {
		if pause := asked[i].Sub(asked[i-1]); pause < every/2 {
			t.Errorf("it is asked again after %s", pause)
		}
	}
	if got := fmt.Sprint(since); got != "[0 0 15]" {
		t.Errorf("it is asked for changes since %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Sync(ctx, 0); !errors.Is(err, context.Canceled) || len(asked) != 3 {
		t.Errorf("a call that is over: %v, asked %d times", err, len(asked))
	}
}

// What a source must not say is an error, and nothing of it is applied.
func TestWrongAnswers(t *testing.T) {
	for _, body := range []string{
		`not json`, `{"changes":[{"at":5}]}`, `{"changes":[{"key":"a","at":5},{"key":"a","at":4}]}`,
		`{"changes":[{"key":"a","at":1}]}`, `{"changes":[],"next":"x"}`, `{}`, `{"error":"closed"}`, `{"changes":null}`,
		`{"changes":[{"key":"` + strings.Repeat("a", 2000) + `","at":5}]}`,
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
		s, err := restsync.New(restsync.Options{URL: server.URL, MaxBytes: 1000, Apply: func(context.Context, []restsync.Change) error {
			t.Errorf("%.40s was applied", body)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Sync(t.Context(), 3); err == nil {
			t.Errorf("%.40s was taken", body)
		}
		server.Close()
		if err := s.Sync(t.Context(), 3); err == nil || strings.Contains(err.Error(), "since=") {
			t.Errorf("a source that is away: %v", err)
		}
	}
	for _, u := range []string{"", "ftp://x", "http://u:secret@h:bad"} {
		if _, err := restsync.New(restsync.Options{URL: u, Apply: func(context.Context, []restsync.Change) error { return nil }}); !errors.Is(err, eventstore.ErrInvalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("URL %q: %v", u, err)
		}
	}
}
