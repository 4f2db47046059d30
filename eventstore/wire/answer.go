package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// UnmarshalAnswer reads a message as proto.Unmarshal does, but the frames of a ReadResponse or SubscribeResponse share the
// memory of b, which belongs to the message from then on: the generated code copies them, and a whole read consists of
// little else.
func UnmarshalAnswer(b []byte, m proto.Message) error {
	into := framesOf(m)
	if into == nil {
		return proto.Unmarshal(b, m)
	}
	frames, rest := cutFrames(b)
	if frames == nil {
		return proto.Unmarshal(b, m)
	}
	if err := proto.Unmarshal(rest, m); err != nil {
		return err
	}
	if *into != nil { // there are frames twice, which the generated code merges
		return proto.Unmarshal(b, m)
	}
	*into = frames
	return nil
}

// LentResponse is a ReadResponse for those who take many, one after the other, and keep none: each takes the memory of the one
// before.
type LentResponse struct {
	storev1.ReadResponse
	memory []byte
}

// framesOf returns where a message has its frames; nil when it has none.
func framesOf(m proto.Message) **storev1.Frames {
	switch m := m.(type) {
	case *storev1.ReadResponse:
		return &m.Frames
	case *storev1.SubscribeResponse:
		return &m.Frames
	}
	return nil
}

// cutFrames reads frames, which both answers have in field 2, off the beginning of a message. It returns nil for whatever
// Page does not write, right or wrong: the generated code knows.
func cutFrames(b []byte) (f *storev1.Frames, rest []byte) {
	number, kind, n := protowire.ConsumeTag(b)
	if n < 0 || number != 2 || kind != protowire.BytesType {
		return nil, nil
	}
	inner, m := protowire.ConsumeBytes(b[n:])
	if m < 0 {
		return nil, nil
	}
	rest, f = b[n+m:], &storev1.Frames{}
	for len(inner) > 0 {
		number, kind, n := protowire.ConsumeTag(inner)
		if n < 0 {
			return nil, nil
		}
		inner = inner[n:]
		if number == 1 && kind == protowire.VarintType {
			v, n := protowire.ConsumeVarint(inner)
			if n < 0 {
				return nil, nil
			}
			f.Incarnation, inner = uint32(v), inner[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(inner)
		if kind != protowire.BytesType || n < 0 {
			return nil, nil
		}
		inner = inner[n:]
		switch number {
		case 2:
			if f.Lsns, n = appendVarints(f.Lsns, value); n < 0 {
				return nil, nil
			}
		case 3:
			f.Frames = value[:len(value):len(value)]
		case 4:
			f.Chains = value[:len(value):len(value)]
		case 5:
			if f.Revising, n = appendVarints(f.Revising, value); n < 0 {
				return nil, nil
			}
		default:
			return nil, nil
		}
	}
	return f, rest
}

// appendVarints appends packed numbers to dst; n is negative when they are not what they should be.
func appendVarints(dst []uint64, packed []byte) (_ []uint64, n int) {
	if dst == nil {
		count := 0
		for _, b := range packed {
			if b < 0x80 { // the last of a number
				count++
			}
		}
		dst = make([]uint64, 0, count)
	}
	for len(packed) > 0 {
		v, n := protowire.ConsumeVarint(packed)
		if n < 0 {
			return dst, n
		}
		dst, packed = append(dst, v), packed[n:]
	}
	return dst, 0
}
