package node

import (
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/projections/redisview"
	"github.com/tributary-es/tributary/projections/redisview/embedded"
)

// redisPart is the connection to Redis and, where it is embedded, the server.
type redisPart struct {
	mode   string
	server *embedded.Server
	client *redisview.Client
}

func openRedis(n *Node) (*redisPart, error) {
	r := &redisPart{mode: n.config.Redis}
	addr := r.mode
	if r.mode == Embedded {
		var err error
		if r.server, err = embedded.Start("127.0.0.1:0"); err != nil {
			return r, fmt.Errorf("start embedded redis: %w", err)
		}
		addr = r.server.Address()
	}
	var err error
	if r.client, err = redisview.Dial(addr); err != nil {
		return r, fmt.Errorf("--redis %s: %w", withoutPassword(addr), err)
	}
	return r, nil
}

func (r *redisPart) close() error {
	if r == nil {
		return nil
	}
	var errs []error
	if r.client != nil {
		errs = append(errs, r.client.Close())
	}
	if r.server != nil {
		errs = append(errs, r.server.Close())
	}
	return errors.Join(errs...)
}
