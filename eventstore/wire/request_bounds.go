package wire

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tributary-es/tributary/eventstore"
)

// A message of a few megabytes can ask for a hundred times the memory: an empty event has two bytes there. What is too much
// anyway is found before room is made for it.
var (
	errTooMany        = fmt.Errorf("%w: more than %d streams, events or tags in one request", eventstore.ErrTooLarge, eventstore.MaxRequestEvents)
	errLargeCondition = fmt.Errorf("%w: condition: more than %d items, or more types and tags than they may have", eventstore.ErrTooLarge, eventstore.MaxQueryItems)
	errEmptyTag       = invalidf("tag %q must be valid UTF-8 of 1 to %d bytes", "", eventstore.MaxTagBytes)
)

const (
	// maxNames bounds the texts of a request: as many tags as there may be, each event's type, each stream's name, and the rest.
	maxNames = eventstore.MaxRequestEvents * (eventstore.MaxTags + 4)
	// maxTags bounds tags and contexts of a request that is read by the generated code.
	maxTags = 64 * eventstore.MaxRequestEvents
	// mostTexts and mostNames are what a RequestReader keeps room for: requests of hundreds of events.
	mostTexts = 64 << 10
	mostNames = 4 << 10
)

// bounded returns an error when a request has more of something than any request may have, be it well formed or not.
func bounded(b []byte) error {
	streams, events, tags := 0, 0, 0
	for a, rest := inner(b, 3); a != nil; a, rest = inner(rest, 3) {
		streams++
		tags += parts(a, 8)
		for e, rest := inner(a, 7); e != nil; e, rest = inner(rest, 7) {
			events++
			tags += parts(e, 7)
		}
		if max(streams, events) > eventstore.MaxRequestEvents || tags > maxTags {
			return errTooMany
		}
	}
	items, terms := 0, 0
	for c, rest := inner(b, 4); c != nil; c, rest = inner(rest, 4) { // pieces of one
		i, t := conditionOf(c)
		items, terms = items+i, terms+t
	}
	if !boundedCondition(items, terms) {
		return errLargeCondition
	}
	return nil
}

// conditionOf counts the items of a condition's query, and the types and tags in them.
func conditionOf(b []byte) (items, terms int) {
	for q, rest := inner(b, 1); q != nil; q, rest = inner(rest, 1) {
		items++
		terms += parts(q, 1) + parts(q, 2)
	}
	return items, terms
}

func boundedCondition(items, terms int) bool {
	return items <= eventstore.MaxQueryItems && terms <= eventstore.MaxQueryItems*(eventstore.MaxQueryTypes+eventstore.MaxTags)
}

// parts counts the fields of a number that have a length.
func parts(b []byte, number protowire.Number) (n int) {
	for v, rest := inner(b, number); v != nil; v, rest = inner(rest, number) {
		n++
	}
	return n
}

// inner returns the first field of a number that has a length, and what follows it; nil when there is none up to what is
// malformed: the generated code gets no further either.
func inner(b []byte, number protowire.Number) (value, rest []byte) {
	for len(b) > 0 {
		n, kind, m := protowire.ConsumeTag(b)
		if m < 0 {
			return nil, nil
		}
		field := b[m:]
		size := protowire.ConsumeFieldValue(n, kind, field)
		if size < 0 {
			return nil, nil
		}
		b = field[size:]
		if n == number && kind == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(field)
			return value, b
		}
	}
	return nil, nil
}
