package rowwrites

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

func TestValuesRoundTrip(t *testing.T) {
	at := time.Date(2010, 12, 1, 8, 26, 0, 123_000_000, time.UTC)
	for _, c := range []struct{ in, want any }{
		{nil, nil},
		{true, int64(1)},
		{false, int64(0)},
		{int8(-5), int64(-5)},
		{int16(5), int64(5)},
		{int32(-70_000), int64(-70_000)},
		{int64(math.MinInt64), int64(math.MinInt64)},
		{7, int64(7)},
		{uint8(200), int64(200)},
		{uint16(60_000), int64(60_000)},
		{uint32(4_000_000_000), int64(4_000_000_000)},
		{uint64(9), int64(9)},
		{uint(9), int64(9)},
		{uint64(math.MaxUint64), uint64(math.MaxUint64)},
		{"", ""},
		{"2.55", "2.55"},
		{[]byte{0, 0xff}, "\x00\xff"},
		{at, at},
		{at.In(time.FixedZone("east", 7200)), at},
		{time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)},
		{1.5, 1.5},
		{float32(0.25), 0.25},
		{math.Copysign(0, -1), 0.0},
		{[]string{"a", "", "é"}, []string{"a", "", "é"}},
	} {
		b, err := AppendValue(nil, c.in)
		if err != nil {
			t.Errorf("%v (%[1]T): %v", c.in, err)
			continue
		}
		r := NewReader(b)
		if got := r.Next().Any(); !reflect.DeepEqual(got, c.want) || r.Err() != nil || !r.Done() {
			t.Errorf("%v (%[1]T) comes back as %v (%[2]T), %v, want %v", c.in, got, r.Err(), c.want)
		}
	}
	if _, err := AppendValue(nil, struct{}{}); err == nil {
		t.Error("a struct is taken for a value")
	}
}

// What is equal in a table is equal in bytes, whatever the Go types.
func TestKindsNotWidths(t *testing.T) {
	a, _ := AppendValue(nil, uint8(5))
	b, _ := AppendValue(nil, int64(5))
	c, _ := AppendValue(nil, "5")
	if !bytes.Equal(a, b) || bytes.Equal(a, c) {
		t.Errorf("uint8 5 is % x, int64 5 % x, the text 5 % x", a, b, c)
	}
}

func recorded() Payload {
	var r Recorder
	r.Begin(eventstore.Position{Incarnation: 3, LSN: 7})
	r.Insert("a", "x", 1)
	r.Insert("b", time.Unix(5, 0))
	mark := r.Mark()
	r.Insert("c", struct{}{}) // a fault that is taken back
	r.Insert("a", "y", 2)
	r.Undo(mark)
	r.Begin(eventstore.Position{Incarnation: 3, LSN: 8})
	r.Insert("a", "z", 3)
	p, err := r.Payload()
	if err != nil {
		panic(err)
	}
	return p
}

func TestRecorder(t *testing.T) {
	p := recorded()
	if len(p) != 2 || p[0].Name != "a" || p[0].Rows != 2 || p[0].Columns != 4 || p[1].Name != "b" || p[1].Rows != 1 {
		t.Fatalf("payload is %+v", p)
	}
	var got [][]any
	for i := range p {
		err := p[i].Each(func(row []byte, position uint64) bool {
			r := NewReader(row)
			values := []any{p[i].Name, position}
			for !r.Done() {
				values = append(values, r.Next().Any())
			}
			got = append(got, values)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := [][]any{
		{"a", uint64(7), int64(7), int64(0), "x", int64(1)},
		{"a", uint64(8), int64(8), int64(0), "z", int64(3)},
		{"b", uint64(7), int64(7), int64(1), time.Unix(5, 0).UTC()},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("rows are\n%v, want\n%v", got, want)
	}
	back, err := ParsePayload(p.Append(nil))
	if err != nil || !reflect.DeepEqual(back, p) {
		t.Errorf("the payload comes back as %+v, %v", back, err)
	}
}

func TestRecorderFaults(t *testing.T) {
	for name, write := range map[string]func(*Recorder){
		"a type":            func(r *Recorder) { r.Insert("a", struct{}{}) },
		"a row that is odd": func(r *Recorder) { r.Insert("a", 1); r.Insert("a", 1, 2) },
	} {
		var r Recorder
		r.Insert("a", 1)
		write(&r)
		if _, err := r.Payload(); !errors.Is(err, projections.ErrBadWrite) {
			t.Errorf("%s: %v, want ErrBadWrite", name, err)
		}
	}
}

func TestSum(t *testing.T) {
	a, b := NewHasher("a"), NewHasher("b")
	var one, other, sum Sum
	a.Add(&one, []byte("x"))
	a.Add(&one, []byte("y"))
	b.Add(&other, []byte("x"))
	sum.Plus(other)
	sum.Plus(one)
	var all Sum
	b.Add(&all, []byte("x"))
	a.Add(&all, []byte("y"))
	a.Add(&all, []byte("x"))
	if all != sum || all.String() != sum.String() {
		t.Error("the sum of the parts is not the sum of the whole, or the order counts")
	}
	var twice, swapped Sum
	a.Add(&twice, []byte("x"))
	a.Add(&twice, []byte("x"))
	b.Add(&swapped, []byte("y"))
	a.Add(&swapped, []byte("x"))
	for name, s := range map[string]Sum{"no rows": {}, "another row": twice, "another table": swapped} {
		if s.String() == one.String() {
			t.Errorf("%s have the same digest", name)
		}
	}
}

func FuzzPayload(f *testing.F) {
	p := recorded()
	f.Add(p.Append(nil))
	f.Add([]byte{1, 1, 'a', 2, 0xff, 0xff, 0x03})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePayload(b)
		if err != nil {
			return
		}
		for i := range p {
			rows := 0
			err := p[i].Each(func([]byte, uint64) bool {
				rows++
				return rows < 1000
			})
			if err == nil && rows < 1000 && rows != p[i].Rows {
				t.Fatalf("%d rows of %d, and no error", rows, p[i].Rows)
			}
		}
		again, err := ParsePayload(p.Append(nil))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v comes back as %+v, %v", p, again, err)
		}
	})
}

// What is folded ends before it writes more than a sink takes at once, behind whole batches of the log.
func TestFoldEndsWhenItIsTooMuch(t *testing.T) {
	p := projections.Projection[projections.Rows]{Name: "rows", Version: 1, Apply: func(w projections.Rows, _ *eventstore.Recorded) error {
		w.Insert("t", strings.Repeat("x", 100))
		return nil
	}}
	var events []eventstore.Recorded
	for lsn := uint64(1); lsn <= 9; lsn++ {
		events = append(events, eventstore.Recorded{
			Position: eventstore.Position{Incarnation: 1, LSN: lsn},
			Dot:      eventstore.Dot{Log: eventstore.LogID{Site: "bj", Incarnation: 1}, Seq: lsn}, Batch: eventstore.Batch{FirstSeq: (lsn-1)/3*3 + 1, Count: 3},
		})
	}
	for most, fits := range map[int]int{1: 3, 350: 6, 100_000: 0, 0: 0} {
		rec := NewRecorder(&p)
		_, err := projections.Fold[projections.Rows](t.Context(), &p, rec, rec, &projections.Lot{Most: most}, events)
		var much *projections.TooMuchError
		if errors.As(err, &much) != (fits > 0) || fits > 0 && much.Fits != fits || fits == 0 && err != nil {
			t.Errorf("of up to %d bytes: %v, want that %d events fit", most, err, fits)
		}
	}
}
