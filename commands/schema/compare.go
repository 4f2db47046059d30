package schema

import (
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Difference is one way in which a program would not read what was recorded as it was meant.
type Difference struct {
	// Where is the field or value, such as "lines.unit_price".
	Where string
	// What is wrong with it.
	What string
	// Unseen: the program passes it over, and reads the rest rightly. Else it would misread it.
	Unseen bool
}

// String says where and what.
func (d Difference) String() string { return d.Where + ": " + d.What }

// Compare names what a program that reads by one message would get wrong of events that were recorded by another.
//
// What was recorded under a number must be there, of the same name and of a type that reads it: a field that is not
// written any more stays, or its number is reserved. Fields, values and messages that only the program knows are no difference,
// unless they are required. Names of messages do not matter, their fields do.
func Compare(recorded, program protoreflect.MessageDescriptor) []Difference {
	c := comparison{seen: map[[2]protoreflect.FullName]bool{}}
	c.messages("", recorded, program)
	return c.found
}

type comparison struct {
	seen  map[[2]protoreflect.FullName]bool
	found []Difference
}

func (c *comparison) misread(where, format string, args ...any) {
	c.found = append(c.found, Difference{Where: where, What: fmt.Sprintf(format, args...)})
}

func (c *comparison) messages(where string, recorded, program protoreflect.MessageDescriptor) {
	pair := [2]protoreflect.FullName{recorded.FullName(), program.FullName()}
	if c.seen[pair] {
		return
	}
	c.seen[pair] = true
	at := func(name protoreflect.Name) string {
		if where == "" {
			return string(name)
		}
		return where + "." + string(name)
	}
	for i := range recorded.Fields().Len() {
		was := recorded.Fields().Get(i)
		is := program.Fields().ByNumber(was.Number())
		switch {
		case is != nil:
			c.fields(at(was.Name()), was, is)
		case !program.ReservedRanges().Has(was.Number()):
			c.found = append(c.found, Difference{
				Where: at(was.Name()), Unseen: true,
				What: fmt.Sprintf("field %d is gone and its number is not reserved", was.Number()),
			})
		}
	}
	for i := range program.Fields().Len() {
		is := program.Fields().Get(i)
		was := recorded.Fields().ByNumber(is.Number())
		switch {
		case is.Cardinality() == protoreflect.Required && (was == nil || was.Cardinality() != protoreflect.Required):
			c.misread(at(is.Name()), "field %d is required, and is not in every event that is recorded", is.Number())
		case was == nil && recorded.ReservedRanges().Has(is.Number()):
			c.misread(at(is.Name()), "field %d was reserved because of what is recorded under it", is.Number())
		}
	}
}

func (c *comparison) fields(where string, was, is protoreflect.FieldDescriptor) {
	switch {
	case was.Name() != is.Name():
		c.misread(where, "field %d is called %s now; a field with another meaning needs a number of its own", was.Number(), is.Name())
	case was.IsMap() != is.IsMap(), was.IsList() != is.IsList(), !readsKind(was.Kind(), is.Kind()):
		c.misread(where, "field %d was %s and is %s now", was.Number(), typeOf(was), typeOf(is))
	case oneofOf(was) != oneofOf(is):
		c.misread(where, "field %d was %s and is %s now", was.Number(), inOneof(was), inOneof(is))
	case was.Message() != nil:
		c.messages(where, was.Message(), is.Message())
	case was.Enum() != nil:
		c.enums(where, was.Enum(), is.Enum())
	}
}

func inOneof(f protoreflect.FieldDescriptor) string {
	if o := oneofOf(f); o != "" {
		return "in oneof " + o
	}
	return "in no oneof"
}

// readsKind reports whether a field of a kind reads what one of another kind wrote: its own, or a narrower number.
func readsKind(was, is protoreflect.Kind) bool {
	if was == is {
		return true
	}
	wider := map[protoreflect.Kind]protoreflect.Kind{
		protoreflect.Int32Kind: protoreflect.Int64Kind, protoreflect.Uint32Kind: protoreflect.Uint64Kind, protoreflect.Sint32Kind: protoreflect.Sint64Kind,
	}
	return wider[was] == is
}

func (c *comparison) enums(where string, recorded, program protoreflect.EnumDescriptor) {
	for i := range recorded.Values().Len() {
		was := recorded.Values().Get(i)
		is := program.Values().ByNumber(was.Number())
		switch {
		case is == nil && !program.ReservedRanges().Has(was.Number()):
			c.found = append(c.found, Difference{
				Where: where, Unseen: true, What: fmt.Sprintf("value %d, %s, is gone and its number is not reserved", was.Number(), was.Name()),
			})
		case is != nil && program.Values().ByName(was.Name()) != nil && program.Values().ByName(was.Name()).Number() == was.Number():
			// An alias may stand before it.
		case is != nil:
			c.misread(where, "value %d was %s and is %s now", was.Number(), was.Name(), is.Name())
		}
	}
}
