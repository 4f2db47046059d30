package schema_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/tributary-es/tributary/commands/schema"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// message builds the message M from lines such as "1 string id", "2 repeated Item items", "3 Kind kind of choice", "reserved 4",
// with Item and Kind from item ("1 string code") and kind ("0 UNKNOWN").
func message(t *testing.T, fields, item, kind []string) protoreflect.MessageDescriptor {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("m.proto"), Package: proto.String("p"), Syntax: proto.String("proto2"),
		MessageType: []*descriptorpb.DescriptorProto{describe(t, "M", fields), describe(t, "Item", item)},
	}
	e := &descriptorpb.EnumDescriptorProto{Name: proto.String("Kind")}
	for _, line := range kind {
		var number int32
		var name string
		if n, ok := strings.CutPrefix(line, "reserved "); ok {
			scan(t, n, "%d", &number)
			e.ReservedRange = append(e.ReservedRange, &descriptorpb.EnumDescriptorProto_EnumReservedRange{Start: &number, End: &number})
			continue
		}
		scan(t, line, "%d %s", &number, &name)
		e.Value = append(e.Value, &descriptorpb.EnumValueDescriptorProto{Name: &name, Number: &number})
	}
	file.EnumType = append(file.EnumType, e)
	built, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return built.Messages().ByName("M")
}

func scan(t *testing.T, line, format string, into ...any) {
	t.Helper()
	if _, err := fmt.Sscanf(line, format, into...); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
}

func describe(t *testing.T, name string, lines []string) *descriptorpb.DescriptorProto {
	t.Helper()
	m := &descriptorpb.DescriptorProto{Name: proto.String(name)}
	for _, line := range lines {
		if n, ok := strings.CutPrefix(line, "reserved "); ok {
			var number int32
			scan(t, n, "%d", &number)
			m.ReservedRange = append(m.ReservedRange, &descriptorpb.DescriptorProto_ReservedRange{Start: proto.Int32(number), End: proto.Int32(number + 1)})
			continue
		}
		line, choice, inChoice := strings.Cut(line, " of ")
		words := strings.Fields(line)
		f := &descriptorpb.FieldDescriptorProto{Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum()}
		for _, l := range []string{"repeated", "required"} {
			if words[1] == l {
				f.Label = descriptorpb.FieldDescriptorProto_Label(descriptorpb.FieldDescriptorProto_Label_value["LABEL_"+strings.ToUpper(l)]).Enum()
				words = slices.Delete(words, 1, 2)
			}
		}
		var number int32
		scan(t, words[0], "%d", &number)
		f.Number, f.Name = &number, &words[2]
		switch words[1] {
		case "Item", "M":
			f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), proto.String(".p."+words[1])
		case "Kind":
			f.Type, f.TypeName = descriptorpb.FieldDescriptorProto_TYPE_ENUM.Enum(), proto.String(".p.Kind")
		default:
			kind, ok := descriptorpb.FieldDescriptorProto_Type_value["TYPE_"+strings.ToUpper(words[1])]
			if !ok {
				t.Fatalf("no such type: %q", line)
			}
			f.Type = descriptorpb.FieldDescriptorProto_Type(kind).Enum()
		}
		if inChoice {
			if len(m.OneofDecl) == 0 {
				m.OneofDecl = append(m.OneofDecl, &descriptorpb.OneofDescriptorProto{Name: &choice})
			}
			f.OneofIndex = proto.Int32(0)
		}
		m.Field = append(m.Field, f)
	}
	return m
}

var (
	item = []string{"1 string code"}
	kind = []string{"0 UNKNOWN", "1 CARD"}
)

// TestCompare goes through what can become of a schema: what a program that has the one on the right gets wrong of events
// that were recorded by the one on the left.
func TestCompare(t *testing.T) {
	base := []string{"1 string id", "2 repeated Item items", "3 Kind kind"}
	for name, c := range map[string]struct {
		was, is         []string // fields; nil: base
		itemIs, kindIs  []string // nil: as above
		misread, unseen string   // in the text of the only difference; both empty: none
	}{
		"the same":                        {},
		"a field more":                    {is: append(base, "4 int64 at_ms")},
		"fields in another order":         {is: []string{base[2], base[0], base[1]}},
		"another type":                    {is: []string{"1 int64 id", base[1], base[2]}, misread: "id: field 1 was string and is int64 now"},
		"another name":                    {is: []string{"1 string code", base[1], base[2]}, misread: "id: field 1 is called code now"},
		"repeated now":                    {is: []string{"1 repeated string id", base[1], base[2]}, misread: "id: field 1 was string and is repeated string now"},
		"a message now":                   {is: []string{"1 Item id", base[1], base[2]}, misread: "id: field 1 was string and is p.Item now"},
		"a wider number":                  {was: []string{"1 int32 n"}, is: []string{"1 int64 n"}},
		"a narrower number":               {was: []string{"1 int64 n"}, is: []string{"1 int32 n"}, misread: "n: field 1 was int64 and is int32 now"},
		"another form of number":          {was: []string{"1 int64 n"}, is: []string{"1 sint64 n"}, misread: "n: field 1 was int64 and is sint64 now"},
		"gone":                            {is: base[1:], unseen: "id: field 1 is gone and its number is not reserved"},
		"gone and reserved":               {is: append([]string{"reserved 1"}, base[1:]...)},
		"reserved and taken again":        {was: append([]string{"reserved 4"}, base...), is: append(base, "4 string id2"), misread: "id2: field 4 was reserved"},
		"in a choice now":                 {is: []string{"1 string id of choice", base[1], base[2]}, misread: "id: field 1 was in no oneof and is in oneof choice now"},
		"required, and was not there":     {is: append(base, "4 required string more"), misread: "more: field 4 is required"},
		"required, and was optional":      {is: []string{"1 required string id", base[1], base[2]}, misread: "id: field 1 is required"},
		"required as before":              {was: []string{"1 required string id"}, is: []string{"1 required string id"}},
		"within: a field more":            {itemIs: append(item, "2 int64 n")},
		"within: another type":            {itemIs: []string{"1 bytes code"}, misread: "items.code: field 1 was string and is bytes now"},
		"within: gone":                    {itemIs: []string{"2 int64 n"}, unseen: "items.code: field 1 is gone"},
		"enum: a value more":              {kindIs: append(kind, "2 CASH")},
		"enum: another meaning":           {kindIs: []string{"0 UNKNOWN", "1 CASH"}, misread: "kind: value 1 was CARD and is CASH now"},
		"enum: meanings changed places":   {kindIs: []string{"0 CARD", "1 UNKNOWN"}, misread: "kind: value 0 was UNKNOWN and is CARD now"},
		"enum: a value gone":              {kindIs: kind[:1], unseen: "kind: value 1, CARD, is gone"},
		"enum: a value gone and reserved": {kindIs: append(kind[:1:1], "reserved 1")},
		"a message that holds itself":     {was: []string{"1 M inner", "2 string id"}, is: []string{"1 M inner", "2 int64 id"}, misread: "id: field 2"},
	} {
		t.Run(name, func(t *testing.T) {
			or := func(lines, otherwise []string) []string {
				if lines == nil {
					return otherwise
				}
				return lines
			}
			was := message(t, or(c.was, base), item, kind)
			is := message(t, or(c.is, or(c.was, base)), or(c.itemIs, item), or(c.kindIs, kind))
			got := schema.Compare(was, is)
			want := c.misread + c.unseen
			if want == "" {
				if len(got) > 0 {
					t.Errorf("differences: %v, want none", got)
				}
				return
			}
			if len(got) == 0 || !strings.HasPrefix(got[0].String(), want) || got[0].Unseen != (c.unseen != "") {
				t.Errorf("differences: %+v, want one that begins with %q, unseen %v", got, want, c.unseen != "")
			}
		})
	}
}

func unused(string) (bool, error) { return false, nil }
func used(string) (bool, error)   { return true, nil }

// TestCheck shows C8: what a program is told that meets a log which was written with other schemas, older and newer ones.
func TestCheck(t *testing.T) {
	at := func(fields ...string) schema.Schema {
		return schema.Schema{Name: "m.made.v1", Message: message(t, fields, item, kind)}
	}
	v1, v2, reused := at("1 string id"), at("1 string id", "2 int64 n"), at("1 string id", "2 string note")
	for name, c := range map[string]struct {
		history, program []schema.Schema
		used             func(string) (bool, error)
		changed, older   int
		fault            string
	}{
		"a new log":           {nil, []schema.Schema{v1}, unused, 1, 0, ""},
		"the same":            {[]schema.Schema{v1}, []schema.Schema{v1}, unused, 0, 0, ""},
		"a newer program":     {[]schema.Schema{v1}, []schema.Schema{v2}, unused, 1, 0, ""},
		"an older program":    {[]schema.Schema{v1, v2}, []schema.Schema{v1}, unused, 0, 1, ""},
		"the newer one again": {[]schema.Schema{v1, v2}, []schema.Schema{v2}, unused, 0, 0, ""},
		"one that never wrote here and lacks a field": {[]schema.Schema{v2}, []schema.Schema{v1}, unused, 0, 0, "n: field 2 is gone"},
		"a number with another meaning":               {[]schema.Schema{v1, v2}, []schema.Schema{reused}, unused, 0, 0, "n: field 2 is called note now"},
		// What stood between counts too: events were recorded with it.
		"a number that had another meaning once": {[]schema.Schema{v1, v2, at("1 string id", "reserved 2")}, []schema.Schema{reused}, unused, 0, 0, "field 2"},
		"an older one that a newer contradicts":  {[]schema.Schema{reused, at("1 string id", "2 int64 n")}, []schema.Schema{reused}, unused, 0, 0, "n: field 2 is called note now"},
		"a name gone that was never used":        {[]schema.Schema{v1}, nil, unused, 0, 0, ""},
		"a name gone that was used":              {[]schema.Schema{v1}, nil, used, 0, 0, "the program cannot read them"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := schema.Check(c.history, c.program, c.used)
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Changed) != c.changed || len(got.Older) != c.older {
				t.Errorf("%d changed, %d older, want %d and %d", len(got.Changed), len(got.Older), c.changed, c.older)
			}
			text := strings.Join(got.Faults, "\n")
			if (text == "") != (c.fault == "") || !strings.Contains(text, c.fault) || c.fault != "" && !strings.HasPrefix(text, "m.made.v1: ") {
				t.Errorf("faults are %q, want %q mentioned", text, c.fault)
			}
		})
	}
}

func TestFilesDescribeTheMessage(t *testing.T) {
	for _, m := range []proto.Message{&commercev1.OrderCreated{}, &commercev1.InventoryAdjusted{}, &commercev1.VoucherCreated{}} {
		s := schema.Schema{Name: "x.y.v1", Message: m.ProtoReflect().Descriptor()}
		files, err := schema.Encode([]schema.Schema{s, s})
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := schema.Decode(files)
		if err != nil {
			t.Fatal(err)
		}
		read, err := decoded.Message(string(s.Message.FullName()))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decoded.Message("p.M"); err == nil {
			t.Error("a message was read that the files do not have")
		}
		if (schema.Schema{Name: s.Name, Message: read}).Fingerprint() != s.Fingerprint() || len(schema.Compare(s.Message, read)) > 0 {
			t.Errorf("%s is another after it was written and read", s.Message.FullName())
		}
	}
	for _, broken := range [][]byte{{0xff}, {0x0a, 0x03, 0x0a, 0x01, 'x'}} {
		files, err := schema.Decode(broken)
		if err == nil {
			_, err = files.Message("p.M")
		}
		if err == nil {
			t.Errorf("%x was read as the files of a schema", broken)
		}
	}
}

func TestFingerprintIsOfWhatCounts(t *testing.T) {
	fingerprint := func(fields, item, kind []string) string {
		return fmt.Sprint(schema.Schema{Message: message(t, fields, item, kind)}.Fingerprint())
	}
	base := []string{"1 string id", "2 Item item"}
	same := fingerprint(base, item, kind)
	if fingerprint([]string{base[1], base[0]}, item, kind) != same || fingerprint(base, item, append(kind, "7 MORE")) != same {
		t.Error("the order of fields, or an enum that the message does not hold, changed the fingerprint")
	}
	for what, other := range map[string]string{
		"a field more": fingerprint(append(base, "3 Kind kind"), item, kind), "a field within": fingerprint(base, append(item, "2 int64 n"), kind),
		"a reserved number": fingerprint(append(base, "reserved 3"), item, kind), "required": fingerprint([]string{"1 required string id", base[1]}, item, kind),
		"a type": fingerprint([]string{"1 bytes id", base[1]}, item, kind),
	} {
		if other == same {
			t.Errorf("%s left the fingerprint as it was", what)
		}
	}
}
