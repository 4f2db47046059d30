package drill

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// clients give commands to sites.
type clients struct {
	sites  *Sites
	ledger *Ledger
	// parallel is how many commands are under way at each site; patience how long one is repeated that a site cannot take.
	parallel int
	patience time.Duration
	done     func() // after each command
}

// all has the clients of every site do their jobs, and returns when all are done. It fails with ctx, and with what no site says.
func (c *clients) all(ctx context.Context, jobs ...[][]job) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, site := range c.sites.All() {
		g.Go(func() error {
			at, ctx := errgroup.WithContext(ctx)
			at.SetLimit(c.parallel)
			for _, j := range interleave(jobs, i) {
				if ctx.Err() != nil {
					break
				}
				at.Go(func() error { return c.one(ctx, site, j) })
			}
			return at.Wait()
		})
	}
	return g.Wait()
}

// interleave returns the jobs of a site from several lists, spread over one another.
func interleave(lists [][][]job, site int) (out []job) {
	longest := 0
	for _, l := range lists {
		longest = max(longest, len(l[site]))
	}
	for i := range longest {
		for _, l := range lists {
			n := len(l[site])
			out = append(out, l[site][i*n/longest:(i+1)*n/longest]...)
		}
	}
	return out
}

// one gives a command until the site has said what came of it.
func (c *clients) one(ctx context.Context, site *Site, j job) error {
	client := commerceapiv1.NewCommandServiceClient(site.Conn())
	giveUp := time.Now().Add(c.patience)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 500*time.Millisecond) {
		outcome, err := c.try(ctx, client, j)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("site %s: %s: %w", site.Name, j.key, err)
		case outcome != unknown || time.Now().After(giveUp):
			c.ledger.note(j.key, site.Name, outcome)
			if c.done != nil {
				c.done()
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// attemptTimeout bounds one attempt, of which nothing is known after it.
const attemptTimeout = 10 * time.Second

// try gives a command once.
func (c *clients) try(ctx context.Context, client commerceapiv1.CommandServiceClient, j job) (outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	_, err := j.do(metadata.AppendToOutgoingContext(ctx, "idempotency-key", j.key), client)
	switch status.Code(err) {
	case codes.OK:
		return acknowledged, nil
	case codes.FailedPrecondition, codes.AlreadyExists, codes.NotFound:
		return refused, nil
	case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Canceled:
		return unknown, nil
	}
	return unknown, err
}
