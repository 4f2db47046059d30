package drill

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// heads returns how far each site's own log is, by its name.
func (s *Sites) heads(ctx context.Context) (map[string]uint64, error) {
	heads := map[string]uint64{}
	for _, one := range s.all {
		st, err := sitesv1.NewSitesClient(one.conn).GetSites(ctx, &sitesv1.GetSitesRequest{})
		if err != nil {
			return nil, fmt.Errorf("ask site %s how far it is: %w", one.Name, err)
		}
		heads[st.GetLog()] = st.GetHead()
	}
	return heads, nil
}

// lag says what of logs a site lacks; empty when it has them that far.
func (s *Site) lag(ctx context.Context, heads map[string]uint64) (string, error) {
	st, err := sitesv1.NewSitesClient(s.conn).GetSites(ctx, &sitesv1.GetSitesRequest{})
	if err != nil {
		return "", fmt.Errorf("ask site %s how far it is: %w", s.Name, err)
	}
	held := map[string]uint64{st.GetLog(): st.GetHead()}
	for _, l := range st.GetLogs() {
		held[l.GetLog()] = l.GetHeld()
	}
	for log, want := range heads {
		if held[log] < want {
			return fmt.Sprintf("site %s has %d of %d events of %s", s.Name, held[log], want, log), nil
		}
	}
	return "", nil
}

// Converge returns when every site has what any of them had when it was called.
func (s *Sites) Converge(ctx context.Context, patience time.Duration) error {
	heads, err := s.heads(ctx)
	if err != nil {
		return err
	}
	return s.until(ctx, patience, func(ctx context.Context, one *Site) (string, error) { return one.lag(ctx, heads) })
}

// Settle returns when nobody has anything left to do: sagas and read models have come to the end of the log at every site, and all
// sites have found that their logs are the same. It is for sites that nobody writes to.
func (s *Sites) Settle(ctx context.Context, patience time.Duration) error {
	for quiet := 0; quiet < 2; { // what the last saga has done may have become somebody else's work
		before, err := s.heads(ctx)
		if err != nil {
			return err
		}
		if err := s.until(ctx, patience, busy); err != nil {
			return err
		}
		after, err := s.heads(ctx)
		if err != nil {
			return err
		}
		quiet++
		for log, head := range after {
			if before[log] != head {
				quiet = 0
			}
		}
	}
	return nil
}

// busy says what a site has left to do; empty when there is nothing.
func busy(ctx context.Context, s *Site) (string, error) {
	st, err := apiv1.NewAdminServiceClient(s.conn).GetStatus(ctx, &apiv1.GetStatusRequest{})
	if err != nil {
		return "", fmt.Errorf("ask site %s how far it is: %w", s.Name, err)
	}
	for _, saga := range st.GetSagas() {
		if saga.GetBusy() > 0 || saga.GetPosition() != st.GetDurable() {
			return fmt.Sprintf("site %s: saga %s is at %s of %s, with %d instances to work on %s",
				s.Name, saga.GetName(), saga.GetPosition(), st.GetDurable(), saga.GetBusy(), saga.GetLastError()), nil
		}
	}
	for _, p := range st.GetProjections() {
		if p.GetPosition() != st.GetDurable() {
			return fmt.Sprintf("site %s: projection %s is at %s of %s %s", s.Name, p.GetName(), p.GetPosition(), st.GetDurable(), p.GetLastError()), nil
		}
	}
	for _, m := range []*apiv1.MirrorStatus{st.GetMirror(), st.GetFeed()} {
		if m.GetLagEvents() > 0 {
			return fmt.Sprintf("site %s: the mirror to %s is %d events behind %s", s.Name, m.GetTopic(), m.GetLagEvents(), m.GetLastError()), nil
		}
	}
	compared, err := sitesv1.NewSitesClient(s.conn).CompareSites(ctx, &sitesv1.CompareSitesRequest{})
	if err != nil {
		return "", fmt.Errorf("have site %s compare its logs: %w", s.Name, err)
	}
	if !compared.GetEqual() {
		return fmt.Sprintf("site %s has other logs than the others: %v", s.Name, compared.GetComparisons()), nil
	}
	return "", nil
}

// until returns when no site has anything left to say, and fails with what one last said when none has said anything new for as long
// as patience.
func (s *Sites) until(ctx context.Context, patience time.Duration, left func(context.Context, *Site) (string, error)) error {
	return s.each(func(one *Site) error {
		tick := time.NewTicker(25 * time.Millisecond)
		defer tick.Stop()
		said, since := "", time.Now()
		for {
			ask, cancel := context.WithTimeout(ctx, attemptTimeout)
			says, err := left(ask, one)
			cancel()
			switch {
			case err != nil && ctx.Err() == nil:
				says = err.Error()
			case err != nil:
				return err
			case says == "":
				return nil
			}
			if says != said {
				said, since = says, time.Now()
			}
			if time.Since(since) > patience {
				return fmt.Errorf("nothing has moved for %s: %s", patience, said)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
		}
	})
}

// Census counts what every site holds.
func (s *Sites) Census(ctx context.Context) ([]*Census, error) {
	held := make([]*Census, len(s.all))
	var g errgroup.Group
	for i, one := range s.all {
		g.Go(func() (err error) {
			held[i], err = Take(ctx, one)
			return err
		})
	}
	return held, g.Wait()
}
