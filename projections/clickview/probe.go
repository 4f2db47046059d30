package clickview

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Probe asks a server whether it answers at all, over a connection of its own. Its methods are safe for concurrent use.
type Probe struct{ conn driver.Conn }

// probeTimeout bounds each part of a ping, which a context alone does not: the driver greets a server without regard to it.
const probeTimeout = time.Second

// NewProbe returns a probe of the server that the options name, of which only Addr, Dial, TLS, User and Password count. It
// connects when it is first used.
func NewProbe(o Options) (*Probe, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	conn, err := dial(&o, 2, probeTimeout, probeTimeout)
	if err != nil {
		return nil, err
	}
	return &Probe{conn: conn}, nil
}

// Ping returns nil when the server answers and takes the account. A server that hangs, with its port open, is an error within
// about two seconds.
func (p *Probe) Ping(ctx context.Context) error {
	if err := p.conn.Ping(ctx); err != nil {
		return fmt.Errorf("ping clickhouse: %w", classify(err))
	}
	return nil
}

// Close ends the probe's connection.
func (p *Probe) Close() error {
	if err := p.conn.Close(); err != nil {
		return fmt.Errorf("close clickhouse connection: %w", err)
	}
	return nil
}
