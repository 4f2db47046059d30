package engine_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/internal/engine"
	"github.com/tributary-es/tributary/internal/testenv"
)

func TestStatusSaysWhatToDo(t *testing.T) {
	for _, pkg := range engine.Catalogue() {
		cache := testenv.Ensure(t, pkg.Name)
		if status := pkg.Status(t.Context(), cache); status.State != engine.Present || status.Hint != "" || status.Err() != nil {
			t.Errorf("%s, fetched: %+v", pkg.Name, status)
		}
		if len(pkg.SHA256()) != 64 {
			t.Errorf("%s: pinned hash %q", pkg.Name, pkg.SHA256())
		}
		if engine.Lookup(pkg.Name) != pkg {
			t.Errorf("%s cannot be looked up", pkg.Name)
		}
	}
	if engine.Lookup("oracle") != nil {
		t.Error("an engine that is not in the catalogue was found")
	}
}

// onlyPrograms makes PATH a folder with links to the given programs alone.
func onlyPrograms(t *testing.T, programs ...string) {
	t.Helper()
	dir := t.TempDir()
	for _, program := range programs {
		path, err := exec.LookPath(program)
		if err != nil {
			testenv.Missing(t, program, "install it")
		}
		if err := os.Symlink(path, filepath.Join(dir, program)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

// program puts a shell script of the given name on PATH.
func program(t *testing.T, name, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(os.Getenv("PATH"), name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
}

func TestStatusOfAnEngineThatIsNotThere(t *testing.T) {
	tests := []struct {
		name, engine string
		programs     map[string]string
		want         engine.State
		hint         []string
	}{
		{"no python", "clickhouse", nil, engine.RuntimeMissing, []string{"install Python", "--clickhouse"}},
		{"old python", "clickhouse", map[string]string{"python3": "printf '3\\n6\\n/x\\n'"}, engine.RuntimeMissing, []string{"3.6", "3.9"}},
		{
			"no pip", "clickhouse",
			map[string]string{"python3": `case "$*" in *pip*) exit 1;; esac; printf '3\n11\n'; echo "$0"`},
			engine.RuntimeMissing,
			[]string{"install pip", "--clickhouse"},
		},
		{
			"python and pip", "clickhouse",
			map[string]string{"python3": `printf '3\n11\n'; echo "$0"`},
			engine.Missing,
			[]string{"tributary setup clickhouse", "182 MB"},
		},
		{"no python for redis", "redis", nil, engine.RuntimeMissing, []string{"install Python", "--redis"}},
		{"redis too old", "redis", map[string]string{"redis-server": "echo 'Redis server v=6.2.1 sha=0'"}, engine.RuntimeMissing, []string{"install Python"}},
		{"redis on PATH", "redis", map[string]string{"redis-server": "echo 'Redis server v=7.0.15 sha=0'"}, engine.Present, nil},
		{"no java", "kafka", nil, engine.RuntimeMissing, []string{"install Java 17", "--kafka"}},
		{"old java", "kafka", map[string]string{"java": `echo 'openjdk version "11.0.2"' >&2`}, engine.RuntimeMissing, []string{"java found is 11"}},
		{"no maven", "kafka", map[string]string{"java": `echo 'openjdk version "21"' >&2`}, engine.RuntimeMissing, []string{"install Maven", "--kafka"}},
		{
			"java and maven", "kafka",
			map[string]string{"java": `echo 'openjdk version "21.0.1"' >&2`, "mvn": ""},
			engine.Missing,
			[]string{"tributary setup kafka", "45 MB"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			onlyPrograms(t)
			for name, script := range test.programs {
				program(t, name, script)
			}
			status := engine.Lookup(test.engine).Status(t.Context(), t.TempDir())
			if status.State != test.want {
				t.Fatalf("it is %s (%s), want %s", status.State, status.Hint, test.want)
			}
			for _, want := range test.hint {
				if !strings.Contains(status.Hint, want) {
					t.Errorf("the hint %q does not say %q", status.Hint, want)
				}
			}
			if strings.Contains(status.Hint, "\n") {
				t.Errorf("the hint %q is more than one line", status.Hint)
			}
			if again, missing := engine.IsMissing(status.Err()); missing != (test.want != engine.Present) || (missing && again != status) {
				t.Errorf("its error gives %+v, %v", again, missing)
			}
		})
	}
}

func TestStartWithoutTheEngineSaysSo(t *testing.T) {
	onlyPrograms(t)
	_, err := engine.StartClickHouse(t.Context(), engine.ClickHouseOptions{Dir: t.TempDir(), Cache: t.TempDir()})
	if status, missing := engine.IsMissing(err); !missing || status.State != engine.RuntimeMissing {
		t.Errorf("StartClickHouse: %v", err)
	}
	_, err = engine.StartKafka(t.Context(), engine.KafkaOptions{Dir: t.TempDir(), Cache: t.TempDir()})
	if status, missing := engine.IsMissing(err); !missing || status.State != engine.RuntimeMissing {
		t.Errorf("StartKafka: %v", err)
	}
}

func TestUnsupportedPlatform(t *testing.T) {
	pkg := engine.NowhereSupported(engine.SmallPackage(nil))
	status, err := pkg.Fetch(context.Background(), t.TempDir(), engine.FetchOptions{})
	if status.State != engine.Unsupported || !strings.Contains(status.Hint, "--small") {
		t.Errorf("status %+v", status)
	}
	if _, missing := engine.IsMissing(err); !missing {
		t.Errorf("Fetch gave %v", err)
	}
}

func TestCacheDir(t *testing.T) {
	t.Setenv("TRIBUTARY_ENGINES", "/somewhere/else")
	if dir, err := engine.CacheDir(); dir != "/somewhere/else" || err != nil {
		t.Errorf("with TRIBUTARY_ENGINES: %q, %v", dir, err)
	}
	t.Setenv("TRIBUTARY_ENGINES", "")
	if dir, err := engine.CacheDir(); !strings.HasSuffix(dir, filepath.Join("tributary", "engines")) || err != nil {
		t.Errorf("without: %q, %v", dir, err)
	}
}
