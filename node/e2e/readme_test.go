package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeExamples runs the README's examples, word for word but for the ports, and the position that a receipt gives.
func TestReadmeExamples(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	tools := t.TempDir()
	if _, err := build(filepath.Join(root, "internal/tools"), tools, "github.com/fullstorydev/grpcurl/cmd/grpcurl"); err != nil {
		t.Fatal(err)
	}
	r := readme{tools: tools, text: string(text), s: serve(t, t.TempDir())}
	r.s.caughtUp(t)

	http := r.run(t, "http")
	for _, want := range []string{`"total":"8.5"`, `"stock_code":"MUG-1","on_hand"`, `"key":"France","description":"","net":"8.5"`, `"stream":"default/order/A-1"`, `order.created.v1`} {
		if !strings.Contains(http, want) {
			t.Errorf("the HTTP examples do not say %s:\n%s", want, http)
		}
	}
	grpc := r.run(t, "grpc")
	for _, want := range []string{`"customerId": "17850"`, `"type": "inventory.received.v1"`} {
		if !strings.Contains(grpc, want) {
			t.Errorf("the gRPC examples do not say %s:\n%s", want, grpc)
		}
	}
}

// TestStoreExample runs the walk through the store API of docs/api.md on a log that has events already.
func TestStoreExample(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/api.md"))
	if err != nil {
		t.Fatal(err)
	}
	r := readme{text: string(text), s: serve(t, t.TempDir(), "--clickhouse", "off")}
	if code, answer := r.s.tries(t, "/v1/stock/MUG-1/receive", `{"quantity": 10}`); code != 200 {
		t.Fatalf("a command before the example: %d, %s", code, answer)
	}
	said := r.run(t, "store")
	for _, want := range []string{`"streams":[{"category":"account","id":"7","first":"1","last":"1"}]`, `"type":"account.opened.v1"`, `"first":"2","last":"2"`, `"receipt":{"request_id":"pay-1"`, `"type":"account.paid_in.v1"`, `"durable":"1-`} {
		if !strings.Contains(said, want) {
			t.Errorf("the example does not say %s:\n%s", want, said)
		}
	}
}

type readme struct {
	tools string // folder with grpcurl
	text  string
	s     *serving
}

var (
	shownPosition   = regexp.MustCompile(`# \{"(?:id|request_id)":.*"position": ?"([^"]+)"`)
	receiptPosition = regexp.MustCompile(`"(?:stream": ?"default/order/|request_id": ?").*"position": ?"([^"]+)"`)
)

// run runs the block of a name, paragraph by paragraph, and returns what it says. A command that fails, and an answer over
// HTTP that is an error, end it.
func (r *readme) run(t *testing.T, name string) string {
	t.Helper()
	_, block, ok := strings.Cut(r.text, "<!-- example:"+name+" -->\n```sh\n")
	block, _, closed := strings.Cut(block, "\n```")
	if !ok || !closed {
		t.Fatalf("the README has no example %q", name)
	}
	block = strings.NewReplacer("127.0.0.1:8080", r.s.http, "127.0.0.1:9090", r.s.grpc).Replace(block)
	var said strings.Builder
	position := strings.NewReplacer()
	for _, paragraph := range strings.Split(block, "\n\n") {
		paragraph = position.Replace(paragraph)
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", `curl() { command curl --fail-with-body "$@"; echo; }`+"\n"+paragraph)
		cmd.Env = append(os.Environ(), "PATH="+r.tools+string(os.PathListSeparator)+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s\n%v\n%s", paragraph, err, out)
		}
		said.Write(out)
		// The position that the README shows stands for the one that the receipt gives.
		if shown := shownPosition.FindStringSubmatch(paragraph); shown != nil {
			receipt := receiptPosition.FindStringSubmatch(string(out))
			if receipt == nil {
				t.Fatalf("%s\ngives no receipt: %s", paragraph, out)
			}
			position = strings.NewReplacer(`"`+shown[1]+`"`, `"`+receipt[1]+`"`, " "+shown[1], " "+receipt[1])
		}
	}
	return said.String()
}
