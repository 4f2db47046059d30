package sealed_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/sealed"
)

// TestNobodyBringsKeys: an event that names a key, or holds something sealed, is refused whatever its type is; reads go on.
func TestNobodyBringsKeys(t *testing.T) {
	r := newRig(t)
	box := protowire.AppendBytes(protowire.AppendTag(nil, sealed.Field, protowire.BytesType), []byte("x"))
	for name, e := range map[string]eventstore.Event{
		"key and box":        {Type: "mine.x.v1", KeyRef: 99, Payload: box},
		"key":                {Type: "mine.x.v1", KeyRef: 99},
		"key, JSON":          {Type: "mine.x.v1", KeyRef: 99, Encoding: eventstore.JSON, Payload: []byte("{}")},
		"key, personal type": {Type: createdV1, KeyRef: 99},
		"box":                {Type: "mine.x.v1", Payload: box},
		"box behind a field": {Type: "mine.x.v1", Payload: append([]byte{8, 1}, box...)},
		"box, personal type": {Type: createdV1, Payload: box},
		"an empty box":       {Type: "mine.x.v1", Payload: protowire.AppendBytes(protowire.AppendTag(nil, sealed.Field, protowire.BytesType), nil)},
	} {
		_, err := r.store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("mine", "1"), Events: []eventstore.Event{{Type: "mine.x.v1"}, e},
		}}})
		if !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, payload := range [][]byte{nil, {0xff, 0xff}, []byte("plain text")} {
		_, err := r.store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("mine", "1"), Events: []eventstore.Event{{Type: "mine.x.v1", Payload: payload}},
		}}})
		if err != nil {
			t.Errorf("payload %q: %v", payload, err)
		}
	}
	n := 0
	for _, err := range r.store.ReadAll(t.Context(), eventstore.Position{}, eventstore.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 3 {
		t.Errorf("%d events, want 3", n)
	}
}
