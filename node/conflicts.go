package node

import (
	"time"

	clickhouseschema "github.com/tributary-es/tributary/schemas/clickhouse"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"

	"github.com/tributary-es/tributary/replication/conflictview"
)

// Names of the read models of the conflicts between sites.
const (
	ConflictsRedisProjection      = conflictview.Name + "-redis"
	ConflictsClickHouseProjection = conflictview.Name + "-clickhouse"
)

// conflictTimeout bounds what is read of the log, perhaps of its archive, for the conflicts of one event.
const conflictTimeout = time.Minute

// conflictLinger is how long the conflicts in Redis wait for more events: they look at each one of the log, and a commit for every few
// of them is a large part of what an event costs a site.
const conflictLinger = 25 * time.Millisecond

// conflicts is the domain of the conflicts between sites; where there are none, and none have ever written, it only says so.
func (n *Node) conflicts() (Domain, error) {
	if others, err := n.hasOthers(); err != nil || !others {
		return Domain{Name: conflictview.Name, Services: func(*Parts) []Service {
			return []Service{{&sitesv1.Conflicts_ServiceDesc, &conflictview.Queries{}}}
		}}, err
	}
	o := conflictview.Options{Streams: dropping{n.sealed, n.local}, Judge: n.bus.Judge, Judging: n.bus.Judging, Site: n.config.Site, Life: n.life, Timeout: conflictTimeout}
	keys := conflictview.Keys(o)
	return Domain{
		Name: conflictview.Name,
		Keys: &keys, KeysLinger: conflictLinger, SharedKey: conflictview.Shared,
		Rows: &Tables{Projection: conflictview.Rows(o), Schema: clickhouseschema.Conflicts(), Shared: conflictview.SharedRows()},
		Services: func(p *Parts) []Service {
			return []Service{{&sitesv1.Conflicts_ServiceDesc, &conflictview.Queries{Model: p.Keys, Progress: p.KeysProgress}}}
		},
	}, nil
}
