package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every single wait of a test. It is generous, for it only decides how long a failure takes.
const patience = 5 * time.Minute

// program is one run of a program.
type program struct {
	cmd   *exec.Cmd
	lines chan string   // what it says on stdout, line by line; closed at its end
	ended chan struct{} // closed when it is gone

	mu     sync.Mutex // guards what follows
	stdout bytes.Buffer
	stderr bytes.Buffer
}

// start runs a program with arguments. What is still running when the test ends is killed; what it said is shown when the
// test has failed.
func start(t *testing.T, path string, args ...string) *program {
	t.Helper()
	return launch(t, exec.Command(path, args...))
}

func launch(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	lookAtSources.Do(func() {
		if err := lookAt(root); err != nil {
			t.Fatal(err)
		}
	})
	p := &program{cmd: cmd, lines: make(chan string, 1<<16), ended: make(chan struct{})}
	said, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = guarded{p, &p.stderr}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.follow(said)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said on stderr:\n%s", strings.Join(p.cmd.Args, " "), tail(p.errText(), 4000))
		}
	})
	return p
}

// lookAtSources tells go test that the result depends on the program's sources, which these tests do not import: it would
// be taken from the cache otherwise. It counts from the first test on only, so that TestMain is no place for it.
var lookAtSources sync.Once

// lookAt lists the folders below dir that hold sources.
func lookAt(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if name := e.Name(); e.IsDir() && name[0] != '.' && name != "bin" && name != "dist" && name != "data" {
			err = errors.Join(err, lookAt(filepath.Join(dir, name)))
		}
	}
	return err
}

// guarded writes under the program's lock.
type guarded struct {
	p  *program
	to *bytes.Buffer
}

func (g guarded) Write(b []byte) (int, error) {
	g.p.mu.Lock()
	defer g.p.mu.Unlock()
	return g.to.Write(b)
}

// follow takes what the program says until it is gone.
func (p *program) follow(said io.Reader) {
	defer close(p.ended)
	defer close(p.lines)
	for r := bufio.NewReaderSize(said, 1<<20); ; {
		line, err := r.ReadString('\n')
		if line != "" {
			p.mu.Lock()
			p.stdout.WriteString(line)
			p.mu.Unlock()
			select {
			case p.lines <- line:
			default: // nobody reads line by line
			}
		}
		if err != nil {
			break
		}
	}
	_ = p.cmd.Wait() // the code is read from ProcessState
}

func (p *program) errText() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// kill ends the program as kill -9 does and returns when it is gone.
func (p *program) kill() {
	_ = p.cmd.Process.Kill() // it may be gone already
	<-p.ended
}

// answer is what a program that has ended left.
type answer struct {
	code           int
	stdout, stderr string
}

// wait returns when the program has ended by itself.
func (p *program) wait(t *testing.T) answer {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.kill()
		t.Fatalf("%s did not end within %s; stderr:\n%s", strings.Join(p.cmd.Args, " "), patience, tail(p.errText(), 6000))
	}
	return answer{code: p.cmd.ProcessState.ExitCode(), stdout: p.stdout.String(), stderr: p.errText()}
}

// stop asks the program to end, as Ctrl-C and process managers do, and wants it to end well.
func (p *program) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("%s: signal: %v", p.cmd.Args[0], err)
	}
	if a := p.wait(t); a.code != 0 {
		t.Fatalf("%s ended with code %d after SIGTERM; stderr:\n%s", strings.Join(p.cmd.Args, " "), a.code, tail(a.stderr, 6000))
	}
}

// line returns the next line of stdout.
func (p *program) line(t *testing.T) string {
	t.Helper()
	select {
	case line, ok := <-p.lines:
		if !ok {
			a := p.wait(t)
			t.Fatalf("%s ended with code %d, and nothing was to be read; stderr:\n%s", strings.Join(p.cmd.Args, " "), a.code, tail(a.stderr, 6000))
		}
		return line
	case <-time.After(patience):
		t.Fatalf("%s said nothing for %s; stderr:\n%s", strings.Join(p.cmd.Args, " "), patience, tail(p.errText(), 6000))
	}
	return ""
}

// tributary runs the program under test to its end.
func tributary(t *testing.T, args ...string) answer {
	t.Helper()
	return start(t, built, args...).wait(t)
}

// done runs the program under test to its end, wants exit code 0, and returns what it said on stdout.
func done(t *testing.T, args ...string) string {
	t.Helper()
	a := tributary(t, args...)
	if a.code != 0 {
		t.Fatalf("tributary %s: exit code %d; stderr:\n%s", strings.Join(args, " "), a.code, tail(a.stderr, 6000))
	}
	return a.stdout
}

// decoded decodes a JSON object strictly from text that holds nothing else.
func decoded[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decode %s: %v", tail(text, 2000), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("more than one JSON value: %s", tail(text, 2000))
	}
	return v
}

func tail(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return "…" + text[len(text)-n:]
}

// processesOf returns the commands of running processes whose arguments or working folder name dir.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		out, err := exec.Command("ps", "-A", "-o", "pid=,args=").Output()
		if err != nil {
			t.Fatalf("list processes: %v", err)
		}
		var found []string
		for _, line := range strings.Split(string(out), "\n") {
			if strings.Contains(line, dir) {
				found = append(found, line)
			}
		}
		return found
	}
	var found []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		args, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil || len(args) == 0 { // gone meanwhile, or a zombie
			continue
		}
		text := strings.ReplaceAll(string(args), "\x00", " ")
		cwd, _ := os.Readlink(filepath.Join("/proc", e.Name(), "cwd"))
		if strings.Contains(text, dir) || strings.HasPrefix(cwd, dir) {
			found = append(found, e.Name()+" "+text)
		}
	}
	return found
}

// eventually wants a condition to hold within the patience; what says what is waited for.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for giveUp := time.After(patience); !holds(); {
		select {
		case <-tick.C:
		case <-giveUp:
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// nobodyLeft waits until no process works on a folder any more: the ClickHouse of a killed server leaves by itself.
func nobodyLeft(t *testing.T, dir string) {
	t.Helper()
	eventually(t, "processes of "+dir+" are gone", func() bool { return len(processesOf(t, dir)) == 0 })
}
