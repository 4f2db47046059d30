package commands

import (
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
)

// HashOf returns a hash of commands that is the same in every process, and stays the same when a command type gains a
// field that is zero: by it a repeated request is told from a reused id. Covered are the commands' type names and all
// their fields that are not zero, unexported ones too. Values that encode themselves (protobuf messages,
// encoding.TextMarshaler, encoding.BinaryMarshaler) are hashed by what they say. Functions and channels are an error.
func HashOf(cmds ...any) (eventstore.Hash, error) {
	var e encoder
	for i, c := range cmds {
		if c == nil {
			return eventstore.Hash{}, fmt.Errorf("hash command %d: it is nil", i+1)
		}
		v := reflect.ValueOf(c)
		e.text(v.Type().String())
		if err := e.value(v, 0); err != nil {
			return eventstore.Hash{}, fmt.Errorf("hash command %d (%T): %w", i+1, c, err)
		}
	}
	return sha256.Sum256(e.b), nil
}

// encoder writes values so that different values give different bytes: everything of variable length is preceded by its
// length.
type encoder struct{ b []byte }

func (e *encoder) number(n uint64) { e.b = binary.BigEndian.AppendUint64(e.b, n) }

func (e *encoder) text(s string) {
	e.number(uint64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) value(v reflect.Value, depth int) error {
	const maxDepth = 100
	if depth > maxDepth {
		return fmt.Errorf("more than %d levels deep, or without end", maxDepth)
	}
	if said, ok, err := ownWords(v); ok || err != nil {
		e.text(said)
		return err
	}
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			e.number(1)
		} else {
			e.number(0)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		e.number(uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		e.number(v.Uint())
	case reflect.Float32, reflect.Float64:
		e.number(math.Float64bits(v.Float()))
	case reflect.Complex64, reflect.Complex128:
		e.number(math.Float64bits(real(v.Complex())))
		e.number(math.Float64bits(imag(v.Complex())))
	case reflect.String:
		e.text(v.String())
	case reflect.Slice, reflect.Array:
		return e.list(v, depth)
	case reflect.Map:
		return e.dictionary(v, depth)
	case reflect.Struct:
		return e.fields(v, depth)
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			e.number(0)
			return nil
		}
		e.number(1)
		if v.Kind() == reflect.Interface {
			e.text(v.Elem().Type().String())
		}
		return e.value(v.Elem(), depth+1)
	default:
		return fmt.Errorf("%s cannot be hashed", v.Type())
	}
	return nil
}

func (e *encoder) list(v reflect.Value, depth int) error {
	e.number(uint64(v.Len()))
	if v.Type().Elem().Kind() == reflect.Uint8 && (v.Kind() == reflect.Slice || v.CanAddr()) {
		e.b = append(e.b, v.Bytes()...)
		return nil
	}
	for i := range v.Len() {
		if err := e.value(v.Index(i), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// dictionary writes the entries in the order of their encoded keys.
func (e *encoder) dictionary(v reflect.Value, depth int) error {
	entries := make(map[string]reflect.Value, v.Len())
	for _, k := range v.MapKeys() {
		var key encoder
		if err := key.value(k, depth+1); err != nil {
			return err
		}
		entries[string(key.b)] = v.MapIndex(k)
	}
	e.number(uint64(len(entries)))
	for _, key := range slices.Sorted(maps.Keys(entries)) {
		e.text(key)
		if err := e.value(entries[key], depth+1); err != nil {
			return err
		}
	}
	return nil
}

// fields writes what is not zero, by name, and then an empty name, so that a new field changes nothing while unused.
func (e *encoder) fields(v reflect.Value, depth int) error {
	t := v.Type()
	for i := range v.NumField() {
		f := v.Field(i)
		if f.IsZero() {
			continue
		}
		e.text(t.Field(i).Name)
		if err := e.value(f, depth+1); err != nil {
			return err
		}
	}
	e.text("")
	return nil
}

// ownWords returns how a value encodes itself, where it does. Only values reached through exported fields can be asked.
func ownWords(v reflect.Value) (said string, ok bool, err error) {
	if !v.CanInterface() || (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && v.IsNil() {
		return "", false, nil
	}
	// Plain kinds cannot encode themselves unless they have methods; asking costs an allocation each.
	if v.Type().NumMethod() == 0 {
		return "", false, nil
	}
	var b []byte
	switch m := v.Interface().(type) {
	case proto.Message:
		b, err = proto.MarshalOptions{Deterministic: true}.Marshal(m)
	case encoding.TextMarshaler:
		b, err = m.MarshalText()
	case encoding.BinaryMarshaler:
		b, err = m.MarshalBinary()
	default:
		return "", false, nil
	}
	return string(b), true, err
}
