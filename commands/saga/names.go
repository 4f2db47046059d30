package saga

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/tributary-es/tributary/eventstore"
)

// A site has one instance of an id, and another site may have one too: for an order with the same id, say. Where several sites
// write, an instance therefore stands in a category with the site in its name, which is part of its ids as well; where one
// does, it is called as it always was. An instance keeps the name that it began with, whatever the sites are later.

// identify finds under which name the instance acts: the one under which it has recorded steps here, and else the one that new
// instances have.
func (r *Runner) identify(ctx context.Context, i *instance) error {
	plain, sited := r.definition.name, r.definition.name+"."+r.site
	category := plain
	if r.options.Void != nil {
		category = sited
	}
	known, err := r.hasSteps(ctx, i.streamIn(plain))
	switch {
	case err != nil:
		return err
	case known:
		category = plain
	default:
		if known, err = r.hasSteps(ctx, i.streamIn(sited)); err != nil {
			return err
		}
		if known {
			category = sited
		}
	}
	i.category, i.name, i.stream = category, i.id, i.streamIn(category)
	if category == sited {
		i.name = nameAt(i.id, r.site)
	}
	if known {
		i.forget()
	}
	return nil
}

// nameAt names an instance among those of all sites. It can be the id of a stream.
func nameAt(id, site string) string {
	if len(id)+1+len(site) > eventstore.MaxStreamIDBytes {
		sum := sha256.Sum256([]byte(id))
		id = "#" + hex.EncodeToString(sum[:20])
	}
	return id + "@" + site
}

func (i *instance) streamIn(category string) eventstore.StreamID {
	return eventstore.StreamID{Tenant: i.tenant, Category: category, ID: i.id}
}

// hasSteps reports whether this site has recorded steps in a stream. Before instances had the site in their names, those of
// several sites could stand in one.
func (r *Runner) hasSteps(ctx context.Context, stream eventstore.StreamID) (bool, error) {
	version, err := r.store.Version(ctx, stream)
	if err != nil {
		return false, storeFault("look for instance", err)
	}
	if version == 0 {
		return false, nil
	}
	for event, err := range r.store.Read(ctx, stream, 1) {
		if err != nil {
			return false, storeFault("look for instance", err)
		}
		if event.Dot.Log.Site == r.site {
			return true, nil
		}
	}
	return false, nil
}
