package engine_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/internal/engine"
)

// slowPackage is an engine whose fetch notes that it began, leaves half of it in the partial folder and goes on when
// there is a file named "go" in the cache.
func slowPackage(cache string) *engine.Package {
	return engine.SmallPackage(func(ctx context.Context, partial, result string, stage func(string)) error {
		if err := appendLine(filepath.Join(cache, "begun"), "begun"); err != nil {
			return err
		}
		half := filepath.Join(partial, "half")
		if _, err := os.Stat(half); err != nil {
			if err := os.WriteFile(half, []byte("half"), 0o600); err != nil {
				return err
			}
		} else if err := appendLine(filepath.Join(cache, "resumed"), "resumed"); err != nil {
			return err
		}
		stage("fetching")
		for {
			if _, err := os.Stat(filepath.Join(cache, "go")); err == nil {
				return os.WriteFile(filepath.Join(result, "engine"), []byte("whole"), 0o600)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
}

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}

func lines(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(text), "\n")
}

// fetchInOtherProcess fetches the slow package and says each stage it comes to.
func fetchInOtherProcess() {
	cache, last := os.Getenv("ENGINE_TEST_DIR"), ""
	status, err := slowPackage(cache).Fetch(context.Background(), cache, engine.FetchOptions{Progress: func(p engine.Progress) {
		if p.Stage != last {
			last = p.Stage
			fmt.Println(p.Stage)
		}
	}})
	if err != nil || status.State != engine.Present {
		fmt.Println(status.State, err)
		os.Exit(1)
	}
}

// startFetch starts another process that fetches into cache and returns it with the first stage it comes to.
func startFetch(t *testing.T, cache string) (cmd *exec.Cmd, stage string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "ENGINE_TEST_PROCESS=fetch", "ENGINE_TEST_DIR="+cache)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	stage, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the other process said %q, %v", stage, err)
	}
	return cmd, strings.TrimSpace(stage)
}

func TestFetchesOfOneEngineTakeTurns(t *testing.T) {
	cache := t.TempDir()
	var others []*exec.Cmd
	for i, want := range []string{"fetching", "waiting", "waiting"} {
		cmd, stage := startFetch(t, cache)
		if stage != want {
			t.Errorf("process %d is %s, want %s", i, stage, want)
		}
		others = append(others, cmd)
	}
	if err := os.WriteFile(filepath.Join(cache, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, cmd := range others {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v", i, err)
		}
	}
	if n := lines(t, filepath.Join(cache, "begun")); n != 1 {
		t.Errorf("%d fetches began, want 1", n)
	}
}

func TestAKilledFetchLeavesNothingToUseAndTheNextGoesOn(t *testing.T) {
	cache := t.TempDir()
	cmd, _ := startFetch(t, cache)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	pkg := slowPackage(cache)
	if state := pkg.Status(t.Context(), cache).State; state != engine.Missing {
		t.Errorf("after the kill the engine is %s", state)
	}
	if err := os.WriteFile(filepath.Join(cache, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	status, err := pkg.Fetch(t.Context(), cache, engine.FetchOptions{})
	if err != nil || status.State != engine.Present {
		t.Fatalf("the next fetch: %s, %v", status.State, err)
	}
	if n := lines(t, filepath.Join(cache, "resumed")); n != 1 {
		t.Error("the next fetch did not find what had arrived")
	}
	if left, err := filepath.Glob(filepath.Join(cache, "*.partial")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func TestFetchSaysWhatItFetchesBeforeItDoes(t *testing.T) {
	var said strings.Builder
	before := ""
	pkg := engine.SmallPackage(func(_ context.Context, _, result string, _ func(string)) error {
		before = said.String()
		return os.WriteFile(filepath.Join(result, "engine"), nil, 0o600)
	})
	cache := t.TempDir()
	if _, err := pkg.Fetch(t.Context(), cache, engine.FetchOptions{Out: &said}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Small 1.0", "3 MB to fetch", "7 MB on disk", "sha256 5ba11", cache} {
		if !strings.Contains(before, want) {
			t.Errorf("%q does not say %q", before, want)
		}
	}
	said.Reset()
	if _, err := pkg.Fetch(t.Context(), cache, engine.FetchOptions{Out: &said}); err != nil || said.Len() != 0 {
		t.Errorf("an engine that is there: %v, said %q", err, said.String())
	}
}

func TestFetchThatFailsOrBringsTheWrongThingLeavesNothingToUse(t *testing.T) {
	broken := errors.New("broken")
	for name, fetch := range map[string]func(context.Context, string, string, func(string)) error{
		"fails half way": func(_ context.Context, _, result string, _ func(string)) error {
			return errors.Join(broken, os.WriteFile(filepath.Join(result, "engine"), nil, 0o600))
		},
		"brings another file": func(_ context.Context, _, result string, _ func(string)) error {
			return os.WriteFile(filepath.Join(result, "other"), nil, 0o600)
		},
	} {
		cache, pkg := t.TempDir(), engine.SmallPackage(fetch)
		if _, err := pkg.Fetch(t.Context(), cache, engine.FetchOptions{}); err == nil {
			t.Errorf("%s: no error", name)
		}
		if state := pkg.Status(t.Context(), cache).State; state != engine.Missing {
			t.Errorf("%s: the engine is %s", name, state)
		}
	}
}
