package drill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tributary-es/tributary/internal/cable"
)

// Options say what sites are made of. Program, Dir and Names are required.
type Options struct {
	// Program is the path of tributary, Dir a folder for all that the sites keep.
	Program, Dir string
	Names        []string
	// Kafka has each site run a real Kafka beside its server, Redis and ClickHouse the same; otherwise they are embedded. NoClickHouse
	// leaves ClickHouse away.
	Kafka, Redis, ClickHouse, NoClickHouse bool
	// Flags, when set, returns further flags of the server of a site.
	Flags  func(site string) []string
	Logger *slog.Logger // nil means none
}

// Sites are sites that replicate with each other. Its methods are safe for concurrent use, except for Open and Close.
type Sites struct {
	opts   Options
	all    []*Site
	cables map[way]*cables
}

// way goes from a site to one that it calls.
type way struct{ from, to string }

// cables are what one site reaches another by.
type cables struct{ server, brokers *cable.Cable }

func (c *cables) both() []*cable.Cable { return []*cable.Cable{c.server, c.brokers} }

// Open starts all sites and returns when all of them take commands. The caller must Close them.
func Open(ctx context.Context, o Options) (_ *Sites, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if len(o.Names) < 2 {
		return nil, errors.New("open sites: there must be two at least")
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, fmt.Errorf("open sites: %w", err)
	}
	s := &Sites{opts: o, cables: map[way]*cables{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, name := range o.Names {
		one, err := newSite(name, &s.opts)
		if err != nil {
			return nil, err
		}
		s.all = append(s.all, one)
	}
	if err := s.each(func(one *Site) error { return one.startEngines(ctx) }); err != nil {
		return nil, err
	}
	if err := s.lay(); err != nil {
		return nil, err
	}
	// New sites wait for each other.
	err = s.each(func(one *Site) error { return one.startServer(ctx, s.peersOf(one)) })
	return s, err
}

// each does something for all sites at once.
func (s *Sites) each(do func(*Site) error) error {
	var g errgroup.Group
	for _, one := range s.all {
		g.Go(func() error {
			if err := do(one); err != nil {
				return fmt.Errorf("site %s: %w", one.Name, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// lay lays the cables between all sites.
func (s *Sites) lay() error {
	for _, from := range s.all {
		for _, to := range s.all {
			if from == to {
				continue
			}
			server, err := cable.New(to.GRPC)
			if err != nil {
				return err
			}
			brokers, err := cable.NewKafka(to.Kafka)
			if err != nil {
				server.Close()
				return err
			}
			s.cables[way{from.Name, to.Name}] = &cables{server, brokers}
		}
	}
	return nil
}

// peersOf returns the flags that name all other sites.
func (s *Sites) peersOf(one *Site) (flags []string) {
	for _, other := range s.all {
		if c, ok := s.cables[way{one.Name, other.Name}]; ok {
			flags = append(flags, "--peer", fmt.Sprintf("%s=%s,%s", other.Name, c.server.Addr(), c.brokers.Addr()))
		}
	}
	return flags
}

// All returns the sites, in the order in which they were named.
func (s *Sites) All() []*Site { return slices.Clone(s.all) }

// Site returns a site by its name, nil when there is none.
func (s *Sites) Site(name string) *Site {
	for _, one := range s.all {
		if one.Name == name {
			return one
		}
	}
	return nil
}

// How says how a site is cut off.
type How string

// A cut that resets connections is noticed by whoever uses one, one that is silent by what does not come. One that is deaf has the
// site call the others, and be called by none.
const (
	Reset  How = "reset"
	Silent How = "silent"
	Deaf   How = "deaf"
)

// Hows are all of them.
var Hows = []How{Reset, Silent, Deaf}

// Cut cuts a site off from all others, until Heal.
func (s *Sites) Cut(site string, how How) {
	for w, c := range s.cables {
		if w.to != site && (w.from != site || how == Deaf) {
			continue
		}
		for _, one := range c.both() {
			if how == Silent {
				one.Stall()
			} else {
				one.Cut()
			}
		}
	}
}

// Heal ends all cuts.
func (s *Sites) Heal() {
	for _, c := range s.cables {
		for _, one := range c.both() {
			one.Restore()
		}
	}
}

// Close ends all sites, and what is between them. It is safe to call twice.
func (s *Sites) Close() error {
	err := s.each((*Site).close)
	for _, c := range s.cables {
		for _, one := range c.both() {
			one.Close()
		}
	}
	return err
}
