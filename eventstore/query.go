package eventstore

import (
	"fmt"
	"slices"
	"strings"
)

// Limits of a Query.
const (
	MaxQueryItems = 32
	MaxQueryTypes = 32 // of an item
)

// Query chooses events by type and tag. An event matches the query when it matches one of the items; the empty query
// matches every event. The same value filters a read and guards an append (Condition), so that a decision is guarded by
// exactly what it was made from.
type Query []QueryItem

// QueryItem matches an event that is of one of the types and carries all of the tags. No types: of any type. No tags:
// whatever its tags are. One of the two must be there.
type QueryItem struct {
	Types []string
	Tags  []string
}

// Tagged returns the query for the events that carry all of the tags.
func Tagged(tags ...string) Query { return Query{{Tags: tags}} }

// Matches reports whether the query matches the event.
func (q Query) Matches(r *Recorded) bool {
	if len(q) == 0 {
		return true
	}
	return slices.ContainsFunc(q, func(i QueryItem) bool { return i.Matches(r.Type, r.Tags) })
}

// Matches reports whether the item matches an event of a type with tags, which are sorted.
func (i *QueryItem) Matches(eventType string, tags []string) bool {
	if !oneOf(i.Types, eventType) {
		return false
	}
	for _, tag := range i.Tags {
		if _, found := slices.BinarySearch(tags, tag); !found {
			return false
		}
	}
	return true
}

// Validate says what is wrong with the query. Errors match ErrInvalid or ErrTooLarge.
func (q Query) Validate() error {
	if len(q) > MaxQueryItems {
		return fmt.Errorf("%w: a query of %d items, the limit is %d", ErrTooLarge, len(q), MaxQueryItems)
	}
	for i := range q {
		if err := q[i].validate(); err != nil {
			return fmt.Errorf("query item %d: %w", i+1, err)
		}
	}
	return nil
}

func (i *QueryItem) validate() error {
	if len(i.Types) == 0 && len(i.Tags) == 0 {
		return invalidf("it names neither a type nor a tag and so would match every event")
	}
	if len(i.Types) > MaxQueryTypes {
		return fmt.Errorf("%w: %d types, the limit is %d", ErrTooLarge, len(i.Types), MaxQueryTypes)
	}
	if len(i.Tags) > MaxTags {
		return fmt.Errorf("%w: %d tags, an event has at most %d", ErrTooLarge, len(i.Tags), MaxTags)
	}
	for _, t := range i.Types {
		if err := validateType(t); err != nil {
			return err
		}
	}
	for _, tag := range i.Tags {
		if err := validateTag(tag); err != nil {
			return err
		}
	}
	return nil
}

// String returns the query as conflict errors show it.
func (q Query) String() string {
	if len(q) == 0 {
		return "any event"
	}
	items := make([]string, len(q))
	for i := range q {
		var parts []string
		if len(q[i].Types) > 0 {
			parts = append(parts, "type "+strings.Join(q[i].Types, " or "))
		}
		if len(q[i].Tags) > 0 {
			parts = append(parts, "tag "+strings.Join(q[i].Tags, " and "))
		}
		items[i] = strings.Join(parts, " with ")
	}
	return strings.Join(items, ", or ")
}

// Condition is a query-shaped expectation, the dynamic consistency boundary: no event of the request's tenant that the
// query matches stands after a position. It is judged together with the expectations of the streams, against everything
// that was accepted before the request.
type Condition struct {
	Query Query
	// After is how far the decider had read, in this log: Chunk.Position or LogState.Durable of the time before its read,
	// or the position of the last event it saw. Zero: no event that matches exists at all.
	After Position
}

func (c *Condition) validate() error {
	if len(c.Query) == 0 {
		return invalidf("the condition's query is empty: name the types or tags that must not have appeared")
	}
	if err := c.Query.Validate(); err != nil {
		return fmt.Errorf("condition: %w", err)
	}
	return nil
}
