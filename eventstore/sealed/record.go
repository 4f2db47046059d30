package sealed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// The log says which keys its personal data are sealed with, before the first of them: whoever has the log, from a backup
// or from Kafka, is told when the keys beside it are not those.
const (
	keysCategory = "$keys"
	keysUsedV1   = "keys.used.v1"
)

// Types returns the types of all events that this package records.
func Types() []string { return []string{keysUsedV1, eventstore.SubjectErased} }

// keysStream is where it is said.
var keysStream = eventstore.Stream(keysCategory, "personal")

type keysUsed struct {
	ID string `json:"id"`
}

// siteOf returns the site of a log, whose keys these are: other sites have theirs.
func siteOf(ctx context.Context, log eventstore.Reader) (string, error) {
	state, err := log.Log(ctx)
	if err != nil {
		return "", fmt.Errorf("ask for the log's name: %w", err)
	}
	return state.ID.Site, nil
}

// KeysOf returns the id of the keys that a log's personal data are sealed with; empty when it has none.
func KeysOf(ctx context.Context, log eventstore.Reader) (string, error) {
	site, err := siteOf(ctx, log)
	if err != nil {
		return "", err
	}
	for r, err := range log.Read(ctx, keysStream, 1) {
		if err != nil {
			return "", fmt.Errorf("read which keys are used: %w", err)
		}
		if r.Dot.Log.Site != site {
			continue
		}
		var used keysUsed
		if err := json.Unmarshal(r.Payload, &used); err != nil || used.ID == "" {
			return "", fmt.Errorf("read %s at %s: %w: %w", r.Type, r.Position, eventstore.ErrCorrupt, err)
		}
		return used.ID, nil
	}
	return "", nil
}

// bind sees to it that the log names the keys before it has anything that they seal. Keys that are not those which it names
// are ErrUnavailable: what they seal could not be told from what others have sealed.
func (s *Store) bind(ctx context.Context) error {
	if s.bound.Load() {
		return nil
	}
	used, err := KeysOf(ctx, s.Store)
	for err == nil && used == "" { // again, when another append to the stream came before
		if err = s.recordKeys(ctx); err == nil {
			used, err = KeysOf(ctx, s.Store)
		}
	}
	if err != nil {
		return err
	}
	if used != s.id {
		return fmt.Errorf("%w: the log's personal data are sealed with keys %s, not %s", eventstore.ErrUnavailable, used, s.id)
	}
	s.bound.Store(true)
	return nil
}

func (s *Store) recordKeys(ctx context.Context) error {
	payload, err := json.Marshal(keysUsed{s.id})
	if err != nil {
		return fmt.Errorf("encode %s: %w", keysUsedV1, err)
	}
	version, err := s.Version(ctx, keysStream) // other sites name theirs in the same stream
	if err != nil {
		return fmt.Errorf("record which keys are used: %w", err)
	}
	_, err = s.Store.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: keysStream, Expect: eventstore.Exactly(version),
		Events: []eventstore.Event{{Type: keysUsedV1, Kind: eventstore.KindSystem, Encoding: eventstore.JSON, Payload: payload}},
	}}})
	if err != nil && !errors.Is(err, eventstore.ErrConflict) { // a conflict: another append has recorded it just now
		return fmt.Errorf("record which keys are used: %w", err)
	}
	return nil
}

// HighestKey returns the highest number of a key that a log has after a position, 0 when it has none, and how far it has
// read: all of the log, or to what the error is about. What events were sealed with that are dropped does not count: it seals
// nothing any more; erasures are never dropped.
func HighestKey(ctx context.Context, log eventstore.Reader, after eventstore.Position) (highest uint32, to eventstore.Position, err error) {
	highest, to, err = highestKey(ctx, log, after, eventstore.Filter{})
	var dropped *eventstore.TruncatedError
	if errors.As(err, &dropped) {
		var erased, rest uint32
		if erased, _, err = highestKey(ctx, log, after, eventstore.Filter{Categories: []string{eventstore.SubjectCategory}}); err == nil {
			left := dropped.First
			left.LSN--
			rest, to, err = highestKey(ctx, log, left, eventstore.Filter{})
		}
		highest = max(highest, erased, rest)
	}
	if err != nil {
		err = fmt.Errorf("read the numbers of keys: %w", err)
	}
	return highest, to, err
}

func highestKey(ctx context.Context, log eventstore.Reader, after eventstore.Position, f eventstore.Filter) (highest uint32, to eventstore.Position, err error) {
	to = after
	site, err := siteOf(ctx, log)
	if err != nil {
		return 0, to, err
	}
	for r, err := range log.ReadAll(ctx, after, f) {
		if err != nil {
			return highest, to, err
		}
		if r.Dot.Log.Site != site {
			to = r.Position
			continue
		}
		number := r.KeyRef
		if r.Type == eventstore.SubjectErased && r.Stream.Category == eventstore.SubjectCategory {
			e, err := erasureOf(&r)
			if err != nil {
				return highest, to, err
			}
			number = max(number, e.Key)
		}
		highest, to = max(highest, number), r.Position
	}
	return highest, to, nil
}
