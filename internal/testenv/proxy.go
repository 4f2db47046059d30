package testenv

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Link is a TCP proxy on loopback: clients that dial Addr reach the target, as well as the test lets them. Its methods
// may be called from any goroutine; they hold for connections that exist and for later ones.
//
//	Cut      every connection is reset, and new ones are as soon as they are made
//	Stall    connections stay open and can be made, but not a byte passes, either way
//	Latency  every byte arrives that much later, each way; bandwidth is not limited
//	Restore  all is well again; what a stall held back arrives
//
// A cut link goes on listening, to keep its address: a client that redials may see the error at its first use only.
type Link struct {
	target   string
	listener net.Listener
	owned    sync.WaitGroup // the goroutines of the link

	mu      sync.Mutex // guards the fields below
	cut     bool
	closed  bool
	latency time.Duration
	flowing chan struct{} // closed while bytes may pass
	conns   map[net.Conn]bool
}

// Proxy starts a link to target (host:port) that ends with the test.
func Proxy(t testing.TB, target string) *Link {
	t.Helper()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("testenv: listen for the proxy: %v", err)
	}
	l := &Link{target: target, listener: listener, flowing: make(chan struct{}), conns: map[net.Conn]bool{}}
	close(l.flowing)
	l.owned.Go(l.accept)
	t.Cleanup(l.close)
	return l
}

// Addr returns host:port of the link.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Cut resets every connection, present and future, until Restore.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	l.resetAll()
}

// Stall holds every byte back, both ways, until Restore.
func (l *Link) Stall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.flowing:
		l.flowing = make(chan struct{})
	default:
	}
}

// Latency delays what is sent from now on by d, each way.
func (l *Link) Latency(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latency = d
}

// Restore ends cut, stall and latency. Connections that were cut stay cut; clients must dial again.
func (l *Link) Restore() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.latency = false, 0
	l.flow()
}

// Connections returns how many clients are connected through the link.
func (l *Link) Connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns) / 2
}

// flow lets bytes pass. REQUIRES: mu is held.
func (l *Link) flow() {
	select {
	case <-l.flowing:
	default:
		close(l.flowing)
	}
}

// resetAll ends every connection by a reset. REQUIRES: mu is held.
func (l *Link) resetAll() {
	for conn := range l.conns {
		reset(conn)
	}
}

func (l *Link) close() {
	l.listener.Close()
	l.mu.Lock()
	l.closed = true
	l.flow()
	l.resetAll()
	l.mu.Unlock()
	l.owned.Wait()
}

func (l *Link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		l.owned.Go(func() { l.serve(client) })
	}
}

// serve carries one client's bytes both ways until both have said their last.
func (l *Link) serve(client net.Conn) {
	defer client.Close()
	if !l.enter(client) {
		return
	}
	defer l.leave(client)
	server, err := net.DialTimeout("tcp", l.target, 5*time.Second)
	if err != nil {
		reset(client)
		return
	}
	defer server.Close()
	if !l.enter(server) {
		return
	}
	defer l.leave(server)
	var ways sync.WaitGroup
	ways.Go(func() { l.carry(server, client) })
	ways.Go(func() { l.carry(client, server) })
	ways.Wait()
}

// enter notes a connection, so that Cut finds it. It refuses one on a link that is cut.
func (l *Link) enter(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut || l.closed {
		reset(conn)
		return false
	}
	l.conns[conn] = true
	return true
}

func (l *Link) leave(conn net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, conn)
}

// parcel is a piece of a connection's bytes and when it is due.
type parcel struct {
	bytes []byte
	due   time.Time
}

// carry copies one direction. Reader and writer are apart, so that latency delays bytes and does not make them fewer.
func (l *Link) carry(to, from net.Conn) {
	parcels := make(chan parcel, 1024)
	go func() {
		defer close(parcels)
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			if n > 0 {
				l.mu.Lock()
				due := time.Now().Add(l.latency)
				l.mu.Unlock()
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
		l.mu.Lock()
		flowing := l.flowing
		l.mu.Unlock()
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
