package wire

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// EncodeEvent returns an event as a message, for what sends one at a time. It is read back from the wire form, so that there
// is one place that says what an event looks like.
func EncodeEvent(e *eventstore.Recorded) (*storev1.RecordedEvent, error) {
	m := &storev1.RecordedEvent{}
	if err := proto.Unmarshal(appendEvent(nil, e), m); err != nil {
		return nil, fmt.Errorf("encode event at %s: %w", e.Position, err)
	}
	return m, nil
}
