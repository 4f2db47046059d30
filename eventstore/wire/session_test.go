package wire

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// is fails unless a wire form is that of a message.
func is[M proto.Message](t *testing.T, sent []byte, got, want M) {
	t.Helper()
	if err := proto.Unmarshal(sent, got); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(want, got) {
		t.Fatal(cmp.Diff(want, got, protocmp.Transform()))
	}
}

// receiptOf returns some receipt of a request.
func receiptOf(r *eventstore.Request, random *rand.Rand) eventstore.Receipt {
	receipt := eventstore.Receipt{ID: r.ID, Duplicate: random.IntN(2) == 0, Reached: eventstore.Durability(random.IntN(3))}
	if random.IntN(4) > 0 {
		receipt.First = eventstore.Position{Incarnation: 1, LSN: random.Uint64N(1 << 40)}
		receipt.Position = eventstore.Position{Incarnation: 1, LSN: random.Uint64()}
		receipt.Dot = eventstore.Dot{Log: eventstore.LogID{Site: "sh", Incarnation: random.Uint32N(300), Shard: uint16(random.Uint32N(200))}, Seq: random.Uint64()}
	}
	for i := range r.Appends {
		s := eventstore.StreamReceipt{Stream: r.Appends[i].Stream, First: random.Uint64N(9), Last: random.Uint64()}
		if random.IntN(3) == 0 {
			s.Stream.ID += "-other"
		}
		receipt.Streams = append(receipt.Streams, s)
	}
	return receipt
}

// Receipts and the messages of sessions are those of the generated code, and arrive as they were sent. Invariant A2.
func TestSessionMessages(t *testing.T) {
	random := rand.New(rand.NewPCG(13, 14))
	failure := &storev1.Failure{Code: 10, Reason: "conflict", Conflict: &storev1.Conflict{}}
	for range 80 {
		r := asked(random)
		receipt := receiptOf(r, random)
		message := EncodeReceipt(&receipt)
		body := ReceiptMessage(&receipt).Buffers().Materialize()
		is(t, body, &storev1.Receipt{}, message)
		got, err := ReadReceipt(body, r)
		if diff := cmp.Diff(receipt, got); diff != "" || err != nil {
			t.Fatalf("receipt: %v\n%s", err, diff)
		}

		number := random.Uint64N(3) * random.Uint64()
		var appends SessionAppendsMessage
		appends.Add(number, AppendRequest(nil, r))
		appends.Add(7, nil)
		sent := appends.Message().Buffers().Materialize()
		is(t, sent, &storev1.AppendSessionRequest{}, &storev1.AppendSessionRequest{Appends: []*storev1.SessionAppend{
			{Number: number, Request: EncodeRequest(r)}, {Number: 7, Request: &storev1.AppendRequest{}},
		}})
		sameAppends(t, sent)

		var answers SessionAnswers
		answers.Receipt(number, &receipt)
		if err := answers.Failure(7, failure); err != nil {
			t.Fatal(err)
		}
		sent = answers.Message().Buffers().Materialize()
		is(t, sent, &storev1.AppendSessionResponse{}, &storev1.AppendSessionResponse{Answers: []*storev1.SessionAnswer{
			{Number: number, Outcome: &storev1.SessionAnswer_Receipt{Receipt: message}}, {Number: 7, Outcome: &storev1.SessionAnswer_Failure{Failure: failure}},
		}})
		sameAnswers(t, sent)
	}
}

// Messages of sessions that no code writes, or that are wrong, are taken apart as by the generated code. Invariant A2.
func TestOddSessionMessages(t *testing.T) {
	for _, b := range [][]byte{
		{}, {0x0a}, {0x0a, 0}, {0x0a, 2, 8, 1}, {8, 1}, {0x12, 0, 0x0a, 2, 8, 5}, {0x0a, 2, 0x12, 0}, {0x0a, 4, 0x12, 0, 0x12, 0}, {0x0a, 2, 0x1a, 0},
		{0x0a, 4, 0x12, 0, 0x1a, 0}, {0x0a, 4, 0x1a, 0, 0x12, 0}, {0x0a, 6, 0x12, 4, 0x0a, 1, 'a', 0x12}, {0xff},
	} {
		sameAppends(t, b)
		sameAnswers(t, b)
	}
}

// sameAppends fails unless the appends of a session's message are those that the generated code finds.
func sameAppends(t *testing.T, b []byte) {
	t.Helper()
	m := &storev1.AppendSessionRequest{}
	wantErr := proto.Unmarshal(b, m)
	var got []*storev1.SessionAppend
	var malformed error // within an append, which is that append's affair
	err := SessionAppends(b, func(number uint64, request []byte) error {
		a := &storev1.SessionAppend{Number: number}
		if request != nil {
			a.Request = &storev1.AppendRequest{}
			malformed = errors.Join(malformed, proto.Unmarshal(request, a.Request))
		}
		got = append(got, a)
		return nil
	})
	if (errors.Join(err, malformed) == nil) != (wantErr == nil) {
		t.Fatalf("%x: %v, %v, the generated code says %v", b, err, malformed, wantErr)
	}
	if diff := cmp.Diff(m.GetAppends(), got, protocmp.Transform(), protocmp.IgnoreUnknown(), cmpopts.EquateEmpty()); wantErr == nil && diff != "" {
		t.Fatalf("%x:\n%s", b, diff)
	}
}

// sameAnswers is sameAppends for answers.
func sameAnswers(t *testing.T, b []byte) {
	t.Helper()
	m := &storev1.AppendSessionResponse{}
	wantErr := proto.Unmarshal(b, m)
	var got []*storev1.SessionAnswer
	var malformed error
	err := ReadAnswers(b, func(number uint64, receipt []byte, failure *storev1.Failure) {
		a := &storev1.SessionAnswer{Number: number}
		switch {
		case receipt != nil:
			r := &storev1.Receipt{}
			malformed = errors.Join(malformed, proto.Unmarshal(receipt, r))
			a.Outcome = &storev1.SessionAnswer_Receipt{Receipt: r}
		case failure != nil:
			a.Outcome = &storev1.SessionAnswer_Failure{Failure: failure}
		}
		got = append(got, a)
	})
	if (errors.Join(err, malformed) == nil) != (wantErr == nil) {
		t.Fatalf("%x: %v, %v, the generated code says %v", b, err, malformed, wantErr)
	}
	if diff := cmp.Diff(m.GetAnswers(), got, protocmp.Transform(), protocmp.IgnoreUnknown(), cmpopts.EquateEmpty()); wantErr == nil && diff != "" {
		t.Fatalf("%x:\n%s", b, diff)
	}
}
