package wire

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// ReadReceipt reads the receipt of a request off its wire form, as DecodeReceipt reads its message. Names that are the
// request's are the request's strings.
func ReadReceipt(b []byte, of *eventstore.Request) (eventstore.Receipt, error) {
	r, err := readReceipt(b, of)
	if !errors.Is(err, errElse) {
		return r, err
	}
	m := &storev1.Receipt{}
	if err := proto.Unmarshal(b, m); err != nil {
		return r, fmt.Errorf("receipt: %w", err)
	}
	return DecodeReceipt(of.Tenant, m)
}

func readReceipt(b []byte, of *eventstore.Request) (r eventstore.Receipt, err error) {
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return r, err
		}
		kind := protowire.BytesType
		if f.number == 5 {
			kind = protowire.VarintType
		}
		if err := f.as(kind); err != nil {
			return r, err
		}
		switch f.number {
		case 1:
			r.ID = known(f.bytes, of.ID)
		case 2:
			var like eventstore.StreamID
			if n := len(r.Streams); n < len(of.Appends) {
				like = of.Appends[n].Stream
			}
			var s eventstore.StreamReceipt
			if s, err = readStreamReceipt(f.bytes, like); err != nil {
				return r, err
			}
			s.Stream.Tenant = of.Tenant
			r.Streams = append(r.Streams, s)
		case 3:
			r.First, err = DecodePosition(string(f.bytes))
		case 4:
			r.Position, err = DecodePosition(string(f.bytes))
		case 5:
			r.Duplicate = f.value != 0
		case 6:
			r.Reached, err = eventstore.ParseDurability(string(f.bytes))
		case 7:
			r.Dot, err = eventstore.ParseDot(string(f.bytes))
		default:
			err = errElse
		}
		if err != nil {
			return r, errElse // what is wrong with it the other code says
		}
	}
	return r, nil
}

func readStreamReceipt(b []byte, like eventstore.StreamID) (s eventstore.StreamReceipt, err error) {
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return s, err
		}
		kind := protowire.BytesType
		if f.number >= 3 {
			kind = protowire.VarintType
		}
		if err := f.as(kind); err != nil {
			return s, err
		}
		switch f.number {
		case 1:
			s.Stream.Category = known(f.bytes, like.Category)
		case 2:
			s.Stream.ID = known(f.bytes, like.ID)
		case 3:
			s.First = f.value
		case 4:
			s.Last = f.value
		default:
			return s, errElse
		}
	}
	return s, nil
}

// known returns b as a string: the one that it probably is, without making another.
func known(b []byte, probably string) string {
	if string(b) == probably {
		return probably
	}
	return string(b)
}

// ReadAnswers yields the answers of an AppendSessionResponse, off its wire form: the number of each with the wire form of
// its receipt, or its failure. Receipts share b's memory.
func ReadAnswers(b []byte, yield func(number uint64, receipt []byte, failure *storev1.Failure)) error {
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil || f.number != 1 || f.kind != protowire.BytesType {
			return readAnswersElse(b, yield)
		}
		number, receipt, err := readAnswer(f.bytes)
		if err != nil { // a failure, or something odd
			if err := readAnswersElse(b[:len(b)-len(rest)], yield); err != nil {
				return err
			}
		} else {
			yield(number, receipt, nil)
		}
		b = rest
	}
	return nil
}

func readAnswer(b []byte) (number uint64, receipt []byte, err error) {
	for len(b) > 0 {
		var f field
		if f, b, err = next(b); err != nil {
			return 0, nil, err
		}
		switch {
		case f.number == 1 && f.kind == protowire.VarintType:
			number = f.value
		case f.number == 2 && f.kind == protowire.BytesType && receipt == nil:
			receipt = f.bytes
		default:
			return 0, nil, errElse
		}
	}
	if receipt == nil {
		return 0, nil, errElse
	}
	return number, receipt, nil
}

// readAnswersElse leaves it to the generated code to take answers apart.
func readAnswersElse(b []byte, yield func(number uint64, receipt []byte, failure *storev1.Failure)) error {
	m := &storev1.AppendSessionResponse{}
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("read answers: %w", err)
	}
	for _, a := range m.GetAnswers() {
		var receipt []byte
		if r := a.GetReceipt(); r != nil {
			var err error
			if receipt, err = proto.Marshal(r); err != nil {
				return fmt.Errorf("read answers: %w", err)
			}
		}
		yield(a.GetNumber(), receipt, a.GetFailure())
	}
	return nil
}
