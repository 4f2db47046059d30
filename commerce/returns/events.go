package returns

import (
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commands"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Event is one of the messages that Codec knows: *commercev1.ReturnReceived and *commercev1.ReturnCompleted.
type Event = proto.Message

// The wire names of the events. They never change.
const (
	ReceivedV1  = "return.received.v1"
	CompletedV1 = "return.completed.v1"
)

// Codec returns the codec of the events of returns. It is always the same one, safe for concurrent use.
func Codec() commands.Codec[Event] { return codec }

var codec = commands.ProtoCodec(map[string]Event{
	ReceivedV1:  &commercev1.ReturnReceived{},
	CompletedV1: &commercev1.ReturnCompleted{},
})
