// Package embedded is a Kafka broker inside this process, for the first minute, a laptop and tests: franz-go's kfake with
// its data in a folder.
//
// It speaks Kafka's protocol to any client on 127.0.0.1 and keeps topics, records, producer ids and fences over a restart
// and over kill -9 of the process. Like Kafka itself it acknowledges before the disk has the data, so power loss may cost
// the newest records; the mirror publishes those again. It has no replicas, no authentication and no other address than
// loopback: for production, run Kafka.
//
// Records stay on disk; in memory it holds some 100 bytes for each batch of records, and reads its segments once at Open.
package embedded

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Options of a Broker. The zero value is good.
type Options struct {
	// Port to listen on at 127.0.0.1; 0 takes a free one.
	Port int
	// SegmentBytes is the size at which a file of a topic is full; 0 means 32 MiB. Open holds one such file in memory at
	// a time after a clean Close, and all of them once after a crash.
	SegmentBytes int
	// Sync makes every acknowledged batch of records reach the disk first, at the cost of speed.
	Sync bool
	// Logger tells what the broker found damaged; nil is silent.
	Logger *slog.Logger
}

// Broker is a running broker. Its methods are safe for concurrent use.
type Broker struct {
	cluster *kfake.Cluster
	addr    string
	lock    *os.File
	closing sync.Once
}

// Open starts a broker over the data in dir, which is made when it is not there. One process at a time may have dir open;
// a second gets an error, as does a port that is taken.
func Open(dir string, o Options) (*Broker, error) {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 32 << 20
	}
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	options := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.Ports(o.Port),
		kfake.ClusterID("tributary-embedded"),
		kfake.DataDir(dir),
		kfake.BrokerConfigs(map[string]string{"log.segment.bytes": strconv.Itoa(o.SegmentBytes)}),
		kfake.ListenFn(listen),
	}
	if o.Logger != nil {
		options = append(options, kfake.WithLogger(logger{o.Logger}))
	}
	if o.Sync {
		options = append(options, kfake.SyncWrites())
	}
	cluster, err := kfake.NewCluster(options...)
	if err != nil {
		lock.Close()
		return nil, &loadError{dir, err}
	}
	// Loading reads whole segments; what that took is not needed again.
	debug.FreeOSMemory()
	return &Broker{cluster: cluster, addr: cluster.ListenAddrs()[0], lock: lock}, nil
}

// Addr returns the host and port that clients connect to.
func (b *Broker) Addr() string { return b.addr }

// Close stops the broker and writes what makes the next Open quick. It is safe to call twice.
func (b *Broker) Close() error {
	b.closing.Do(func() {
		b.cluster.Close()
		b.lock.Close()
	})
	return nil
}

func listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("%w: choose another port, or 0 for a free one", err)
	}
	return l, nil
}

// lockFolder makes the folder and takes its lock, which ends with the process at the latest.
func lockFolder(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the embedded broker's folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the embedded broker's lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("embedded broker's folder %s is in use by another process: %w", dir, err)
	}
	return f, nil
}
