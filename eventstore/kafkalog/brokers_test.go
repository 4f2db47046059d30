package kafkalog_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore/kafkalog/embedded"
	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
	"go.uber.org/goleak"
)

// brokerFolder, when set, makes this program an embedded broker of its own, so that a test can kill it.
const brokerFolder = "KAFKALOG_TEST_BROKER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(brokerFolder); dir != "" {
		os.Exit(serveBroker(dir, os.Getenv(brokerFolder+"_PORT")))
	}
	if dir := os.Getenv(nodeFolder); dir != "" {
		os.Exit(serveNode(dir))
	}
	testenv.Main(m, func() error {
		return goleak.Find(
			// kafka-go's idle connections end after their transport's close, each in its own time.
			goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*conn).run"),
			goleak.IgnoreAnyFunction("github.com/segmentio/kafka-go.(*connPool).discover"),
		)
	})
}

func serveBroker(dir, port string) int {
	n, _ := strconv.Atoi(port)
	b, err := embedded.Open(dir, embedded.Options{Port: n})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer b.Close()
	fmt.Println(b.Addr())
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return 1
	}
	return 0
}

// server is a broker that a test can harm.
type server interface {
	Addr() string
	Kill()
	Pause() error
	Resume() error
	// Restart starts a killed broker on its data and address.
	Restart(ctx context.Context) error
}

// onBrokers runs a test against the embedded broker, in a process of its own, and against a real Kafka that the tests of
// this package share.
func onBrokers(t *testing.T, test func(t *testing.T, addr string)) {
	t.Run("embedded", func(t *testing.T) { test(t, openEmbedded(t)) })
	t.Run("kafka", func(t *testing.T) { test(t, testenv.SharedKafka(t).Addr()) })
}

// onServers runs a test against brokers of its own that it may kill.
func onServers(t *testing.T, test func(t *testing.T, s server)) {
	t.Run("embedded", func(t *testing.T) { test(t, startBroker(t)) })
	t.Run("kafka", func(t *testing.T) {
		// A killed broker may register again when its session has ended.
		test(t, testenv.KafkaWith(t, engine.KafkaOptions{Properties: map[string]string{
			"broker.session.timeout.ms": "1500", "broker.heartbeat.interval.ms": "300",
		}}))
	})
}

// openEmbedded opens an embedded broker in this process.
func openEmbedded(t testing.TB) (addr string) {
	t.Helper()
	b, err := embedded.Open(t.TempDir(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b.Addr()
}

// brokerProcess is an embedded broker in a process of its own.
type brokerProcess struct {
	dir, port string
	cmd       *exec.Cmd
	stdin     io.Closer
}

func startBroker(t testing.TB) *brokerProcess {
	t.Helper()
	p := &brokerProcess{dir: t.TempDir()}
	if err := p.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func (p *brokerProcess) Addr() string { return net.JoinHostPort("127.0.0.1", p.port) }

func (p *brokerProcess) Restart(context.Context) error {
	p.Kill()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), brokerFolder+"="+p.dir, brokerFolder+"_PORT="+p.port)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.stdin = cmd, in
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		p.Kill()
		return fmt.Errorf("wait for the broker's address: %w", err)
	}
	_, p.port, err = net.SplitHostPort(strings.TrimSpace(line))
	return err
}

func (p *brokerProcess) Kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // "signal: killed"
		p.stdin.Close()
		p.cmd = nil
	}
}

// Pause returns when the process has stopped: a signal alone is only on its way.
func (p *brokerProcess) Pause() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return err
		case status.Stopped():
			return nil
		default:
			return fmt.Errorf("the broker ended instead: %v", status)
		}
	}
}

func (p *brokerProcess) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// within is how long a test waits for what must happen.
const within = 60 * time.Second

// eventually waits until a condition holds, asking every few milliseconds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, within)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
