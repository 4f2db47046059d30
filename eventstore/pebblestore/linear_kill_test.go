package pebblestore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tributary-es/tributary/client"
	"github.com/tributary-es/tributary/internal/reliability"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/internal/server/storeapi"
	"google.golang.org/grpc"
)

// serveForEver is a process that serves the store API, with sizes that it draws. It says "serving ADDRESS" when it does.
func serveForEver() {
	o := smallSizes(rand.New(rand.NewPCG(rand.Uint64(), 1)))
	s, err := Open(os.Getenv(childDir), &o)
	if err != nil {
		say("error: %v", err)
		os.Exit(1)
	}
	api := server.New(server.Options{HTTPAddr: "127.0.0.1:0", GRPCAddr: "127.0.0.1:0"})
	err = api.Register(&storeapi.ServiceDesc, &storeapi.Service{Store: s, Frames: s, Failure: api.Failure})
	if err == nil {
		err = api.Listen(context.Background())
	}
	if err != nil {
		say("error: %v", err)
		os.Exit(1)
	}
	say("serving %s", api.GRPCAddr())
	say("error: it has ended: %v", api.Run(context.Background()))
	os.Exit(1)
}

// served is a store in a process of its own that is killed and started again. Each of the clients has a connection of its
// own, which it makes again to the next process.
type served struct {
	t       *testing.T
	dir     string
	rng     *rand.Rand // of the one who kills
	process *child
	deaths  int
	clients [linearClients]*client.Client

	mu    sync.Mutex // guards what follows
	draws *rand.Rand
	alive context.Context // ends once the process is gone, and there is room for the next one
	gone  context.CancelFunc
	ready chan struct{} // closed when the process serves
	addr  string        // where it does
}

// serveAndDial starts the first process and connects all clients to it.
func serveAndDial(t *testing.T, dir string, rng *rand.Rand) (*served, error) {
	p := &served{t: t, dir: dir, rng: rand.New(rand.NewPCG(rng.Uint64(), 1)), draws: rand.New(rand.NewPCG(rng.Uint64(), 2))}
	p.next()
	if err := p.start(); err != nil {
		return nil, err
	}
	for i := range p.clients {
		c, err := client.Dial(context.Background(), "passthrough:///the store", &client.Options{
			Patience: 5 * time.Minute, // on a busy machine a process may take long to come up
			Dial:     []grpc.DialOption{grpc.WithContextDialer(p.connect)},
		})
		if err != nil {
			return nil, err
		}
		p.clients[i] = c
	}
	return p, nil
}

// next makes room for the next process: who wants to connect waits for that one, and who waits for the one before and for
// no other is let go.
func (p *served) next() {
	alive, gone := context.WithCancel(context.Background())
	p.mu.Lock()
	letGo := p.gone
	p.alive, p.gone, p.ready = alive, gone, make(chan struct{})
	p.mu.Unlock()
	if letGo != nil {
		letGo()
	}
}

// start starts a process and returns when it serves.
func (p *served) start() error {
	p.process = startChild(p.t, "serve", p.dir, "")
	addr, err := p.process.serving()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addr = addr
	close(p.ready)
	return nil
}

// serving returns the address that a process says, and lets it say what it wants after that.
func (c *child) serving() (addr string, err error) {
	if !c.lines.Scan() {
		return "", fmt.Errorf("a server ended before it served: %w", c.cmd.Wait())
	}
	addr, ok := strings.CutPrefix(c.lines.Text(), "serving ")
	if !ok {
		return "", fmt.Errorf("a server says %q", c.lines.Text())
	}
	return addr, nil
}

// connect connects to the process that serves, or to the next one that will.
func (p *served) connect(ctx context.Context, _ string) (net.Conn, error) {
	for {
		p.mu.Lock()
		alive, ready := p.alive, p.ready
		p.mu.Unlock()
		select {
		case <-ready:
		case <-alive.Done():
			continue
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		p.mu.Lock()
		addr := p.addr
		p.mu.Unlock()
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
}

// ask implements target. Most callers leave it to the client to ask the next process; some go when the process is gone.
// What those asked was answered, or is not under way any more: the client sends nothing for a caller that has left.
func (p *served) ask(i int, in linearInput) (linearOutput, bool) {
	ctx := context.Background()
	p.mu.Lock()
	if p.draws.IntN(3) == 0 {
		ctx = p.alive
	}
	p.mu.Unlock()
	out := in.perform(ctx, p.clients[i])
	return out, out.Fault == "" || ctx.Err() == nil
}

// kill kills the process a moment from now, and starts the next one: now and then one that is killed while it opens.
func (p *served) kill() {
	time.Sleep(time.Duration(p.rng.IntN(2000)) * time.Microsecond)
	p.end()
	for p.rng.IntN(4) == 0 {
		p.process = startChild(p.t, "serve", p.dir, "")
		time.Sleep(time.Duration(p.rng.IntN(60)) * time.Millisecond)
		p.end()
	}
	if err := p.start(); err != nil {
		p.t.Errorf("after kill %d: %v", p.deaths, err)
	}
}

// end kills the process.
func (p *served) end() {
	_ = p.process.cmd.Process.Kill() // it may have ended by itself, which the next one's start will show
	_ = p.process.cmd.Wait()         // was killed
	p.deaths++
	p.next()
}

// TestLinearizableKilled wants every history of concurrent clients of a server that is killed with -9 while they ask, and
// started again, to be one that a single, immortal store could have given. It is T14 of docs/reliability.md, and shows S1,
// S4, S6, S7, S16 and A4.
func TestLinearizableKilled(t *testing.T) {
	count, size := 8, 1000
	if *reliability.Long {
		count, size = 2000, 2000
	}
	const deaths = 3
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	h := histories{result: reliability.Result{Test: "T14", What: "clients over gRPC, the server killed with -9", Seed: seed}, size: size}
	h.make(t, count, 8, func(n int) {
		what := fmt.Sprint("history ", n)
		dir := t.TempDir()
		defer os.RemoveAll(dir)
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		p, err := serveAndDial(t, filepath.Join(dir, "store"), rng)
		if err != nil {
			h.fault(t, "%s: %v", what, err)
			return
		}
		c := newClients(p, rng, size, deaths)
		c.run(p.kill)
		h.judge(t, what, c, p.clients[0], p.deaths)
		for _, c := range p.clients {
			if err := c.Close(); err != nil {
				t.Errorf("%s: close a client: %v", what, err)
			}
		}
		p.end()
		s, err := Open(p.dir, &Options{Logger: quietLog, BallastBytes: littleBallast})
		if err != nil {
			h.fault(t, "%s: open what was left: %v", what, err)
			return
		}
		h.verify(t, what, s)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}
