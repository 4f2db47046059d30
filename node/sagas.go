package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// Saga makes a saga's runner over a node; RunSaga returns one for a definition.
type Saga func(n *Node) (name string, r *saga.Runner, err error)

// RunSaga has the node run the saga.
func RunSaga[S any](d saga.Definition[S]) Saga {
	return func(n *Node) (string, *saga.Runner, error) {
		// A saga reads the log as it is, with personal fields sealed: its steps and messages stay in the log for good.
		o := saga.Options{Log: n.log}
		others, err := n.hasOthers()
		if err != nil {
			return d.Name, nil, err
		}
		if others {
			o.Void = n.bus.Void
		}
		r, err := saga.New(n.store, n.bus, d, o)
		return d.Name, r, err
	}
}

// hasOthers reports whether there are other sites, or were, so that the log holds events of theirs.
func (n *Node) hasOthers() (bool, error) {
	heads, err := n.local.Heads(context.Background())
	if err != nil {
		return false, fmt.Errorf("ask the store: %w", err)
	}
	return len(n.config.Peers) > 0 || slices.ContainsFunc(heads, func(h eventstore.LogHead) bool { return h.Log.Site != n.config.Site }), nil
}

type sagaRunner struct {
	name string
	*saga.Runner
}

// sayWait is for how long a saga waits before it says so: a site that has just started knows more in a moment.
const sayWait = time.Second

// runSaga runs a saga until ctx ends, once the site has all that was born here in earlier lives of its log. Before that the saga would
// take instances for new, or for less far, that have gone on: their steps would stand in two branches of which one does not count,
// with what both have asked for done.
func (n *Node) runSaga(ctx context.Context, s sagaRunner) error {
	what, began, said := sagaPrefix+s.name, time.Now(), false
	defer n.followers.wait(what, nil)
	err := n.sites.awaitWhole(ctx, func(why error) {
		n.followers.wait(what, why)
		if !said && time.Since(began) >= sayWait {
			said = true
			n.log.Warn("the saga waits for what it did in an earlier life of the log", slog.String("saga", s.name), slog.Any("why", why))
		}
	})
	if err != nil {
		return err
	}
	if n.followers.wait(what, nil); said {
		n.log.Info("the saga goes on: all of the earlier lives of the log is back", slog.String("saga", s.name))
	}
	for {
		if more, err := n.runUntilMore(ctx, s); !more || err != nil {
			return err
		}
		n.log.Warn("more of an earlier life of the log has come, later than anybody knew of it: the saga looks at all its instances again", slog.String("saga", s.name))
		s.Reread()
	}
}

// runUntilMore runs a saga until ctx ends, or more is there of earlier lives of the log than when it began. That comes when another site
// had not yet on its disk what it had received of them, or gets it from an archive that was away: what the saga has done without it may
// not count beside it.
func (n *Node) runUntilMore(ctx context.Context, s sagaRunner) (more bool, err error) {
	if n.sites.earlier == nil {
		return false, s.Run(ctx)
	}
	than, err := n.sites.earlier(ctx)
	if err != nil {
		return false, fmt.Errorf("ask what is here of earlier lives of the log: %w", err)
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	var waiting sync.WaitGroup
	var waited error
	waiting.Go(func() {
		waited = n.sites.awaitMore(running, than)
		stop()
	})
	err = s.Run(running)
	stop()
	waiting.Wait()
	if err == nil && ctx.Err() == nil {
		more, err = waited == nil, waited
	}
	return more, err
}

// lastError is what keeps a saga from beginning, or what last kept one of its instances from going on.
func (n *Node) lastError(s sagaRunner) string {
	if why := n.followers.waiting(sagaPrefix + s.name); why != nil {
		return "it waits for what it did in an earlier life of the log: " + why.Error()
	}
	return s.LastError()
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
