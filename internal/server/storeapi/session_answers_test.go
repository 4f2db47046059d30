package storeapi

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
)

// gone is a client that is not there any more.
type gone struct{ grpc.ServerStream }

var errGone = errors.New("gone")

func (gone) SendMsg(any) error { return errGone }

// When the client is gone, the session is told so, and ends once every append is answered, whoever is there to read it; what
// is answered makes room all the same.
func TestAnswersAfterTheClientIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &session{room: semaphore.NewWeighted(sessionBytes), answers: newSessionAnswers()}
		ctx, broken := context.WithCancelCause(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.answers.send(gone{}, n, broken) }()
		for range 3 * sessionBytes / leastBytes {
			if err := n.room.Acquire(t.Context(), leastBytes); err != nil {
				t.Fatal(err)
			}
			n.answers.expect(1)
			n.answers.put(sessionAnswer{receipt: eventstore.Receipt{ID: "a"}, size: leastBytes})
		}
		<-ctx.Done()
		n.answers.expect(1)
		n.answers.end()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("ended before the last append is answered: %v", err)
		default:
		}
		n.answers.put(sessionAnswer{})
		if err := <-ended; !errors.Is(err, errGone) || !errors.Is(context.Cause(ctx), errGone) {
			t.Errorf("%v and %v, want %v", err, context.Cause(ctx), errGone)
		}
	})
}
