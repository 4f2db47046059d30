package engine

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

var kafkaPackage = Package{
	Name: "kafka", Title: "Apache Kafka 4.4.0", Version: "4.4.0",
	Needs: "Java 17 or newer and Maven", Flag: "--kafka",
	FetchSize: 45_000_000, DiskSize: 45_000_000,
	hash: kafkaHash, supported: func() bool { return true },
	runtime: needJava, fetcher: needMaven, fetch: fetchJars,
	entry: "libs/kafka_2.13-4.4.0.jar",
}

// KafkaOptions are the choices for a Kafka server; only Dir is required.
type KafkaOptions struct {
	Dir          string            // everything of this server; one process at a time
	Cache        string            // the folder of fetched engines; "" means CacheDir
	Port         int               // 0: a free one
	Advertised   string            // host:port clients are told to use, for a proxy in between; "" means Addr
	Heap         int64             // bytes of Java heap; 0 means 256 MB
	Properties   map[string]string // added to the server's properties, or replacing them
	StartTimeout time.Duration     // 0 means 90 s
	Logger       *slog.Logger      // nil means none
}

// Kafka is a real Kafka server, broker and controller in one process, on loopback without authentication. It keeps
// its data over restarts, deletes nothing by age, creates no topic by itself and takes records of up to 32 MiB. Every
// method may be called from any goroutine.
type Kafka struct {
	*server
	opts             KafkaOptions
	dir              string
	port, controller int
}

// StartKafka starts a server on a new or an existing folder and returns when it serves. Errors are those of StartClickHouse.
func StartKafka(ctx context.Context, opts KafkaOptions) (*Kafka, error) {
	if opts.Dir == "" {
		return nil, errors.New("start kafka: no folder given")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	if opts.StartTimeout <= 0 {
		opts.StartTimeout = 90 * time.Second
	}
	if opts.Heap <= 0 {
		opts.Heap = 256 << 20
	}
	k := &Kafka{server: newServer("kafka", opts.Logger, 20*time.Second), opts: opts, dir: dir}
	k.launch = k.launchServer
	for attempt := 1; ; attempt++ {
		if err := k.choosePorts(); err != nil {
			k.finish()
			return nil, fmt.Errorf("start kafka: %w", err)
		}
		err := k.start(ctx)
		if err == nil {
			return k, nil
		}
		if !errors.Is(err, errPortTaken) || attempt == 3 {
			k.finish()
			return nil, err
		}
	}
}

func (k *Kafka) choosePorts() (err error) {
	if k.port = k.opts.Port; k.port == 0 {
		if k.port, err = freePort(); err != nil {
			return err
		}
	}
	k.controller, err = freePort()
	return err
}

// Addr returns host:port of the broker, the same over restarts.
func (k *Kafka) Addr() string { return loopback(k.port) }

// Dir returns the server's folder.
func (k *Kafka) Dir() string { return k.dir }

func (k *Kafka) launchServer(ctx context.Context) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, k.opts.StartTimeout)
	defer cancel()
	folder, err := kafkaPackage.use(ctx, k.opts.Cache)
	if err != nil {
		return nil, err
	}
	lock, err := lockFolder(ctx, k.dir, 3*time.Second)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	// Clients do not see the controller's port: it may change.
	if !portIsFree(k.controller) {
		if k.controller, err = freePort(); err != nil {
			return nil, err
		}
	}
	properties := filepath.Join(k.dir, "server.properties")
	if err := os.WriteFile(properties, k.properties(), 0o600); err != nil {
		return nil, fmt.Errorf("write the server's properties: %w", err)
	}
	java := []string{
		"-Xmx" + strconv.FormatInt(k.opts.Heap>>20, 10) + "m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
		// Only warnings and the one line that says it is ready.
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
		"-cp", filepath.Join(folder, "libs", "*"),
	}
	if err := k.format(ctx, java, properties); err != nil {
		return nil, err
	}
	return launch(ctx, launching{
		spec: processSpec{path: "java", args: append(java, "kafka.Kafka", properties), dir: k.dir, lock: lock},
		log:  filepath.Join(k.dir, "log"),
		ready: func(_ context.Context, said func() []byte) bool {
			return bytes.Contains(said(), []byte("Kafka Server started"))
		},
	})
}

// format prepares a new folder as Kafka wants it; nothing happens to one that has been prepared.
func (k *Kafka) format(ctx context.Context, java []string, properties string) error {
	// A mark of our own, written last: Kafka's files alone would not tell a format that was killed half way.
	mark := filepath.Join(k.dir, "formatted")
	cluster, err := os.ReadFile(mark)
	if err == nil && len(cluster) > 0 {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look at the server's folder: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(k.dir, "data")); err != nil {
		return fmt.Errorf("clear a half formatted folder: %w", err)
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	id[0] &= 0x7f // the identity must not begin with a dash, which the tool takes for an option
	cluster = []byte(base64.RawURLEncoding.EncodeToString(id))
	cmd := exec.CommandContext(ctx, "java", append(slices.Clone(java), "kafka.tools.StorageTool", "format",
		"-t", string(cluster), "-c", properties)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format the server's folder: %w: %s", err, lastOf(out, 1500))
	}
	if err := os.WriteFile(mark, cluster, 0o600); err != nil {
		return fmt.Errorf("mark the folder as formatted: %w", err)
	}
	return nil
}

func (k *Kafka) properties() []byte {
	advertised := k.opts.Advertised
	if advertised == "" {
		advertised = k.Addr()
	}
	controller := loopback(k.controller)
	all := map[string]string{
		"process.roles":                  "broker,controller",
		"node.id":                        "1",
		"controller.quorum.voters":       "1@" + controller,
		"controller.listener.names":      "CONTROLLER",
		"listeners":                      "PLAINTEXT://" + k.Addr() + ",CONTROLLER://" + controller,
		"advertised.listeners":           "PLAINTEXT://" + advertised,
		"listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs":                       filepath.Join(k.dir, "data"),

		"auto.create.topics.enable": "false",
		"log.retention.ms":          "-1",
		"message.max.bytes":         strconv.Itoa(32 << 20),
		"replica.fetch.max.bytes":   strconv.Itoa(32 << 20),
		"socket.request.max.bytes":  strconv.Itoa(100 << 20),

		// One small machine, one broker.
		"offsets.topic.num.partitions":                     "4",
		"offsets.topic.replication.factor":                 "1",
		"transaction.state.log.num.partitions":             "4",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"share.coordinator.state.topic.num.partitions":     "1",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		// A broker that comes back after kill -9 is let in only when its old session has run out (9 s if left alone).
		"broker.session.timeout.ms":        "2000",
		"broker.heartbeat.interval.ms":     "400",
		"group.initial.rebalance.delay.ms": "0",
		"log.segment.bytes":                strconv.Itoa(64 << 20),
		"log.cleaner.dedupe.buffer.size":   strconv.Itoa(4 << 20),
		"num.network.threads":              "2",
		"num.io.threads":                   "2",
	}
	maps.Copy(all, k.opts.Properties)
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&text, "%s=%s\n", name, all[name])
	}
	return []byte(text.String())
}
