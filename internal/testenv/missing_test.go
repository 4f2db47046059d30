package testenv_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/internal/testenv"
)

// verdict records how Missing ended a test. The methods that end it panic with the verdict, as the real ones never return.
type verdict struct {
	testing.TB
	failed, skipped string
}

func (v *verdict) Helper()      {}
func (v *verdict) Name() string { return "TestSomething" }
func (v *verdict) Fatalf(format string, _ ...any) {
	v.failed = format
	panic(v)
}

func (v *verdict) Skip(args ...any) {
	v.skipped, _ = args[0].(string)
	panic(v)
}

func missing(t *testing.T) *verdict {
	t.Helper()
	v := &verdict{TB: t}
	func() {
		defer func() {
			if r := recover(); r != v {
				t.Fatalf("Missing did not end the test but gave %v", r)
			}
		}()
		testenv.Missing(v, "Java", "install it")
	}()
	return v
}

func TestMissingSkipsAndTakesNote(t *testing.T) {
	notes := filepath.Join(t.TempDir(), "skips")
	t.Setenv("CI", "")
	t.Setenv("TRIBUTARY_SKIPS", notes)
	v := missing(t)
	if v.failed != "" || !strings.Contains(v.skipped, "Java is missing: install it") {
		t.Errorf("failed %q, skipped %q", v.failed, v.skipped)
	}
	text, err := os.ReadFile(notes)
	if err != nil || string(text) != v.skipped+"\n" {
		t.Errorf("noted %q, %v", text, err)
	}
}

func TestMissingFailsUnderCI(t *testing.T) {
	t.Setenv("CI", "true")
	if v := missing(t); v.failed == "" || v.skipped != "" {
		t.Errorf("failed %q, skipped %q", v.failed, v.skipped)
	}
}
