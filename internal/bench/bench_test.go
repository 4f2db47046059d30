package bench_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tributary-es/tributary/internal/bench"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(startSideEnv); dir != "" {
		fill, err := strconv.Atoi(os.Args[1])
		if err == nil {
			err = bench.StartSide(context.Background(), dir, small(), fill, os.Stdin, os.Stdout)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// startSideEnv has the test binary be a process of bench.Start, with the store in the folder that it names.
const startSideEnv = "TRIBUTARY_BENCH_START_SIDE"

func small() bench.Load {
	return bench.Load{Clients: 4, Batch: 2, Size: 100, Streams: 40, Rounds: 2, Duration: 200 * time.Millisecond}
}

func ignore(int, int) {}

// Over gRPC an append is measured beside the raw file and the empty call, and every figure is there.
func TestAppendOverGRPC(t *testing.T) {
	l := small()
	l.GRPC, l.Raw = true, true
	r, err := bench.Append(t.Context(), t.TempDir(), l, ignore)
	if err != nil {
		t.Fatal(err)
	}
	if r.Rate <= 0 || r.Events <= 0 || r.P50Micros <= 0 || r.P99Micros < r.P50Micros ||
		r.RawRate <= 0 || r.Ratio <= 0 || r.EchoRate <= 0 || r.EchoRatio <= 0 ||
		r.CPUMicros <= 0 || r.EchoCPUMicros <= 0 || r.OwnEchoRate <= 0 || r.OwnEchoCPUMicros <= 0 {
		t.Errorf("%+v", r)
	}
}

// With a condition the same appends are measured without one too.
func TestAppendWithACondition(t *testing.T) {
	l := small()
	l.Condition = true
	r, err := bench.Append(t.Context(), t.TempDir(), l, ignore)
	if err != nil {
		t.Fatal(err)
	}
	if r.Rate <= 0 || r.PlainRate <= 0 || r.PlainRatio <= 0 || r.RawRate != 0 {
		t.Errorf("%+v", r)
	}
	l.GRPC = true
	if err := l.Validate(); err == nil {
		t.Error("conditions over gRPC are not measured, and were taken")
	}
}

// Appends are measured with a durability beyond the disk, as far as this process can keep them there.
func TestAppendWithADurability(t *testing.T) {
	for _, grpc := range []bool{false, true} {
		l := small()
		l.GRPC, l.Durability, l.Rounds = grpc, "kafka", 1
		r, err := bench.Append(t.Context(), t.TempDir(), l, ignore)
		if err != nil {
			t.Fatal(err)
		}
		if r.Rate <= 0 || r.Events <= 0 || r.Durability != "kafka" {
			t.Errorf("gRPC %v: %+v", grpc, r)
		}
	}
	for what, l := range map[string]bench.Load{"peer": {Durability: "peer"}, "raw": {Durability: "kafka", Raw: true}, "unknown": {Durability: "disk"}} {
		wrong := small()
		wrong.Durability, wrong.Raw = l.Durability, l.Raw
		if err := wrong.Validate(); err == nil || !strings.Contains(err.Error(), "--durability") {
			t.Errorf("%s: %v, want it refused", what, err)
		}
	}
}

// A store that a process filled is there again after that was killed and after a clean stop.
func TestStart(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("bench start reads /proc")
	}
	done := 0
	r, err := bench.Start(t.Context(), t.TempDir(), small(), 3000, func(ctx context.Context, dir string, fill int) *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0], strconv.Itoa(fill))
		cmd.Env = append(os.Environ(), startSideEnv+"="+dir)
		return cmd
	}, func(d, total int) {
		if d < done || total != 3000 {
			t.Errorf("progress went from %d to %d of %d", done, d, total)
		}
		done = d
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Events < 3000 || done < 2900 || r.Rate <= 0 || r.WrittenPerEvent < float64(r.Size) || r.KilledMillis <= 0 || r.CleanMillis <= 0 ||
		r.StartedMB <= 0 || r.HighestMB < r.FilledMB {
		t.Errorf("progress %d, %+v", done, r)
	}
}

// In an open loop so many appends arrive as are asked for, however fast they are done.
func TestOpenLoop(t *testing.T) {
	l := small()
	l.Rate, l.Batch, l.Rounds = 100, 1, 1
	r, err := bench.Append(t.Context(), t.TempDir(), l, ignore)
	if err != nil {
		t.Fatal(err)
	}
	if want := int64(20); r.Events != want {
		t.Errorf("%d appends in 200 ms, want %d", r.Events, want)
	}
}

// Each measurement gives a rate and latencies, in process and over gRPC.
func TestMeasurements(t *testing.T) {
	for _, grpc := range []bool{false, true} {
		l := small()
		l.GRPC = grpc
		for name, measure := range map[string]func(dir string) (bench.Result, error){
			"session": func(dir string) (bench.Result, error) { return bench.Session(t.Context(), dir, l, ignore) },
			"read":    func(dir string) (bench.Result, error) { return bench.Read(t.Context(), dir, l, 2000, ignore) },
			"load":    func(dir string) (bench.Result, error) { return bench.Loads(t.Context(), dir, l, 5, ignore) },
			"subscribe": func(dir string) (bench.Result, error) {
				l := l
				l.Rate = 500
				return bench.Subscribe(t.Context(), dir, l, bench.Subscribers{Live: 3, Slow: 1}, ignore)
			},
		} {
			r, err := measure(t.TempDir())
			if err != nil {
				t.Errorf("%s, gRPC %v: %v", name, grpc, err)
				continue
			}
			if r.Rate <= 0 || r.Events <= 0 || r.P50Micros <= 0 || r.P99Micros < r.P50Micros || (r.EchoRatio > 0) != (grpc && name == "load") {
				t.Errorf("%s, gRPC %v: %+v", name, grpc, r)
			}
		}
	}
}
