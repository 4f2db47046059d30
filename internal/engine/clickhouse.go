package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// The library finds a few small ones beside it by relative path: the wheel is unpacked whole.
const clickHouseLibrary = "chdb/_chdb.abi3.so"

var clickHouseWheel = wheel{
	requirement: "chdb-core==26.9.0",
	hashes: map[string]string{
		"linux/amd64":  "707e2ec3fe0f7953bac97942eaeb7a1ed1d66b1e56ecef3f0aa2130f61f6e735",
		"linux/arm64":  "46148d3fc1edd6d6f701922be0f18e2aa6e60349e418b430e69bbb87ab6b95a9",
		"darwin/amd64": "0d24d78969f7ab41d5303c148b7cf64880fa017507bbed9c9b8799b29c26723f",
		"darwin/arm64": "bc2d2baedc038ba04be59d97d9ded4f87a3fbe05c3820f93d90e508b1e541ad0",
	},
}

var clickHousePackage = Package{
	Name: "clickhouse", Title: "ClickHouse 26.9.0", Version: "26.9.0",
	Needs: "python3 with pip", Flag: "--clickhouse",
	FetchSize: 181_534_334, DiskSize: 559_600_000,
	perPlatform: true,
	hash:        clickHouseWheel.hash, supported: clickHouseWheel.supported,
	runtime: needPython, fetcher: needPip, fetch: clickHouseWheel.fetch,
	entry: clickHouseLibrary,
}

// ClickHouseOptions are the choices for a ClickHouse child; only Dir is required.
type ClickHouseOptions struct {
	// Dir keeps everything of this server: data, password, configuration, log. One process at a time.
	Dir string
	// Cache is the folder of fetched engines; "" means CacheDir.
	Cache string
	// MaxMemory bounds what the engine allots itself, in bytes; 0 means 1.5 GB. A query beyond it fails.
	MaxMemory int64
	// StartTimeout bounds one start, from nothing to both listeners; 0 means 60 s.
	StartTimeout time.Duration
	// Logger gets starts and unexpected ends; nil means none.
	Logger *slog.Logger
}

// ClickHouse is the ClickHouse engine as a child process, with the native and the HTTP listener on loopback. Every
// method may be called from any goroutine.
//
// What was inserted and acknowledged survives a crash of the process, not a loss of power: the engine does not sync.
type ClickHouse struct {
	*server
	opts ClickHouseOptions
	dir  string

	mu        sync.Mutex // guards the fields below
	tcp, http int        // 0 before the first start
	password  string
}

// StartClickHouse starts the engine on opts.Dir and returns when both listeners are open.
//
// Errors: a *MissingError if the engine has not been fetched or cannot run here, an *InUseError if another process
// works on the folder. The caller must Close it; to have it started again when it dies, call Run.
func StartClickHouse(ctx context.Context, opts ClickHouseOptions) (*ClickHouse, error) {
	if opts.Dir == "" {
		return nil, errors.New("start clickhouse: no folder given")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start clickhouse: %w", err)
	}
	if opts.MaxMemory <= 0 {
		opts.MaxMemory = 1_500_000_000
	}
	if opts.StartTimeout <= 0 {
		opts.StartTimeout = time.Minute
	}
	c := &ClickHouse{server: newServer("clickhouse", opts.Logger, 5*time.Second), opts: opts, dir: dir}
	c.launch = c.launchChild
	c.tcp, c.http = readPorts(filepath.Join(dir, "ports"))
	if err := c.start(ctx); err != nil {
		c.finish()
		return nil, err
	}
	return c, nil
}

// TCPAddr returns host:port of the native protocol. It stays the same over restarts unless somebody took the port
// meanwhile: a client that asks at every dial follows even then.
func (c *ClickHouse) TCPAddr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return loopback(c.tcp)
}

// HTTPAddr returns host:port of the HTTP protocol; what is said of TCPAddr holds here too.
func (c *ClickHouse) HTTPAddr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return loopback(c.http)
}

// User returns the name of the application's user. It may do everything inside the engine and reach nothing outside.
func (c *ClickHouse) User() string { return clickHouseUser }

// Password returns the application user's password, made at the first start and kept in the folder.
func (c *ClickHouse) Password() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.password
}

// Dir returns the server's folder.
func (c *ClickHouse) Dir() string { return c.dir }

func (c *ClickHouse) launchChild(ctx context.Context) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.StartTimeout)
	defer cancel()
	folder, err := clickHousePackage.use(ctx, c.opts.Cache)
	if err != nil {
		return nil, err
	}
	python, err := findPython(ctx)
	if err != nil {
		return nil, err
	}
	lock, err := lockFolder(ctx, c.dir, 3*time.Second)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	password, err := keepPassword(c.dir)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.password = password
	c.mu.Unlock()
	for attempt := 1; ; attempt++ {
		p, err := c.launchOnPorts(ctx, python, folder, lock)
		if err == nil || !errors.Is(err, errPortTaken) || attempt == 3 {
			return p, err
		}
	}
}

func (c *ClickHouse) launchOnPorts(ctx context.Context, python, folder string, lock *os.File) (*process, error) {
	tcp, err := c.choosePort(&c.tcp)
	if err != nil {
		return nil, err
	}
	http, err := c.choosePort(&c.http)
	if err != nil {
		return nil, err
	}
	if err := writeClickHouseFiles(c.dir, c.Password(), tcp, http, c.opts.MaxMemory); err != nil {
		return nil, err
	}
	sign := filepath.Join(c.dir, "ports")
	if err := os.Remove(sign); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the last run's ports: %w", err)
	}
	library := filepath.Join(folder, filepath.FromSlash(clickHouseLibrary))
	return launch(ctx, launching{
		spec: processSpec{
			path: python, args: []string{"-I", "-S", filepath.Join(c.dir, "child.py"), library, c.dir},
			dir: c.dir, lock: lock, leavesAtEOF: true,
		},
		log: filepath.Join(c.dir, "log"),
		ready: func(context.Context, func() []byte) bool {
			nativePort, httpPort := readPorts(sign)
			return nativePort == tcp && httpPort == http
		},
	})
}

// choosePort keeps the port if it is free and replaces it otherwise.
func (c *ClickHouse) choosePort(port *int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *port == 0 || !portIsFree(*port) {
		fresh, err := freePort()
		if err != nil {
			return 0, err
		}
		*port = fresh
	}
	return *port, nil
}

// readPorts reads the file that the child writes when it is ready; zeros if it is not there or not whole.
func readPorts(path string) (tcp, http int) {
	text, err := os.ReadFile(path)
	if err != nil || !strings.HasSuffix(string(text), "\n") {
		return 0, 0
	}
	if _, err := fmt.Sscanf(string(text), "%d\t%d\n", &tcp, &http); err != nil {
		return 0, 0
	}
	return tcp, http
}
