package node

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/queries"
	"github.com/tributary-es/tributary/replication"
)

// modelDigester tells other sites digests of the node's read models.
type modelDigester struct{ node *Node }

const (
	// digestPatience is how long it waits for the events that are asked for, and for the models to have them.
	digestPatience = time.Second
	digestPause    = 20 * time.Millisecond
)

// ModelDigests implements replication.ModelDigester. The models are those of the whole log: when it has grown while they were read, they
// are read again.
func (d modelDigester) ModelDigests(ctx context.Context, at []eventstore.LogHead) (out replication.ModelDigests, err error) {
	n := d.node
	for patience := time.Now().Add(digestPatience); ; {
		if out.At, err = n.local.Heads(ctx); err != nil {
			return out, err
		}
		late := time.Now().After(patience)
		if late || len(at) == 0 || replication.SameEvents(out.At, at) {
			if out.Models, err = n.digestModels(ctx); err != nil {
				return out, err
			}
			heads, err := n.local.Heads(ctx)
			if err != nil || replication.SameEvents(out.At, heads) {
				return out, err
			}
		}
		select {
		case <-time.After(digestPause):
		case <-ctx.Done():
			return out, ctx.Err()
		}
	}
}

// digestModels returns digests of all parts of all models, each as of the end of the log.
func (n *Node) digestModels(ctx context.Context) (out []replication.ModelDigest, err error) {
	state, err := n.local.Log(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range n.models {
		parts, err := m.digestParts(ctx, state.Durable)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			out = append(out, replication.ModelDigest{Model: m.name, Err: err.Error()})
			continue
		}
		for _, p := range parts {
			out = append(out, replication.ModelDigest{Model: m.name, Part: p.Part, Digest: p.Digest, Count: p.Count})
		}
	}
	return out, nil
}

// digestParts returns digests of what of the model is the same at all sites, when it has come to a position. Nobody writes to it
// meanwhile, or it is an error.
func (m *model) digestParts(ctx context.Context, at eventstore.Position) ([]projections.PartDigest, error) {
	if _, err := queries.Fresh(ctx, m.runner, at, digestPatience); err != nil {
		return nil, err
	}
	if m.click != nil {
		return m.click.SharedDigests(ctx, m.sharedRows)
	}
	digests := map[string]*projections.Digest{}
	err := m.redis.Each(ctx, func(key string, v projections.Value) {
		if m.sharedKey != nil {
			var shared bool
			if v, shared = m.sharedKey(key, v); !shared {
				return
			}
		}
		part, _, _ := strings.Cut(key, ":")
		if digests[part] == nil {
			digests[part] = &projections.Digest{}
		}
		digests[part].Value(key, v)
	})
	if err != nil {
		return nil, err
	}
	var out []projections.PartDigest
	for _, part := range slices.Sorted(maps.Keys(digests)) {
		out = append(out, projections.PartDigest{Part: part, Digest: digests[part].Sum(), Count: digests[part].Count()})
	}
	return out, nil
}
