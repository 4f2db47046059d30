package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/segmentio/kafka-go"
	"golang.org/x/sync/errgroup"
)

// mirrorMakerVersion is the version that is fetched.
const mirrorMakerVersion = "4.3.1"

// mirrorMakerProject names what Maven fetches for MirrorMaker 2.
const mirrorMakerProject = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tributary.peers</groupId><artifactId>mirrormaker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>connect-mirror</artifactId><version>` + mirrorMakerVersion + `</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
`

// mirrorMakerLibs returns the folder with its jars, and fetches them first when they are not there.
func mirrorMakerLibs(ctx context.Context) (string, error) {
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", missing("%s", tool)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache folder: %w", err)
	}
	root := filepath.Join(cache, "tributary", "peers")
	libs := filepath.Join(root, "mirrormaker-"+mirrorMakerVersion)
	if _, err := os.Stat(libs); err == nil {
		return libs, nil
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", fmt.Errorf("make cache folder: %w", err)
	}
	partial, err := os.MkdirTemp(root, "mirrormaker-")
	if err != nil {
		return "", fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(partial)
	pom := filepath.Join(partial, "pom.xml")
	if err := os.WriteFile(pom, []byte(mirrorMakerProject), 0o600); err != nil {
		return "", fmt.Errorf("write the project file: %w", err)
	}
	fetch := exec.CommandContext(ctx, "mvn", "--batch-mode", "--quiet", "--file", pom,
		"org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies", "-DoutputDirectory="+filepath.Join(partial, "libs"))
	if out, err := fetch.CombinedOutput(); err != nil {
		return "", fmt.Errorf("fetch MirrorMaker: %w: %s", err, out)
	}
	if err := os.Rename(filepath.Join(partial, "libs"), libs); err != nil {
		return "", fmt.Errorf("put MirrorMaker where it belongs: %w", err)
	}
	return libs, nil
}

// mirroredTopic is the topic that is copied; MirrorMaker puts the name of the cluster before it.
const mirroredTopic = "lag"

// mirrorMakerConfig has one topic copied one way, with everything on one broker, and no pauses of its own.
const mirrorMakerConfig = `clusters = one, two
one.bootstrap.servers = %s
two.bootstrap.servers = %s
one->two.enabled = true
one->two.topics = ` + mirroredTopic + `
two->one.enabled = false
replication.factor = 1
checkpoints.topic.replication.factor = 1
heartbeats.topic.replication.factor = 1
offset-syncs.topic.replication.factor = 1
offset.storage.replication.factor = 1
status.storage.replication.factor = 1
config.storage.replication.factor = 1
sync.topic.acls.enabled = false
refresh.topics.interval.seconds = 5
tasks.max = 1
`

// lagOfMirrorMaker produces to the one broker and consumes at the other.
func lagOfMirrorMaker(ctx context.Context, dir, from, to string, s settings, rate float64) (version string, f Figures, err error) {
	libs, err := mirrorMakerLibs(ctx)
	if err != nil {
		return "", f, err
	}
	one := &kafka.Client{Addr: kafka.TCP(from)}
	made, err := one.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: mirroredTopic, NumPartitions: 1, ReplicationFactor: 1}}})
	if err == nil {
		err = made.Errors[mirroredTopic]
	}
	if err != nil {
		return "", f, fmt.Errorf("make the topic: %w", err)
	}
	config := filepath.Join(dir, "mm2.properties")
	if err := os.WriteFile(config, fmt.Appendf(nil, mirrorMakerConfig, from, to), 0o600); err != nil {
		return "", f, fmt.Errorf("write MirrorMaker's properties: %w", err)
	}
	maker, err := spawn(dir, nil, "java", "-Xmx512m", "-cp", filepath.Join(libs, "*"), "org.apache.kafka.connect.mirror.MirrorMaker", config)
	if err != nil {
		return "", f, err
	}
	defer func() { err = errors.Join(err, maker.stop()) }()
	l := mirrorLag{
		writer: &kafka.Writer{Addr: kafka.TCP(from), Topic: mirroredTopic, RequiredAcks: kafka.RequireAll, BatchTimeout: time.Millisecond},
		reader: kafka.NewReader(kafka.ReaderConfig{Brokers: []string{to}, Topic: "one." + mirroredTopic, MinBytes: 1, MaxBytes: 32 << 20, MaxWait: 500 * time.Millisecond}),
		times:  hdrhistogram.New(1, int64(time.Minute/time.Microsecond), 3),
	}
	defer func() { err = errors.Join(err, l.writer.Close(), l.reader.Close()) }()
	if err := l.begin(ctx, maker); err != nil {
		return "", f, err
	}
	warm := s
	warm.duration = warmUp
	if _, err := l.measure(ctx, warm, rate); err != nil {
		return "", f, err
	}
	l.times.Reset()
	f, err = l.measure(ctx, s, rate)
	return mirrorMakerVersion, f, err
}

// mirrorLag measures over a writer at the one broker and a reader at the other.
type mirrorLag struct {
	writer *kafka.Writer
	reader *kafka.Reader
	times  *hdrhistogram.Histogram
}

// begin returns when MirrorMaker copies: when what was written came.
func (l *mirrorLag) begin(ctx context.Context, maker *child) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if err := l.writer.WriteMessages(ctx, kafka.Message{Value: make([]byte, 8)}); err != nil {
		return fmt.Errorf("produce: %w", err)
	}
	came := make(chan error, 1)
	go func() {
		_, err := l.reader.ReadMessage(ctx)
		came <- err
	}()
	select {
	case err := <-came:
		if err != nil {
			return fmt.Errorf("wait for MirrorMaker to copy: %w: %s", err, maker.said())
		}
		return nil
	case <-maker.gone:
		cancel()
		<-came
		return fmt.Errorf("MirrorMaker has ended: %w: %s", maker.err, maker.said())
	}
}

// measure produces in an open loop and waits until all has come.
func (l *mirrorLag) measure(ctx context.Context, s settings, rate float64) (Figures, error) {
	total := int64(rate * s.duration.Seconds())
	began := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		writes, ctx := errgroup.WithContext(ctx)
		writes.SetLimit(lagClients * 16) // in an open loop none waits for another
		for i := range total {
			due := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
			select {
			case <-time.After(time.Until(due)):
			case <-ctx.Done():
				return ctx.Err()
			}
			writes.Go(func() error {
				value := make([]byte, max(8, s.size))
				_, _ = rand.Read(value) // never fails
				binary.BigEndian.PutUint64(value, uint64(time.Now().UnixNano()))
				return l.writer.WriteMessages(ctx, kafka.Message{Value: value})
			})
		}
		if err := writes.Wait(); err != nil {
			return fmt.Errorf("produce: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		for range total {
			m, err := l.reader.ReadMessage(ctx)
			if err != nil {
				return fmt.Errorf("consume: %w", err)
			}
			called := int64(binary.BigEndian.Uint64(m.Value))
			if err := l.times.RecordValue(max(1, (time.Now().UnixNano()-called)/int64(time.Microsecond))); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return Figures{}, err
	}
	return Figures{
		Rate: float64(total) / time.Since(began).Seconds(), Events: total,
		P50Micros: float64(l.times.ValueAtQuantile(50)), P99Micros: float64(l.times.ValueAtQuantile(99)),
	}, nil
}

// lagTable writes what was measured as a table in Markdown.
func lagTable(rows []Row) string {
	var b strings.Builder
	b.WriteString("| carried by | rate | p50 | p99 |\n|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s %s | %s/s | %.1f ms | %.1f ms |\n", r.Peer, r.Version, thousands(r.Rate), r.P50Micros/1000, r.P99Micros/1000)
	}
	return b.String()
}
