package sealed

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// Field is the number of the field that holds what is sealed. No message may declare it.
const Field protowire.Number = 18_999

// marks says which fields of a message are personal, and which names the subject. A message without personal fields has none.
type marks struct {
	message  protoreflect.FullName
	subject  protowire.Number
	personal map[protowire.Number]protoreflect.Name
}

// marksOf reads the options of a message. All that is wrong with them is joined.
func marksOf(d protoreflect.MessageDescriptor) (*marks, error) {
	m := &marks{message: d.FullName(), personal: map[protowire.Number]protoreflect.Name{}}
	var faults []error
	fault := func(f protoreflect.FieldDescriptor, format string, args ...any) {
		faults = append(faults, fmt.Errorf("field %s: "+format, append([]any{f.FullName()}, args...)...))
	}
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		personal, subject := marked(f)
		switch {
		case f.Number() == Field:
			fault(f, "number %d is kept for what is sealed", Field)
		case personal && subject:
			fault(f, "it is marked personal and subject: a reference to a person must not be personal data")
		case subject && (f.Kind() != protoreflect.StringKind || f.IsList()):
			fault(f, "a subject is a single string")
		case subject && m.subject != 0:
			fault(f, "the message has a subject already")
		case subject:
			m.subject = f.Number()
		case personal:
			m.personal[f.Number()] = f.Name()
		case f.Message() != nil && markedBelow(f.Message(), map[protoreflect.FullName]bool{}):
			fault(f, "marks stand below it; only those at the top level of an event's message are kept")
		}
	}
	if len(m.personal) > 0 && m.subject == 0 {
		faults = append(faults, fmt.Errorf("message %s has personal fields, and no field marked as their subject", d.FullName()))
	}
	return m, errors.Join(faults...)
}

func marked(f protoreflect.FieldDescriptor) (personal, subject bool) {
	personal, _ = proto.GetExtension(f.Options(), apiv1.E_Personal).(bool)
	subject, _ = proto.GetExtension(f.Options(), apiv1.E_Subject).(bool)
	return personal, subject
}

// markedBelow reports whether a field of the message is marked, at any depth.
func markedBelow(d protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if seen[d.FullName()] {
		return false
	}
	seen[d.FullName()] = true
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if personal, subject := marked(f); personal || subject {
			return true
		}
		if f.Message() != nil && markedBelow(f.Message(), seen) {
			return true
		}
	}
	return false
}

// split is a payload taken apart.
type split struct {
	subject string
	// open is the payload without its personal fields, personal their fields one after the other; empty when there are none.
	open, personal []byte
	// first is the name of a personal field, for errors.
	first protoreflect.Name
}

// split takes a payload apart. A payload without personal fields costs no memory: open and personal are nil then.
func (m *marks) split(payload []byte) (split, error) {
	var s split
	for rest := payload; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return s, fmt.Errorf("%s: %w", m.message, protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, rest[n:])
		if size < 0 {
			return s, fmt.Errorf("%s: %w", m.message, protowire.ParseError(size))
		}
		field := rest[:n+size]
		before := len(payload) - len(rest)
		name, personal := m.personal[number]
		switch {
		case number == Field:
			return s, fmt.Errorf("%s: field %d is kept for what is sealed", m.message, Field)
		case personal:
			if s.personal == nil {
				s.first = name
				s.open = append(make([]byte, 0, len(payload)), payload[:before]...)
			}
			s.personal = append(s.personal, field...)
		case s.personal != nil:
			s.open = append(s.open, field...)
		}
		if number == m.subject && kind == protowire.BytesType {
			text, _ := protowire.ConsumeBytes(field[n:])
			s.subject = string(text)
		}
		rest = rest[n+size:]
	}
	return s, nil
}

// values yields what the fields of a message say in texts, at any depth, as far as it can be told from their form: a field
// of bytes is taken for a message where it reads as one, and for a text as well.
func values(fields []byte, depth int, visit func(text string)) {
	const maxDepth = 16
	for rest := fields; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return
		}
		size := protowire.ConsumeFieldValue(number, kind, rest[n:])
		if size < 0 {
			return
		}
		if kind == protowire.BytesType {
			text, _ := protowire.ConsumeBytes(rest[n:])
			visit(string(text))
			if depth < maxDepth {
				values(text, depth+1, visit)
			}
		}
		rest = rest[n+size:]
	}
}
