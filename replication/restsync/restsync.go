package restsync

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
)

// Change is what happened to what has a key.
type Change struct {
	Key string `json:"key"`
	// At is when, in Unix nanoseconds.
	At      int64           `json:"at"`
	Data    json.RawMessage `json:"data"`
	Deleted bool            `json:"deleted"`
	// ID names the change: a change that says the same has the same. It fits a request's ID.
	ID string `json:"-"`
}

// Options of a Syncer. URL and Apply are required.
type Options struct {
	// URL is where to ask; it may have a query of its own.
	URL string
	// Header goes with each request, for authorization; nil is none.
	Header http.Header
	// Limit is how many changes are asked for at a time; zero means 500.
	Limit int
	// MaxBytes bounds an answer; zero means 16 MiB.
	MaxBytes int64
	// Timeout bounds a request; zero means 10 s.
	Timeout time.Duration
	// Every is how long it is at least from one time that there is asked to the next; zero leaves it to who calls Sync: an orchestrator asks
	// each second.
	Every time.Duration
	// Late is how much later than its time a change may become known to who is asked, or by how much its clock may be wrong: so much more is
	// asked for each time, beside the 10 s of an orchestrator.
	Late time.Duration
	// Apply is given changes in order, at least one, and returns when they are done for good, each once for its ID.
	Apply func(ctx context.Context, changes []Change) error
	// Client sends the requests; nil means http.DefaultClient.
	Client *http.Client
}

// Syncer polls. It implements replication.Sharer.
type Syncer struct {
	o   Options
	url *url.URL

	mu      sync.Mutex // guards what follows
	keep    func(key string) bool
	healthy bool
	done    time.Time // when the last call began that brought over all there was
	asked   time.Time // when the last call began
}

var _ replication.Sharer = (*Syncer)(nil)

// New returns a Syncer.
func New(o Options) (*Syncer, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%w: the source is not an http or https URL (Options.URL)", eventstore.ErrInvalid) // the error may quote a password
	}
	if o.Apply == nil {
		return nil, fmt.Errorf("%w: Apply is missing", eventstore.ErrInvalid)
	}
	if o.Limit <= 0 {
		o.Limit = 500
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 16 << 20
	}
	if o.Timeout <= 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Client == nil {
		o.Client = http.DefaultClient
	}
	return &Syncer{o: o, url: u}, nil
}

// Share implements replication.Sharer.
func (s *Syncer) Share(keep func(key string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep = keep
}

// HealthCheck implements replication.Syncer: healthy when the last call ended well; the lag is the time since it began.
func (s *Syncer) HealthCheck() (healthy bool, lag time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done.IsZero() {
		return false, 0
	}
	return s.healthy, time.Since(s.done)
}

// Sync brings over the changes from fromTS on and returns when there are no more.
func (s *Syncer) Sync(ctx context.Context, fromTS int64) error {
	s.mu.Lock()
	pause := time.NewTimer(time.Until(s.asked.Add(s.o.Every)))
	s.mu.Unlock()
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	began := time.Now()
	err := s.all(ctx, max(fromTS-int64(s.o.Late), 0))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = began
	if s.healthy = err == nil; s.healthy {
		s.done = began
	}
	return err
}

func (s *Syncer) all(ctx context.Context, since int64) error {
	for after := ""; ; {
		page, err := s.page(ctx, since, after)
		if err != nil {
			return err
		}
		s.mu.Lock()
		keep := s.keep
		s.mu.Unlock()
		var changes []Change
		for _, c := range page.Changes {
			if keep == nil || keep(c.Key) {
				c.ID = c.id()
				changes = append(changes, c)
			}
		}
		if len(changes) > 0 {
			if err := s.o.Apply(ctx, changes); err != nil {
				return fmt.Errorf("apply %d changes of %s: %w", len(changes), s.url.Redacted(), err)
			}
		}
		if page.Next == "" {
			return nil
		}
		if page.Next == after || len(page.Changes) == 0 {
			return fmt.Errorf("%s says that there is more and does not give it", s.url.Redacted())
		}
		after = page.Next
	}
}

type page struct {
	Changes []Change `json:"changes"`
	Next    string   `json:"next"`
}

func (s *Syncer) page(ctx context.Context, since int64, after string) (p page, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	u := *s.url
	q := u.Query()
	q.Set("since", strconv.FormatInt(since, 10))
	q.Set("limit", strconv.Itoa(s.o.Limit))
	if after != "" {
		q.Set("after", after)
	}
	u.RawQuery = q.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return p, fmt.Errorf("ask %s: %w", s.url.Redacted(), err)
	}
	if s.o.Header != nil {
		request.Header = s.o.Header.Clone()
	}
	request.Header.Set("Accept", "application/json")
	answer, err := s.o.Client.Do(request)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err // it quotes the URL as it is
		}
		return p, fmt.Errorf("ask %s: %w", s.url.Redacted(), err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, s.o.MaxBytes+1))
	switch {
	case err != nil:
		return p, fmt.Errorf("ask %s: %w", s.url.Redacted(), err)
	case answer.StatusCode != http.StatusOK:
		return p, fmt.Errorf("ask %s: %s: %.200s", s.url.Redacted(), answer.Status, body)
	case int64(len(body)) > s.o.MaxBytes:
		return p, fmt.Errorf("ask %s: %w: the answer has more than %d bytes: ask for fewer changes at a time", s.url.Redacted(), eventstore.ErrTooLarge, s.o.MaxBytes)
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return p, fmt.Errorf("ask %s: the answer is not as it should be: %w", s.url.Redacted(), err)
	}
	if p.Changes == nil {
		return p, fmt.Errorf("ask %s: the answer has no changes, not even none ([])", s.url.Redacted())
	}
	for i, c := range p.Changes {
		if c.Key == "" || c.At < since || i > 0 && c.At < p.Changes[i-1].At {
			return p, fmt.Errorf("ask %s: change %d of the answer has no key, is older than asked for, or is older than the one before", s.url.Redacted(), i+1)
		}
	}
	return p, nil
}

// id is made of all that the change says.
func (c *Change) id() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %d %t %s", c.Key, c.At, c.Deleted, c.Data)
	return "rest/" + hex.EncodeToString(h.Sum(nil)[:16])
}
