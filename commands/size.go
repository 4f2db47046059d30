package commands

import "reflect"

// maxSized bounds the values that sizeOf looks at; beyond it the rest of a slice or map is taken to be like its start.
const maxSized = 4096

// sizeOf estimates the bytes that v holds, itself included, by following pointers, slices, maps and interfaces. What is
// reachable on two ways counts twice. The cache uses it to keep to its bound; it need not be exact.
func sizeOf(v any) int {
	if v == nil {
		return 0
	}
	s := sizer{left: maxSized}
	value := reflect.ValueOf(v)
	return int(value.Type().Size()) + s.held(value, 0)
}

type sizer struct{ left int }

// maxDepth keeps a cycle of pointers from being followed for ever.
const maxDepth = 24

// held returns the bytes that v refers to, without those of v itself.
func (s *sizer) held(v reflect.Value, depth int) int {
	if s.left--; s.left < 0 || depth > maxDepth {
		return 0
	}
	switch v.Kind() {
	case reflect.String:
		return v.Len()
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return 0
		}
		e := v.Elem()
		return int(e.Type().Size()) + s.held(e, depth+1)
	case reflect.Slice:
		return v.Cap()*int(v.Type().Elem().Size()) + s.elements(v, depth)
	case reflect.Array:
		return s.elements(v, depth)
	case reflect.Map:
		return s.entries(v, depth)
	case reflect.Struct:
		n := 0
		for i := range v.NumField() {
			n += s.held(v.Field(i), depth+1)
		}
		return n
	}
	return 0
}

func (s *sizer) elements(v reflect.Value, depth int) int {
	if flat(v.Type().Elem().Kind()) {
		return 0
	}
	n, count := 0, v.Len()
	for i := range count {
		if s.left <= 0 {
			return n / max(i, 1) * count
		}
		n += s.held(v.Index(i), depth+1)
	}
	return n
}

func (s *sizer) entries(v reflect.Value, depth int) int {
	const overhead = 16 // of a map, for each entry
	each := int(v.Type().Key().Size()+v.Type().Elem().Size()) + overhead
	n, seen, count := 0, 0, v.Len()
	for entries := v.MapRange(); entries.Next(); seen++ {
		if s.left <= 0 {
			return n/max(seen, 1)*count + each*count
		}
		n += s.held(entries.Key(), depth+1) + s.held(entries.Value(), depth+1)
	}
	return n + each*count
}

// flat reports whether values of a kind refer to nothing.
func flat(k reflect.Kind) bool {
	return k <= reflect.Complex128
}
