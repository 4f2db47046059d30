package drill

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tributary-es/tributary/internal/engine"
)

// Site is one site: its server, what it works with, and a connection to it that is never cut. Its methods may be called from any
// goroutine.
type Site struct {
	Name string
	// HTTP, GRPC and Kafka are where its server listens, and its brokers, the same over restarts; Data is the folder of its server.
	HTTP, GRPC, Kafka, Data string

	opts    *Options
	dir     string
	kafka   *engine.Kafka      // nil where it is embedded, as the next two
	redis   *engine.Redis      //
	click   *engine.ClickHouse //
	program *engine.Program    // nil before the first start
	conn    *grpc.ClientConn
}

func newSite(name string, o *Options) (*Site, error) {
	s := &Site{Name: name, opts: o, dir: filepath.Join(o.Dir, name)}
	s.Data = filepath.Join(s.dir, "data")
	var err error
	for _, addr := range []*string{&s.HTTP, &s.GRPC, &s.Kafka} {
		if *addr, err = engine.FreeAddr(); err != nil {
			return nil, err
		}
	}
	// A server that comes back is to be noticed at once.
	s.conn, err = grpc.NewClient(s.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)), grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, MaxDelay: 200 * time.Millisecond}, MinConnectTimeout: time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", s.GRPC, err)
	}
	return s, nil
}

// startTimeout bounds each start of an engine or a server, the first as all others: many start at once on one machine, and it only
// decides how long a failure takes.
const startTimeout = 5 * time.Minute

// startEngines starts what the site runs beside its server.
func (s *Site) startEngines(ctx context.Context) (err error) {
	if s.opts.Kafka {
		if s.kafka, err = engine.StartKafka(ctx, engine.KafkaOptions{Dir: filepath.Join(s.dir, "kafka"), StartTimeout: startTimeout, Logger: s.opts.Logger}); err != nil {
			return err
		}
		s.Kafka = s.kafka.Addr()
	}
	if s.opts.Redis {
		if s.redis, err = engine.StartRedis(ctx, engine.RedisOptions{Dir: filepath.Join(s.dir, "redis"), StartTimeout: startTimeout, Logger: s.opts.Logger}); err != nil {
			return err
		}
	}
	if s.opts.ClickHouse {
		s.click, err = engine.StartClickHouse(ctx, engine.ClickHouseOptions{Dir: filepath.Join(s.dir, "clickhouse"), StartTimeout: startTimeout, Logger: s.opts.Logger})
	}
	return err
}

// realDatabase is the database that a server works with in a ClickHouse beside it.
const realDatabase = "shop"

// startServer starts the server, with flags that name the others, and returns when it takes commands.
func (s *Site) startServer(ctx context.Context, peers []string) (err error) {
	args := append([]string{"serve", "--json", "--site", s.Name, "--data", s.Data, "--http", s.HTTP, "--grpc", s.GRPC}, peers...)
	if s.kafka != nil {
		args = append(args, "--kafka", s.Kafka)
	} else {
		args = append(args, "--kafka-port", s.Kafka[strings.LastIndexByte(s.Kafka, ':')+1:])
	}
	if s.redis != nil {
		args = append(args, "--redis", s.redis.Addr())
	}
	switch {
	case s.opts.NoClickHouse:
		args = append(args, "--clickhouse", "off")
	case s.click != nil:
		args = append(args, "--clickhouse", fmt.Sprintf("clickhouse://%s:%s@%s/%s", s.click.User(), s.click.Password(), s.click.TCPAddr(), realDatabase))
	}
	if s.opts.Flags != nil {
		args = append(args, s.opts.Flags(s.Name)...)
	}
	s.program, err = engine.StartProgram(ctx, engine.ProgramOptions{
		Name: "site " + s.Name, Path: s.opts.Program, Args: args, Dir: filepath.Join(s.dir, "server"), Ready: s.Ready, StartTimeout: startTimeout, Logger: s.opts.Logger,
	})
	return err
}

// Conn returns a connection to the server, which is its own over restarts. It goes with the site.
func (s *Site) Conn() *grpc.ClientConn { return s.conn }

// Ready reports whether the site takes commands.
func (s *Site) Ready(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.HTTP+"/v1/health/ready", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close() // the status is what was asked for
	return resp.StatusCode == http.StatusOK
}

// engines are what runs beside the server.
func (s *Site) engines() (all []running) {
	if s.kafka != nil {
		all = append(all, s.kafka)
	}
	if s.redis != nil {
		all = append(all, s.redis)
	}
	if s.click != nil {
		all = append(all, s.click)
	}
	return all
}

// running is what a server and an engine have in common.
type running interface {
	Kill()
	Restart(ctx context.Context) error
	Close() error
}

// Kill ends all processes of the site as kill -9 does, and returns when they are gone.
func (s *Site) Kill() {
	var gone sync.WaitGroup
	for _, r := range append(s.engines(), s.program) {
		gone.Go(r.Kill)
	}
	gone.Wait()
}

// Restart starts a site that was killed, what its server works with first, and returns when it takes commands.
func (s *Site) Restart(ctx context.Context) error {
	for _, r := range append(s.engines(), s.program) {
		if err := r.Restart(ctx); err != nil {
			return fmt.Errorf("bring site %s back: %w", s.Name, err)
		}
	}
	return nil
}

// Server is the site's server alone, to be stopped, frozen and started again.
func (s *Site) Server() *engine.Program { return s.program }

// close ends the site.
func (s *Site) close() error {
	var errs []error
	if s.program != nil {
		errs = append(errs, s.program.Close())
	}
	for _, e := range s.engines() {
		errs = append(errs, e.Close())
	}
	return errors.Join(append(errs, s.conn.Close())...)
}
