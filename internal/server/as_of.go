package server

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// PositionAsOf returns the position that a client names: one such as "1-42", or that of a time in RFC 3339.
func PositionAsOf(ctx context.Context, store eventstore.Reader, text string) (eventstore.Position, error) {
	if p, err := eventstore.ParsePosition(text); err == nil {
		if p == (eventstore.Position{}) { // it stands for no end
			return p, fmt.Errorf("%w: %s is of no log", eventstore.ErrInvalid, text)
		}
		return p, nil
	}
	_, at, err := positionOrTime(text)
	if err != nil {
		return eventstore.Position{}, err
	}
	return store.PositionAt(ctx, at)
}

// positionOrTime reads one of the two; the time is zero where it is a position.
func positionOrTime(text string) (p eventstore.Position, at time.Time, err error) {
	if p, err = eventstore.ParsePosition(text); err == nil {
		return p, at, nil
	}
	// A time's plus sign that was not escaped in a query string has become a space, which no time has.
	if at, err = time.Parse(time.RFC3339Nano, strings.ReplaceAll(text, " ", "+")); err != nil {
		return p, at, fmt.Errorf("%w: %q is neither a position such as 1-42 nor a time such as 2026-11-24T08:26:00Z", eventstore.ErrInvalid, text)
	}
	return p, at, nil
}
