package engine_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
)

var serverNames = []string{"clickhouse", "redis", "kafka"}

// holdServers is the other process: it starts one of each server below the folder it is given, says their process
// numbers, and does nothing until it is killed.
func holdServers() {
	dir, ctx := os.Getenv("ENGINE_TEST_DIR"), context.Background()
	c, err := engine.StartClickHouse(ctx, engine.ClickHouseOptions{Dir: filepath.Join(dir, "clickhouse")})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	r, err := engine.StartRedis(ctx, engine.RedisOptions{Dir: filepath.Join(dir, "redis")})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	k, err := engine.StartKafka(ctx, engine.KafkaOptions{Dir: filepath.Join(dir, "kafka")})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("pids", c.PID(), r.PID(), k.PID())
	select {}
}

// startHolder starts the other process and returns it with the numbers of its servers' processes.
func startHolder(t *testing.T, dir string) (holder *exec.Cmd, pids []int) {
	t.Helper()
	for _, name := range serverNames {
		testenv.Ensure(t, name)
	}
	holder = exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), "ENGINE_TEST_PROCESS=holder", "ENGINE_TEST_DIR="+dir)
	holder.Stderr = os.Stderr
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "pids ") {
		t.Fatalf("the other process said %q, %v", line, err)
	}
	for _, word := range strings.Fields(line)[1:] {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return holder, pids
}

func TestNoServerOutlivesAKilledParent(t *testing.T) {
	cases := []bool{false}
	if runtime.GOOS == "linux" { // elsewhere a stopped ClickHouse sees the end of its stdin only when it goes on
		cases = append(cases, true)
	}
	for _, stopped := range cases {
		t.Run(fmt.Sprintf("stopped=%v", stopped), func(t *testing.T) {
			dir := t.TempDir()
			holder, pids := startHolder(t, dir)
			for _, name := range serverNames {
				if err := engine.FolderIsFree(filepath.Join(dir, name), 0); err == nil {
					t.Fatalf("the lock on the folder of %s is free while it runs: this test would prove nothing", name)
				}
			}
			for _, pid := range pids {
				if stopped {
					if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := holder.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			for i, name := range serverNames {
				// The kernel gives the lock back when the server's process is gone.
				if err := engine.FolderIsFree(filepath.Join(dir, name), 10*time.Second); err != nil {
					_ = syscall.Kill(pids[i], syscall.SIGKILL)
					t.Errorf("%s was left behind: %v", name, err)
				}
			}
		})
	}
}
