package node

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/commands/saga"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// Saga makes a saga's runner over a node; RunSaga returns one for a definition.
type Saga func(n *Node) (name string, r *saga.Runner, err error)

// RunSaga has the node run the saga.
func RunSaga[S any](d saga.Definition[S]) Saga {
	return func(n *Node) (string, *saga.Runner, error) {
		// A saga reads the log as it is, with personal fields sealed: its steps and messages stay in the log for good.
		r, err := saga.New(n.store, n.bus, d, saga.Options{Log: n.log})
		return d.Name, r, err
	}
}

type sagaRunner struct {
	name string
	*saga.Runner
}

// outbox lists the messages of all sagas.
func (n *Node) outbox(ctx context.Context, status string, limit int) ([]*apiv1.OutboxMessage, error) {
	var out []*apiv1.OutboxMessage
	for _, s := range n.sagas {
		for m, err := range s.Outbox(ctx, saga.Status(status)) {
			if err != nil {
				return nil, fmt.Errorf("outbox of %s: %w", s.name, err)
			}
			if len(out) == limit {
				return out, nil
			}
			out = append(out, &apiv1.OutboxMessage{
				Id: m.ID, Topic: m.Topic, Payload: m.Note, Status: string(m.Status), RetryCount: uint32(m.RetryCount), LastError: m.LastError,
			})
		}
	}
	return out, nil
}
