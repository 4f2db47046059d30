package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
)

// maxDescription bounds what is read of a description.
const maxDescription = 1 << 20

// CheckDescription compares what stands beside a segment, for people and for the day when only the archive is left, with what should.
// Errors: eventstore.ErrCorrupt, with what is wrong; *eventstore.ArchiveError.
func (a *Archive) CheckDescription(ctx context.Context, s *Segment, log any) error {
	want, err := s.Description(log)
	if err != nil {
		return err
	}
	name := DescriptionName(s.Name)
	ctx, cancel := context.WithTimeout(ctx, a.patience)
	defer cancel()
	size := int64(-1)
	for o, err := range a.bucket.List(ctx, name) {
		if err != nil {
			return a.unavailable(s, err)
		}
		if o.Name == name {
			size = o.Bytes
		}
	}
	switch {
	case size < 0:
		return fmt.Errorf("%w: its description %s is missing", eventstore.ErrCorrupt, name)
	case size > maxDescription:
		return fmt.Errorf("%w: its description %s has %d bytes", eventstore.ErrCorrupt, name, size)
	}
	got := make([]byte, size)
	if err := a.bucket.ReadAt(ctx, name, got, 0); err != nil {
		return a.unavailable(s, err)
	}
	if wrong := compareDescriptions(got, want); wrong != nil {
		return fmt.Errorf("%w: its description %s: %w", eventstore.ErrCorrupt, name, wrong)
	}
	return nil
}

// Describe puts a segment's description beside it, in place of what is there.
func (a *Archive) Describe(ctx context.Context, s *Segment, log any) error {
	body, err := s.Description(log)
	if err != nil {
		return err
	}
	return a.put(ctx, s, DescriptionName(s.Name), body)
}

// compareDescriptions says where two descriptions differ. Of the log only its name counts, of which site and shard stay: what else
// is said of it may have changed since.
func compareDescriptions(got, want []byte) error {
	there, err := facts(got)
	if err != nil {
		return err
	}
	should, err := facts(want)
	if err != nil {
		return err
	}
	var wrong []string
	for _, name := range slices.Sorted(maps.Keys(should)) {
		if value, ok := there[name]; !ok || !reflect.DeepEqual(value, should[name]) {
			wrong = append(wrong, fmt.Sprintf("%s is %v, should be %v", name, value, should[name]))
		}
	}
	if len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "; "))
	}
	return nil
}

// facts returns what a description says, by name.
func facts(description []byte) (map[string]any, error) {
	var all map[string]any
	if err := json.Unmarshal(description, &all); err != nil {
		return nil, fmt.Errorf("it cannot be read: %w", err)
	}
	log, _ := all["log"].(map[string]any)
	delete(all, "log")
	for _, name := range []string{"site", "shard"} {
		if value, ok := log[name]; ok {
			all["log's "+name] = value
		}
	}
	return all, nil
}
