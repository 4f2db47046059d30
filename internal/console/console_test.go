package console_test

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/internal/console"
)

func get(t *testing.T, path string) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	console.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
	return w.Result()
}

func TestEveryFileIsServedWithItsTypeAndAStrictPolicy(t *testing.T) {
	types := map[string]string{".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
	entries, err := os.ReadDir("page")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		path := "/console/" + e.Name()
		if e.Name() == "index.html" {
			path = "/"
		}
		resp := get(t, path)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
		ext := e.Name()[strings.LastIndexByte(e.Name(), '.'):]
		if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, types[ext]) || types[ext] == "" {
			t.Errorf("%s: content type %q, want %q", path, got, types[ext])
		}
		policy := resp.Header.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
			t.Errorf("%s: policy %q", path, policy)
		}
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	for _, path := range []string{"/console/", "/console/index.html", "/console/../console.go", "/console/nothing.js", "/other"} {
		resp := get(t, path)
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: status %d, want 404", path, resp.StatusCode)
		}
	}
}

// The policy forbids inline code and styles and other hosts, so the page must have none, and what it names must be there.
func TestThePageKeepsItsPolicyAndNamesOnlyWhatIsThere(t *testing.T) {
	files := os.DirFS("page")
	named := regexp.MustCompile(`["'](/console/[^"']*)["']`)
	forbidden := regexp.MustCompile(`https?://|\sstyle=|\son[a-z]+=["']|<script>|<style|\beval\(|innerHTML|setAttribute\("style"`)
	allowed := strings.NewReplacer("http://www.w3.org/2000/svg", "") // a name, not an address
	ids := map[string]bool{}
	index, err := fs.ReadFile(files, "index.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`id="([^"]+)"`).FindAllStringSubmatch(string(index), -1) {
		if ids[m[1]] {
			t.Errorf("id %q stands twice in the page", m[1])
		}
		ids[m[1]] = true
	}
	used := regexp.MustCompile(`\b(?:find|text)\("([^"]+)"`)
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		body := string(b)
		if m := forbidden.FindString(allowed.Replace(body)); m != "" {
			t.Errorf("%s: %q is against the page's own policy", name, m)
		}
		for _, m := range named.FindAllStringSubmatch(body, -1) {
			if _, err := fs.Stat(files, strings.TrimPrefix(m[1], "/console/")); err != nil {
				t.Errorf("%s names %s: %v", name, m[1], err)
			}
		}
		for _, m := range used.FindAllStringSubmatch(body, -1) {
			if !ids[m[1]] {
				t.Errorf("%s uses the element %q, which the page does not have", name, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
