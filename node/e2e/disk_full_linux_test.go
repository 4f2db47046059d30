package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/reliability"
	"github.com/tributary-es/tributary/internal/testenv"
)

// smallDisk mounts a file system of its own, of a few MiB, for as long as the test lasts.
func smallDisk(t *testing.T, mib int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		testenv.Missing(t, fmt.Sprintf("the right to mount a small file system (%v)", err), "run the test as root")
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// fill writes a file until there is no room at all.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}

// tries sends a command once and returns the status and what was said.
func (s *serving) tries(t *testing.T, path, body string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	req := request(t, http.MethodPost, "http://"+s.http+path, body).WithContext(ctx)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text := make([]byte, 4096)
	n, _ := resp.Body.Read(text) // it is short
	return resp.StatusCode, string(text[:n])
}

// TestFullDisk fills the disk of a server to the last byte: it answers queries, refuses commands with what to do, comes
// back after kill -9 while the disk is full, and takes commands by itself when there is room. Shows S23 and S24.
func TestFullDisk(t *testing.T) {
	cycles := 2
	if *long {
		cycles = 20
	}
	disk := smallDisk(t, 96)
	data, filler := filepath.Join(disk, "data"), filepath.Join(disk, "somebody-else")
	flags := []string{"--min-free", "16", "--ballast", "8", "--clickhouse", "off"}
	s := serve(t, data, flags...)
	acked, refused := 0, 0
	var restarts, resumes []time.Duration
	receive := func() bool {
		code, text := s.tries(t, "/v1/stock/MUG-1/receive", `{"quantity": 1}`)
		switch {
		case code == http.StatusOK:
			acked++
			return true
		case code == http.StatusServiceUnavailable && strings.Contains(text, "is full"):
			refused++
		default:
			t.Fatalf("a command got %d: %s", code, text)
		}
		return false
	}
	until := func(what string, come func() bool) time.Duration {
		t.Helper()
		start := time.Now()
		for !come() {
			if time.Since(start) > patience {
				t.Fatalf("%s: not in %s", what, patience)
			}
			time.Sleep(10 * time.Millisecond)
		}
		return time.Since(start)
	}
	onHand := func() bool {
		resp, text := roundTrip(t, request(t, "GET", "http://"+s.http+"/v1/stock/MUG-1", ""))
		return resp.StatusCode == http.StatusOK && decoded[object](t, text)["on_hand"] == fmt.Sprint(acked)
	}
	for cycle := range cycles {
		for range 50 {
			if !receive() {
				t.Fatal("a command was refused although there is room")
			}
		}
		fill(t, filler)
		until("commands are refused", func() bool { return !receive() })
		until("what was taken can be read", onHand)
		if resp, text := roundTrip(t, request(t, "GET", "http://"+s.http+"/v1/health", "")); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text, "is full") {
			t.Errorf("health on a full disk: %s: %s", resp.Status, text)
		}
		if d, _ := s.call(t, "GET", "/v1/status", "")["disk"].(map[string]any); d["full"] == nil || d["full"] == "" {
			t.Errorf("status on a full disk: %v", d)
		}
		s.kill()
		if cycle%2 == 1 {
			if err := os.Remove(filepath.Join(data, "store", "BALLAST")); err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
		}
		fill(t, filler+"-too") // what the kill gave back
		start := time.Now()
		s = serve(t, data, flags...)
		restarts = append(restarts, time.Since(start))
		if receive() {
			t.Fatal("a command was taken on a full disk")
		}
		until("what was taken can be read", onHand)
		read := s.call(t, "GET", "/v1/streams/inventory/MUG-1?limit=1", "")
		if events, _ := read["events"].([]any); len(events) != 1 {
			t.Errorf("a stream read on a full disk: %v", read)
		}
		for _, f := range []string{filler, filler + "-too"} {
			if err := os.Remove(f); err != nil {
				t.Fatal(err)
			}
		}
		resumes = append(resumes, until("commands are taken again", receive))
	}
	until("what was taken can be read", onHand)
	s.stop(t)
	if r := verify(t, data); len(r.Faults) > 0 {
		t.Errorf("verify: %v", r.Faults)
	}
	_, restart := reliability.Percentiles(restarts)
	_, resume := reliability.Percentiles(resumes)
	reliability.Result{
		Test: "T6", What: "a server on a disk full to the last byte, kill -9 and restart meanwhile", Cycles: cycles, Faults: 2 * cycles, Acked: acked,
		P99: max(restart, resume), Extra: map[string]any{"refused": refused, "restart_p99_ms": restart, "resume_p99_ms": resume},
	}.Print(t)
}

// TestStoppedProcessIsNoStall stops a server under load as SIGSTOP does, for longer than its disk may take: when it goes on,
// the disk is not said to be stalled. Shows S25.
func TestStoppedProcessIsNoStall(t *testing.T) {
	cycles := 2
	if *long {
		cycles = 20
	}
	s := serve(t, t.TempDir(), "--stall-after", "500ms", "--kafka", "off", "--clickhouse", "off")
	s.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 1000000}`)
	load := startLoad(t, s)
	for range cycles {
		before := load.placed.Load()
		if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1500 * time.Millisecond) // how long it is stopped is what is tested
		if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		for start := time.Now(); load.placed.Load() == before; time.Sleep(10 * time.Millisecond) {
			if time.Since(start) > patience {
				t.Fatal("no order is placed after the stop")
			}
		}
		if d, _ := s.call(t, "GET", "/v1/status", "")["disk"].(map[string]any); d == nil || d["stalled_since"] != nil {
			t.Errorf("disk: %v", d)
		}
	}
	placed := load.stop()
	if strings.Contains(s.errText(), "stalled") {
		t.Error("the disk was said to be stalled")
	}
	s.stop(t)
	reliability.Result{Test: "T7", What: "SIGSTOP for 1.5 s under load, a disk is stalled after 0.5 s", Cycles: cycles, Faults: cycles, Acked: int(placed)}.Print(t)
}
