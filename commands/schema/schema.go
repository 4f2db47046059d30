package schema

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/tributary-es/tributary/eventstore"
)

// Schema is what events of a wire name look like.
type Schema struct {
	// Name is the wire name, "order.created.v1".
	Name    string
	Message protoreflect.MessageDescriptor
}

// Fingerprint is a hash of what the message and all that it holds look like: names, numbers and types of fields, values of
// enums, what is reserved. Comments, options and other messages of the same files do not matter.
func (s Schema) Fingerprint() eventstore.Hash {
	var b strings.Builder
	for _, d := range reachable(s.Message) {
		describe(&b, d)
	}
	return sha256.Sum256([]byte(b.String()))
}

// reachable returns a message and all messages and enums that it holds, sorted by name.
func reachable(m protoreflect.MessageDescriptor) []protoreflect.Descriptor {
	seen := map[protoreflect.FullName]protoreflect.Descriptor{}
	var visit func(m protoreflect.MessageDescriptor)
	visit = func(m protoreflect.MessageDescriptor) {
		if seen[m.FullName()] != nil {
			return
		}
		seen[m.FullName()] = m
		for i := range m.Fields().Len() {
			switch f := m.Fields().Get(i); {
			case f.Message() != nil:
				visit(f.Message())
			case f.Enum() != nil:
				seen[f.Enum().FullName()] = f.Enum()
			}
		}
	}
	visit(m)
	all := make([]protoreflect.Descriptor, 0, len(seen))
	for _, d := range seen {
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b protoreflect.Descriptor) int {
		return strings.Compare(string(a.FullName()), string(b.FullName()))
	})
	return all
}

// describe writes what counts of a message or enum, in an order that does not depend on where it stands in its file.
func describe(b *strings.Builder, d protoreflect.Descriptor) {
	fmt.Fprintf(b, "%s\n", d.FullName())
	if e, ok := d.(protoreflect.EnumDescriptor); ok {
		values := make([]string, e.Values().Len())
		for i := range values {
			values[i] = fmt.Sprintf("%d %s", e.Values().Get(i).Number(), e.Values().Get(i).Name())
		}
		slices.Sort(values)
		fmt.Fprintf(b, " %s\n", strings.Join(values, "\n "))
		for i := range e.ReservedRanges().Len() {
			fmt.Fprintf(b, " reserved %v\n", e.ReservedRanges().Get(i))
		}
		return
	}
	m := d.(protoreflect.MessageDescriptor)
	for _, line := range Fields(m) {
		fmt.Fprintf(b, " %s\n", line)
	}
	for i := range m.ReservedRanges().Len() {
		fmt.Fprintf(b, " reserved %v\n", m.ReservedRanges().Get(i))
	}
}

// Fields describes the fields of a message for people, by number: "3 repeated tributary.commerce.v1.Line lines".
func Fields(m protoreflect.MessageDescriptor) []string {
	fields := make([]protoreflect.FieldDescriptor, m.Fields().Len())
	for i := range fields {
		fields[i] = m.Fields().Get(i)
	}
	slices.SortFunc(fields, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number()) - int(b.Number()) })
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = fmt.Sprintf("%d %s %s", f.Number(), typeOf(f), f.Name())
		if o := oneofOf(f); o != "" {
			out[i] += " of " + o
		}
	}
	return out
}

// typeOf is a field's type as a .proto file has it.
func typeOf(f protoreflect.FieldDescriptor) string {
	name := f.Kind().String()
	switch {
	case f.IsMap():
		return "map<" + typeOf(f.MapKey()) + ", " + typeOf(f.MapValue()) + ">"
	case f.Message() != nil:
		name = string(f.Message().FullName())
	case f.Enum() != nil:
		name = string(f.Enum().FullName())
	}
	switch {
	case f.IsList():
		return "repeated " + name
	case f.Cardinality() == protoreflect.Required:
		return "required " + name
	}
	return name
}

// oneofOf is the name of the oneof that a field is one of, empty when it is of none.
func oneofOf(f protoreflect.FieldDescriptor) string {
	if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
		return string(o.Name())
	}
	return ""
}

// Encode returns the files that describe the schemas as an encoded google.protobuf.FileDescriptorSet, each file behind what
// it imports. The same schemas give the same bytes.
func Encode(schemas []Schema) ([]byte, error) {
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	var add func(f protoreflect.FileDescriptor)
	add = func(f protoreflect.FileDescriptor) {
		if seen[f.Path()] {
			return
		}
		seen[f.Path()] = true
		for i := range f.Imports().Len() {
			add(f.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	for _, s := range schemas {
		add(s.Message.ParentFile())
	}
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("encode files of schemas: %w", err)
	}
	return out, nil
}

// Files are what Encode wrote, read.
type Files struct{ known *protoregistry.Files }

// Decode reads files that Encode wrote, which takes as long for one message as for all.
func Decode(files []byte) (Files, error) {
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(files, &set); err != nil {
		return Files{}, fmt.Errorf("decode files of schemas: %w", err)
	}
	known, err := protodesc.NewFiles(&set)
	if err != nil {
		return Files{}, fmt.Errorf("read files of schemas: %w", err)
	}
	return Files{known}, nil
}

// Message returns the message of a full name as the files describe it.
func (f Files) Message(message string) (protoreflect.MessageDescriptor, error) {
	d, err := f.known.FindDescriptorByName(protoreflect.FullName(message))
	if err != nil {
		return nil, fmt.Errorf("message %s in the files of schemas: %w", message, err)
	}
	m, ok := d.(protoreflect.MessageDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s in the files of schemas is not a message", message)
	}
	return m, nil
}
