package commands_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
)

// The events of these tests have been changed twice: v1 was a number, v2 a text, and v3 is bytes.
func toV2(old *wrapperspb.Int64Value) (*wrapperspb.StringValue, error) {
	if old.Value < 0 {
		return nil, errors.New("negative")
	}
	return wrapperspb.String(fmt.Sprint(old.Value)), nil
}

func toV3(old *wrapperspb.StringValue) (*wrapperspb.BytesValue, error) {
	return wrapperspb.Bytes([]byte(old.Value + "!")), nil
}

func chained() commands.Codec[proto.Message] {
	return commands.ProtoCodec(
		map[string]proto.Message{"thing.sized.v3": &wrapperspb.BytesValue{}},
		commands.StepProto[*wrapperspb.Int64Value, *wrapperspb.StringValue, proto.Message]("thing.sized.v1", "thing.sized.v2", toV2),
		commands.StepProto[*wrapperspb.StringValue, *wrapperspb.BytesValue, proto.Message]("thing.sized.v2", "thing.sized.v3", toV3),
	)
}

// recordedFrames are frames as programs of three ages recorded them, each with "42" or 42.
var recordedFrames = map[string]struct{ name, payload string }{
	"v1": {"thing.sized.v1", "082a"},
	"v2": {"thing.sized.v2", "0a023432"},
	"v3": {"thing.sized.v3", "0a03343221"},
}

func recordedThing(t *testing.T, name, payload string) *eventstore.Recorded {
	t.Helper()
	body, err := hex.DecodeString(payload)
	must(t, err)
	return &eventstore.Recorded{
		Stream: eventstore.Stream("thing", "a"), Version: 7,
		Event: eventstore.Event{Type: name, SchemaVersion: 1, Encoding: eventstore.Protobuf, Payload: body, Tags: []string{"a:b"}},
	}
}

// TestUpcastChains shows C9: an event reads the same whichever program recorded it, for aggregates and for projections.
func TestUpcastChains(t *testing.T) {
	c := chained()
	for age, f := range recordedFrames {
		r := recordedThing(t, f.name, f.payload)
		e, err := c.Decode(r)
		if must(t, err); !proto.Equal(e, wrapperspb.Bytes([]byte("42!"))) {
			t.Errorf("%s reads as %v", age, e)
		}
		now, err := commands.Current(c, r)
		must(t, err)
		if now.Type != "thing.sized.v3" || hex.EncodeToString(now.Payload) != "0a03343221" || now.Version != 7 || now.Stream != r.Stream || len(now.Tags) != 1 {
			t.Errorf("%s is now %+v", age, now)
		}
		if r.Type != f.name || hex.EncodeToString(r.Payload) != f.payload {
			t.Errorf("%s itself was changed to %+v", age, r)
		}
		if age == "v3" && now != r {
			t.Error("what is current was written anew")
		}
	}
	// What a reader has opened of sealed fields is lifted, and the payload stays sealed.
	opened := recordedThing(t, "thing.sized.v1", "ff")
	opened.Opened = []byte{0x08, 0x2a}
	now, err := commands.Current(c, opened)
	if must(t, err); hex.EncodeToString(now.Opened) != "0a03343221" || hex.EncodeToString(now.Payload) != "ff" {
		t.Errorf("opened: %x, payload %x", now.Opened, now.Payload)
	}
	negative := recordedThing(t, "thing.sized.v1", "08ffffffffffffffffff01")
	if _, err := c.Decode(negative); err == nil || !strings.Contains(err.Error(), "thing.sized.v1") || !strings.Contains(err.Error(), "negative") {
		t.Errorf("a step that fails gives %v", err)
	}
	unknown := recordedThing(t, "thing.lost.v1", "")
	if now, err := commands.Current(c, unknown); err != nil || now != unknown {
		t.Errorf("an event that the codec does not know became %+v, %v", now, err)
	}
}

// An aggregate folds what programs of three ages have recorded in one stream.
func TestAggregateFoldsEventsOfAllAges(t *testing.T) {
	store := newStore(t)
	ctx := context.Background()
	for _, age := range []string{"v1", "v2", "v3"} {
		f := recordedFrames[age]
		_, err := store.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("thing", "a"), Events: []eventstore.Event{recordedThing(t, f.name, f.payload).Event},
		}}})
		must(t, err)
	}
	things := commands.Aggregate[string, string, proto.Message]{
		Category: "thing", ID: func(id string) string { return id }, Codec: chained(),
		Decide: func(string, string) ([]proto.Message, error) { return nil, nil },
		Evolve: func(s string, e proto.Message) string { return s + string(e.(*wrapperspb.BytesValue).Value) },
	}
	if s, version, err := commands.Load(ctx, store, things, "", "a"); err != nil || s != "42!42!42!" || version != 3 {
		t.Errorf("the state is %q at %d, %v", s, version, err)
	}
}

// A projection that begins with Current has one case for all ages of an event (C9).
func TestProjectionsSeeOldEventsAsNewOnes(t *testing.T) {
	store := newStore(t)
	for _, age := range []string{"v1", "v2", "v3"} {
		f := recordedFrames[age]
		_, err := store.Append(t.Context(), eventstore.Request{Appends: []eventstore.StreamAppend{{
			Stream: eventstore.Stream("thing", age), Events: []eventstore.Event{recordedThing(t, f.name, f.payload).Event},
		}}})
		must(t, err)
	}
	codec := chained()
	model := memview.NewKeys(projections.Projection[projections.Keys]{
		Name: "things", Version: 1, Types: codec.Types(),
		Apply: func(w projections.Keys, e *eventstore.Recorded) error {
			e, err := commands.Current(codec, e)
			if err != nil {
				return err
			}
			if e.Type != "thing.sized.v3" {
				return fmt.Errorf("unexpected %s", e.Type)
			}
			w.HashSet("sizes", e.Stream.ID, hex.EncodeToString(e.Payload))
			return nil
		},
	})
	must(t, projections.Replay(t.Context(), store, model, projections.Cursor{}))
	sizes, err := model.Hash(t.Context(), "sizes")
	want := map[string]string{"v1": "0a03343221", "v2": "0a03343221", "v3": "0a03343221"}
	if diff := cmp.Diff(want, sizes); diff != "" || err != nil {
		t.Errorf("the model has (-want +got), %v:\n%s", err, diff)
	}
}

func TestUpcastChainsAreChecked(t *testing.T) {
	v1 := commands.StepProto[*wrapperspb.Int64Value, *wrapperspb.StringValue, proto.Message]("thing.sized.v1", "thing.sized.v2", toV2)
	current := map[string]proto.Message{"thing.sized.v3": &wrapperspb.BytesValue{}}
	circle := func(from, to string) commands.Upcast[proto.Message] {
		return commands.Upcast[proto.Message]{Name: from, To: to, Step: func(r *eventstore.Recorded) ([]byte, error) { return r.Payload, nil }}
	}
	both := circle("thing.sized.v2", "thing.sized.v3")
	both.Decode = func(*eventstore.Recorded) (proto.Message, error) { return nil, nil }
	for says, c := range map[string]commands.Codec[proto.Message]{
		"leads to thing.sized.v2, which this codec does not know": commands.ProtoCodec(current, v1),
		"thing.sized.v2 is missing between v1 and v3": commands.ProtoCodec(current,
			commands.UpcastProto("thing.sized.v1", func(*wrapperspb.Int64Value) (proto.Message, error) { return nil, nil })),
		"leads to thing.sized.v2 as a google.protobuf.StringValue, which is a google.protobuf.BoolValue": commands.ProtoCodec(
			map[string]proto.Message{"thing.sized.v2": &wrapperspb.BoolValue{}}, v1),
		"leads in a circle":         commands.ProtoCodec(current, circle("thing.sized.v1", "thing.sized.v2"), circle("thing.sized.v2", "thing.sized.v1")),
		"has both Decode and Step":  commands.ProtoCodec(current, both),
		"which this codec does not": commands.ProtoCodec(current, circle("thing.sized.v2", "")),
	} {
		a := commands.Aggregate[int, string, proto.Message]{
			Category: "thing", ID: func(id string) string { return id }, Codec: c,
			Decide: func(int, string) ([]proto.Message, error) { return nil, nil },
			Evolve: func(n int, _ proto.Message) int { return n },
		}
		if err := commands.Register(commands.NewBus(newStore(t), commands.Options{}), a, "x"); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("registered with %v, want an error that mentions %q", err, says)
		}
	}
}

// A name that changed twice: each version has a step to the next, and the steps stay as they are for ever.
func ExampleStepJSON() {
	type (
		v1 struct{ Name string }
		v2 struct{ First, Last string }
		v3 struct{ Display string }
	)
	codec := commands.JSONCodec(
		map[string]v3{"user.named.v3": {}},
		commands.StepJSON[v1, v2, v3]("user.named.v1", "user.named.v2", func(old v1) (v2, error) {
			first, last, _ := strings.Cut(old.Name, " ")
			return v2{first, last}, nil
		}),
		commands.StepJSON[v2, v3, v3]("user.named.v2", "user.named.v3", func(old v2) (v3, error) {
			return v3{old.Last + ", " + old.First}, nil
		}),
	)
	e, err := codec.Decode(&eventstore.Recorded{Event: eventstore.Event{
		Type: "user.named.v1", Encoding: eventstore.JSON, Payload: []byte(`{"Name":"Ada Lovelace"}`),
	}})
	fmt.Println(e.Display, err)
	// Output: Lovelace, Ada <nil>
}
