// Package cable carries TCP connections over loopback, as well as tests and drills let it: a cable can be cut, stalled and
// slowed. It needs no privileges, and knows nothing of what it carries; one to a Kafka broker has clients stay on it, which the
// broker would send past it.
package cable

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Cable is a TCP proxy on loopback: clients that dial Addr reach the target, as well as it lets them. Its methods
// may be called from any goroutine; they hold for connections that exist and for later ones.
//
//	Cut      every connection is reset, and new ones are as soon as they are made
//	Stall    connections stay open and can be made, but not a byte passes, either way
//	Latency  every byte arrives that much later, each way; bandwidth is not limited
//	Restore  all is well again; what a stall held back arrives
//
// A cut cable goes on listening, to keep its address: a client that redials may see the error at its first use only.
type Cable struct {
	target   string
	listener net.Listener
	owned    sync.WaitGroup // the goroutines of the cable
	// filters, when set, returns for each connection what the bytes of the client and those of the target go through.
	filters func() (up, down filter)

	mu      sync.Mutex // guards the fields below
	cut     bool
	closed  bool
	latency time.Duration
	flowing chan struct{} // closed while bytes may pass
	conns   map[net.Conn]bool
}

// filter is what the bytes of one direction go through.
type filter func(io.Reader) io.Reader

// New starts a cable to target (host:port). The caller must Close it.
func New(target string) (*Cable, error) { return lay(target, nil) }

// NewKafka starts a cable to a Kafka broker that is alone in its cluster. Brokers tell clients under which address they
// are to be reached; through this cable they tell its own.
func NewKafka(target string) (*Cable, error) {
	return lay(target, func(addr *net.TCPAddr) (up, down filter) {
		var asked asked
		return asked.requests, func(from io.Reader) io.Reader { return asked.answers(from, addr) }
	})
}

func lay(target string, filters func(own *net.TCPAddr) (up, down filter)) (*Cable, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("lay a cable to %s: %w", target, err)
	}
	c := &Cable{target: target, listener: listener, flowing: make(chan struct{}), conns: map[net.Conn]bool{}}
	if own, ok := listener.Addr().(*net.TCPAddr); ok && filters != nil {
		c.filters = func() (up, down filter) { return filters(own) }
	}
	close(c.flowing)
	c.owned.Go(c.accept)
	return c, nil
}

// Addr returns host:port of the cable.
func (c *Cable) Addr() string { return c.listener.Addr().String() }

// Cut resets every connection, present and future, until Restore.
func (c *Cable) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	c.resetAll()
}

// Stall holds every byte back, both ways, until Restore.
func (c *Cable) Stall() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.flowing:
		c.flowing = make(chan struct{})
	default:
	}
}

// Latency delays what is sent from now on by d, each way.
func (c *Cable) Latency(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latency = d
}

// Restore ends cut, stall and latency. Connections that were cut stay cut; clients must dial again.
func (c *Cable) Restore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut, c.latency = false, 0
	c.flow()
}

// Connections returns how many clients are connected through the cable.
func (c *Cable) Connections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.conns) / 2
}

// flow lets bytes pass. REQUIRES: mu is held.
func (c *Cable) flow() {
	select {
	case <-c.flowing:
	default:
		close(c.flowing)
	}
}

// resetAll ends every connection by a reset. REQUIRES: mu is held.
func (c *Cable) resetAll() {
	for conn := range c.conns {
		reset(conn)
	}
}

// Close ends the cable with all connections, and returns when it has. It is safe to call twice.
func (c *Cable) Close() {
	c.listener.Close()
	c.mu.Lock()
	c.closed = true
	c.flow()
	c.resetAll()
	c.mu.Unlock()
	c.owned.Wait()
}

func (c *Cable) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		c.owned.Go(func() { c.serve(client) })
	}
}

// serve carries one client's bytes both ways until both have said their last.
func (c *Cable) serve(client net.Conn) {
	defer client.Close()
	if !c.enter(client) {
		return
	}
	defer c.leave(client)
	server, err := net.DialTimeout("tcp", c.target, 5*time.Second)
	if err != nil {
		reset(client)
		return
	}
	defer server.Close()
	if !c.enter(server) {
		return
	}
	defer c.leave(server)
	up, down := io.Reader(client), io.Reader(server)
	if c.filters != nil {
		there, back := c.filters()
		up, down = there(up), back(down)
	}
	var ways sync.WaitGroup
	ways.Go(func() { c.carry(server, client, up) })
	ways.Go(func() { c.carry(client, server, down) })
	ways.Wait()
}

// enter notes a connection, so that Cut finds it. It refuses one on a cable that is cut.
func (c *Cable) enter(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut || c.closed {
		reset(conn)
		return false
	}
	c.conns[conn] = true
	return true
}

func (c *Cable) leave(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
}

// parcel is a piece of a connection's bytes and when it is due.
type parcel struct {
	bytes []byte
	due   time.Time
}

// carry copies one direction, what bytes gives of a connection. Reader and writer are apart, so that latency delays bytes and
// does not make them fewer.
func (c *Cable) carry(to, from net.Conn, bytes io.Reader) {
	parcels := make(chan parcel, 1024)
	go func() {
		defer close(parcels)
		for {
			buf := make([]byte, 32<<10)
			n, err := bytes.Read(buf)
			if n > 0 {
				c.mu.Lock()
				due := time.Now().Add(c.latency)
				c.mu.Unlock()
				parcels <- parcel{bytes: buf[:n], due: due}
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					reset(to)
				}
				return
			}
		}
	}()
	for p := range parcels {
		time.Sleep(time.Until(p.due))
		c.mu.Lock()
		flowing := c.flowing
		c.mu.Unlock()
		<-flowing
		if _, err := to.Write(p.bytes); err != nil {
			reset(from)
			for range parcels { // until the reader has seen its end
			}
			return
		}
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}

// reset ends a connection with RST instead of FIN: the peer gets an error, not an end of file.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}
