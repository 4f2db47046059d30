package wire

import (
	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// DecodeQuery returns the query that the items make.
func DecodeQuery(items []*storev1.QueryItem) eventstore.Query {
	if len(items) == 0 {
		return nil
	}
	q := make(eventstore.Query, len(items))
	for i, item := range items {
		q[i] = eventstore.QueryItem{Types: item.GetTypes(), Tags: item.GetTags()}
	}
	return q
}

// EncodeQuery returns a query's items.
func EncodeQuery(q eventstore.Query) []*storev1.QueryItem {
	items := make([]*storev1.QueryItem, len(q))
	for i := range q {
		items[i] = &storev1.QueryItem{Types: q[i].Types, Tags: q[i].Tags}
	}
	return items
}

// DecodePosition reads a position; an empty text is the zero position.
func DecodePosition(text string) (eventstore.Position, error) {
	if text == "" {
		return eventstore.Position{}, nil
	}
	return eventstore.ParsePosition(text)
}

// EncodePosition writes a position. The zero position is an empty text; one before the first entry of a certain
// incarnation keeps that.
func EncodePosition(p eventstore.Position) string {
	if p == (eventstore.Position{}) {
		return ""
	}
	return p.String()
}
