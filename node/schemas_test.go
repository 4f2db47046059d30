package node_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/node"
)

// made is a message with string fields of the given names, numbered from 1.
func made(t *testing.T, fields ...string) protoreflect.MessageDescriptor {
	t.Helper()
	m := &descriptorpb.DescriptorProto{Name: proto.String("Made")}
	for i, name := range fields {
		m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
			Name: &name, Number: proto.Int32(int32(i) + 1),
			Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		})
	}
	f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("thing.proto"), Package: proto.String("thing.v1"), MessageType: []*descriptorpb.DescriptorProto{m},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f.Messages().Get(0)
}

type makeThing struct{ ID string }

// things is a domain whose one event looks as m says, recorded under a name.
func things(name string, m protoreflect.MessageDescriptor, old ...commands.Upcast[*dynamicpb.Message]) node.Domain {
	return node.Domain{Name: "things", Register: func(b *commands.Bus) error {
		return commands.Register(b, commands.Aggregate[int, makeThing, *dynamicpb.Message]{
			Category: "thing", ID: func(c makeThing) string { return c.ID },
			Decide: func(int, makeThing) ([]*dynamicpb.Message, error) {
				e := dynamicpb.NewMessage(m)
				for i := range m.Fields().Len() {
					e.Set(m.Fields().Get(i), protoreflect.ValueOfString("x"))
				}
				return []*dynamicpb.Message{e}, nil
			},
			Evolve: func(n int, _ *dynamicpb.Message) int { return n + 1 },
			Codec:  commands.ProtoCodec(map[string]*dynamicpb.Message{name: dynamicpb.NewMessage(m)}, old...),
		})
	}, Commands: map[string]any{"POST /v1/things/{id}": makeThing{}}}
}

// openThings opens a node on a folder, and closes it with the test or by what it returns.
func openThings(t *testing.T, data string, d node.Domain, log io.Writer) (base string, stop func(), err error) {
	t.Helper()
	n, err := node.Open(t.Context(), node.Config{
		Data: data, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", ClickHouse: node.Off, Kafka: node.Off,
		Logger: slog.New(slog.NewTextHandler(log, nil)), Domains: []node.Domain{d},
	})
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	return "http://" + n.HTTPAddr(), func() {
		cancel()
		if err := errors.Join(<-ended, n.Close()); err != nil {
			t.Error(err)
		}
	}, nil
}

// TestSchemasAtStart shows C8: programs of several ages start on one folder, one after the other.
func TestSchemasAtStart(t *testing.T) {
	data := t.TempDir()
	v1, v2 := made(t, "id"), made(t, "id", "color")
	start := func(d node.Domain, do func(base string)) (logged string) {
		t.Helper()
		var log strings.Builder
		base, stop, err := openThings(t, data, d, &log)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		do(base)
		return log.String()
	}
	makes := func(id string, status int) func(string) {
		return func(base string) {
			t.Helper()
			if a := call(t, "POST", base+"/v1/things/"+id, "{}"); a.Status != status {
				t.Errorf("make %s: %+v, want %d", id, a, status)
			}
		}
	}
	refused := func(d node.Domain, says ...string) {
		t.Helper()
		report, err := node.CheckSchemas(t.Context(), node.Config{Data: data, Domains: []node.Domain{d}})
		if err != nil || len(report.Faults) == 0 {
			t.Errorf("the check says %+v, %v; want faults", report, err)
		}
		_, stop, err := openThings(t, data, d, io.Discard)
		if err == nil {
			stop()
			t.Fatal("it started, want it refused")
		}
		if !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("error is %v, want ErrInvalid", err)
		}
		for _, text := range append(says, data) {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("the refusal does not mention %q:\n%v", text, err)
			}
		}
	}

	start(things("thing.made.v1", v1), makes("a", 200))
	start(things("thing.made.v1", v1), makes("b", 200))
	start(things("thing.made.v1", v2), makes("c", 200))
	var list object
	start(things("thing.made.v1", v2), func(base string) { list = getObject(t, base+"/v1/schemas") })
	type row struct{ Revision, Position, Current any }
	var got []row
	for _, s := range list["schemas"].([]any) {
		s := s.(object)
		got = append(got, row{s["revision"], s["first_position"], s["current"]})
	}
	// It is registered once for each change, before the first event that is recorded with it.
	if diff := cmp.Diff([]row{{1.0, "1-1", false}, {2.0, "1-4", true}}, got); diff != "" {
		t.Errorf("schemas (-want +got):\n%s", diff)
	}

	logged := start(things("thing.made.v1", v1), func(base string) {
		if a := call(t, "POST", base+"/v1/things/a", "{}"); a.Status != 503 || !strings.Contains(a.Detail, "thing.made.v1") {
			t.Errorf("an older program writes: %+v, want 503 that names the event", a)
		}
		if s := getObject(t, base+"/v1/streams/thing/a"); s["version"] != "1" {
			t.Errorf("an older program reads %v", s)
		}
		if s := getObject(t, base+"/v1/schemas?name=thing.made.v1")["schemas"].([]any)[1].(object); s["fields"].([]any)[1] != "2 string color" {
			t.Errorf("the schema is shown as %v", s)
		}
		if a := call(t, "GET", base+"/v1/schemas?name=thing.unmade.v1", ""); a.Status != 404 {
			t.Errorf("a schema that is not there: %+v", a)
		}
	})
	if !strings.Contains(logged, "older than the last") || !strings.Contains(logged, "thing.made.v1") {
		t.Errorf("the older program logged %q, want it to say so", logged)
	}

	refused(things("thing.made.v1", made(t, "id", "size")), "thing.made.v1", "color: field 2 is called size now", "upcast")
	refused(things("thing.made.v2", v2), "thing.made.v1", "cannot read them")
	// Nothing of it was written, and with the upcast it starts.
	upcast := commands.Upcast[*dynamicpb.Message]{
		Name: "thing.made.v1", Message: v2,
		Decode: func(*eventstore.Recorded) (*dynamicpb.Message, error) { return dynamicpb.NewMessage(v2), nil },
	}
	start(things("thing.made.v2", v2, upcast), makes("c", 200))
	start(things("thing.made.v2", v2, upcast), func(base string) {
		if n := len(getObject(t, base+"/v1/schemas")["schemas"].([]any)); n != 3 {
			t.Errorf("%d schemas are registered, want 3", n)
		}
	})
	refused(things("thing.made.v1", v2), "thing.made.v2", "cannot read them")
}

func TestSchemasOfTheShop(t *testing.T) {
	data := t.TempDir()
	base, stop := shopServer(t, data, node.Shop())
	list := getObject(t, base+"/v1/schemas")["schemas"].([]any)
	if len(list) < 22 {
		t.Errorf("%d schemas are registered, want those of all events of the shop", len(list))
	}
	for _, s := range list {
		if s := s.(object); s["current"] != true || s["domain"] != "shop" || s["version"] != 1.0 || s["fingerprint"] == "" {
			t.Errorf("schema %v", s)
		}
	}
	if e := events(t, base+"/v1/events?system=true"); len(e) != 1 || e[0]["kind"] != "system" || e[0]["type"] != "tributary.schemas.v1" {
		t.Errorf("a new log holds %v, want one system event", e)
	}
	stop()
	report, err := node.CheckSchemas(t.Context(), node.Config{Data: data})
	want := node.SchemaReport{Known: len(list), New: []string{}, Older: []string{}, Faults: []string{}}
	if diff := cmp.Diff(want, report); diff != "" || err != nil {
		t.Errorf("the check says (-want +got), %v:\n%s", err, diff)
	}
}
