package cable

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// metadataKey is the number of the request by which a client asks where the brokers are.
const metadataKey = 3

// asked are the questions of one connection that have not been answered yet and whose answers name brokers.
type asked struct {
	mu       sync.Mutex      // guards what follows
	versions map[int32]int16 // by correlation id
}

func (a *asked) note(correlation int32, version int16) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.versions == nil {
		a.versions = map[int32]int16{}
	}
	a.versions[correlation] = version
}

func (a *asked) take(correlation int32) (version int16, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	version, ok = a.versions[correlation]
	delete(a.versions, correlation)
	return version, ok
}

// frames gives what it reads, frame by frame: head is shown the first bytes behind the size of each, and returns what is to be given
// in place of the frame, or nil for the frame as it is.
type frames struct {
	from  *bufio.Reader
	bytes int // of a head
	head  func(head []byte, size int, rest io.Reader) ([]byte, error)

	ready []byte // to be given before anything is read
	left  int    // how much of the frame that is under way has not been read
}

// Read implements io.Reader.
func (f *frames) Read(p []byte) (int, error) {
	if len(f.ready) == 0 && f.left == 0 {
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	if len(f.ready) > 0 {
		n := copy(p, f.ready)
		f.ready = f.ready[n:]
		return n, nil
	}
	n, err := f.from.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}

// next begins a frame.
func (f *frames) next() error {
	begin := make([]byte, 4+f.bytes)
	if _, err := io.ReadFull(f.from, begin); err != nil {
		return err
	}
	size := int(int32(binary.BigEndian.Uint32(begin)))
	if size < f.bytes {
		return fmt.Errorf("a frame of Kafka has %d bytes, and begins with %d", size, f.bytes)
	}
	instead, err := f.head(begin[4:], size, f.from)
	if err != nil {
		return err
	}
	if f.ready, f.left = instead, 0; instead == nil {
		f.ready, f.left = begin, size-f.bytes
	}
	return nil
}

// requests notes what a client asks.
func (a *asked) requests(from io.Reader) io.Reader {
	return &frames{from: bufio.NewReader(from), bytes: 8, head: func(head []byte, _ int, _ io.Reader) ([]byte, error) {
		if binary.BigEndian.Uint16(head) == metadataKey {
			a.note(int32(binary.BigEndian.Uint32(head[4:])), int16(binary.BigEndian.Uint16(head[2:])))
		}
		return nil, nil
	}}
}

// answers has brokers found at an address, whatever the broker says.
func (a *asked) answers(from io.Reader, addr *net.TCPAddr) io.Reader {
	return &frames{from: bufio.NewReader(from), bytes: 4, head: func(head []byte, size int, rest io.Reader) ([]byte, error) {
		version, ok := a.take(int32(binary.BigEndian.Uint32(head)))
		if !ok {
			return nil, nil
		}
		body := make([]byte, size-4)
		if _, err := io.ReadFull(rest, body); err != nil {
			return nil, err
		}
		r := kmsg.NewPtrMetadataResponse()
		r.SetVersion(version)
		frame := append(make([]byte, 4, size+64), head...)
		if r.IsFlexible() { // its head has tags, of which Kafka knows none yet
			if len(body) == 0 || body[0] != 0 {
				return nil, errors.New("an answer of Kafka has tags in its head")
			}
			frame, body = append(frame, 0), body[1:]
		}
		if err := r.ReadFrom(body); err != nil {
			return nil, fmt.Errorf("read where the brokers are: %w", err)
		}
		for i := range r.Brokers {
			r.Brokers[i].Host, r.Brokers[i].Port = addr.IP.String(), int32(addr.Port)
		}
		frame = r.AppendTo(frame)
		binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
		return frame, nil
	}}
}
