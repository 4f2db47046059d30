package bench_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tributary-es/tributary/internal/bench"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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
		r.RawRate <= 0 || r.Ratio <= 0 || r.EchoRate <= 0 || r.EchoRatio <= 0 {
		t.Errorf("%+v", r)
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
