package wire

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// What is read by hand is what the generated code reads, of right messages and of broken ones.
func TestAnswersAreReadAsTheGeneratedCodeReadsThem(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	page := func(asFrames, chain bool) *Page {
		p := NewPage(asFrames)
		for range random.IntN(4) {
			p.Add(recorded(random), chain)
		}
		return p
	}
	for n := range 500 {
		p := page(n%5 > 0, n%2 == 0)
		var of proto.Message = &storev1.ReadResponse{}
		answer := p.ReadResponse
		if n%3 == 0 {
			of = &storev1.SubscribeResponse{}
			answer = func() *Encoded {
				e, err := p.SubscribeResponse(&storev1.SubscribeResponse{Position: "1-7", CaughtUp: true, Seq: 7})
				if err != nil {
					t.Fatal(err)
				}
				return e
			}
		}
		b := answer().Buffers().Materialize()
		if n%7 == 0 { // frames twice are merged
			p = page(true, false)
			b = append(b, answer().Buffers().Materialize()...)
		}
		compareAnswers(t, b, of)
		for range 5 {
			if len(b) == 0 {
				break
			}
			broken := slices.Clone(b)
			if random.IntN(2) == 0 {
				broken = broken[:1+random.IntN(len(b))]
			}
			broken[random.IntN(min(len(broken), 24))] ^= 1 << random.IntN(8) // where the structure is
			compareAnswers(t, broken, of)
		}
	}
}

func compareAnswers(t *testing.T, b []byte, of proto.Message) {
	t.Helper()
	got, want := of.ProtoReflect().New().Interface(), of.ProtoReflect().New().Interface()
	gotErr, wantErr := UnmarshalAnswer(slices.Clone(b), got), proto.Unmarshal(b, want)
	if (gotErr == nil) != (wantErr == nil) {
		t.Fatalf("% x: got error %v, the generated code has %v", b, gotErr, wantErr)
	}
	if wantErr != nil {
		return
	}
	if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
		t.Fatalf("% x: (-generated +by hand)\n%s", b, d)
	}
}

// The point of reading by hand: a page of frames is not copied.
func TestFramesShareTheMemoryOfTheirAnswer(t *testing.T) {
	p := NewPage(true)
	e := recorded(rand.New(rand.NewPCG(1, 1)))
	e.Payload = make([]byte, 64<<10)
	p.Add(e, false)
	b := p.ReadResponse().Buffers().Materialize()
	m := &storev1.ReadResponse{}
	if err := UnmarshalAnswer(b, m); err != nil {
		t.Fatal(err)
	}
	if &m.GetFrames().GetFrames()[len(m.GetFrames().GetFrames())-1] != &b[len(b)-1] {
		t.Error("the frames are elsewhere: they were copied")
	}
	events, err := DecodeFrames(nil, m.GetFrames())
	if err != nil || len(events) != 1 || !cmp.Equal(events[0].Payload, e.Payload) {
		t.Errorf("got %d events, error %v", len(events), err)
	}
}
