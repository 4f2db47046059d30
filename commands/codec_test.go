package commands_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// The protobuf events of these tests are the well-known wrappers: a string is the current event, an int64 what older
// programs recorded in its place.
func protoCodec() commands.Codec[proto.Message] {
	return commands.ProtoCodec(
		map[string]proto.Message{"thing.named.v2": &wrapperspb.StringValue{}, "thing.counted.v1": &wrapperspb.UInt32Value{}},
		commands.UpcastProto("thing.named.v1", func(old *wrapperspb.Int64Value) (proto.Message, error) {
			if old.Value < 0 {
				return nil, errors.New("negative")
			}
			return wrapperspb.String(strings.Repeat("x", int(old.Value))), nil
		}),
	)
}

func TestProtoCodec(t *testing.T) {
	c := protoCodec()
	event, err := c.Encode(wrapperspb.String("n"))
	must(t, err)
	if event.Type != "thing.named.v2" || event.SchemaVersion != 2 || event.Encoding != eventstore.Protobuf {
		t.Errorf("encoded as %+v", event)
	}
	got, err := c.Decode(&eventstore.Recorded{Event: event})
	if must(t, err); !proto.Equal(got, wrapperspb.String("n")) {
		t.Errorf("decoded %v", got)
	}
	old, err := proto.Marshal(wrapperspb.Int64(3))
	must(t, err)
	got, err = c.Decode(&eventstore.Recorded{Event: eventstore.Event{Type: "thing.named.v1", Encoding: eventstore.Protobuf, Payload: old}})
	if must(t, err); !proto.Equal(got, wrapperspb.String("xxx")) {
		t.Errorf("the old event was lifted to %v", got)
	}
	if diff := cmp.Diff([]string{"thing.counted.v1", "thing.named.v1", "thing.named.v2"}, c.Types()); diff != "" {
		t.Errorf("types (-want +got):\n%s", diff)
	}
}

func TestProtoCodecFaults(t *testing.T) {
	c := protoCodec()
	if _, err := c.Encode(wrapperspb.Bool(true)); !errors.Is(err, commands.ErrUnknownEvent) {
		t.Errorf("encoding an unknown type gives %v", err)
	}
	negative, err := proto.Marshal(wrapperspb.Int64(-1))
	must(t, err)
	for says, e := range map[string]eventstore.Event{
		"unknown":      {Type: "thing.lost.v1", Encoding: eventstore.Protobuf},
		"json":         {Type: "thing.named.v2", Encoding: eventstore.JSON, Payload: []byte(`"n"`)},
		"named.v2: pr": {Type: "thing.named.v2", Encoding: eventstore.Protobuf, Payload: []byte{0xff}},
		"negative":     {Type: "thing.named.v1", Encoding: eventstore.Protobuf, Payload: negative},
	} {
		if _, err := c.Decode(&eventstore.Recorded{Event: e}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("decoding %+v gives %v, want an error that mentions %q", e, err, says)
		}
	}
}

type renamed struct{ Name, Surname string }

func TestJSONCodecUpcasts(t *testing.T) {
	type single struct{ Name string }
	c := commands.JSONCodec(
		map[string]any{"user.renamed.v2": renamed{}, "user.left.v1": &struct{}{}},
		commands.UpcastJSON("user.renamed.v1", func(old single) (any, error) {
			first, last, _ := strings.Cut(old.Name, " ")
			return renamed{first, last}, nil
		}),
	)
	got, err := c.Decode(&eventstore.Recorded{Event: eventstore.Event{
		Type: "user.renamed.v1", Encoding: eventstore.JSON, Payload: []byte(`{"Name":"Ada Lovelace"}`),
	}})
	must(t, err)
	if diff := cmp.Diff(any(renamed{"Ada", "Lovelace"}), got); diff != "" {
		t.Errorf("upcast event (-want +got):\n%s", diff)
	}
	got, err = c.Decode(&eventstore.Recorded{Event: eventstore.Event{Type: "user.left.v1", Encoding: eventstore.JSON, Payload: []byte(`{}`)}})
	must(t, err)
	if _, ok := got.(*struct{}); !ok {
		t.Errorf("a pointer prototype decodes to %T", got)
	}
}

func TestCodecDeclarationsAreChecked(t *testing.T) {
	type event struct{ A int }
	lift := func(e event) (event, error) { return e, nil }
	for says, c := range map[string]commands.Codec[event]{
		"no events":      commands.JSONCodec(map[string]event{}),
		"same Go type":   commands.JSONCodec(map[string]event{"a.b.v1": {}, "a.c.v1": {}}),
		"category.event": commands.JSONCodec(map[string]event{"a.b.v0": {}}),
		`"A.b.v1"`:       commands.JSONCodec(map[string]event{"A.b.v1": {}}),
		"declared twice": commands.JSONCodec(map[string]event{"a.b.v1": {}}, commands.UpcastJSON("a.b.v1", lift)),
		"Decode is nil":  commands.JSONCodec(map[string]event{"a.b.v1": {}}, commands.Upcast[event]{Name: "a.a.v1"}),
		`"b.v1"`:         commands.JSONCodec(map[string]event{"b.v1": {}}),
	} {
		if _, err := c.Encode(event{}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("a bad declaration gives %v, want an error that mentions %q", err, says)
		}
	}
	if _, err := commands.JSONCodec(map[string]any{"a.b.v1": nil}).Encode(1); err == nil || !strings.Contains(err.Error(), "prototype is nil") {
		t.Errorf("a nil prototype gives %v", err)
	}
}
