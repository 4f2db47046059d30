package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// Package is one engine of the catalogue: what it is, how large it is and how it gets here. Everything about it is
// pinned; what arrives is compared with the pinned SHA-256 before anything of it is used.
type Package struct {
	Name      string // "clickhouse", "redis" or "kafka"
	Title     string // what people call it, with the version
	Version   string
	Needs     string // the programs it takes to fetch and to run it
	Flag      string // the flag of the server that names one's own instead
	FetchSize int64  // bytes that come over the network, about
	DiskSize  int64  // bytes it takes in the cache, about

	perPlatform bool // the files differ between platforms
	hash        func() string
	supported   func() bool
	runtime     func(ctx context.Context) error // what it takes to run it
	fetcher     func(ctx context.Context) error // what it takes, beyond that, to fetch it
	fetch       func(ctx context.Context, f *fetching) error
	onPath      func(ctx context.Context) string // a good enough program that is installed already, or ""; nil: never
	entry       string                           // a file below the folder that is there when the engine is
}

// Catalogue returns the engines Tributary knows how to get, in the order in which people miss them.
func Catalogue() []*Package {
	return []*Package{&clickHousePackage, &redisPackage, &kafkaPackage}
}

// Lookup finds an engine by name, nil if there is none of that name. It knows PostgreSQL too, which only tests use.
func Lookup(name string) *Package {
	for _, p := range append(Catalogue(), &postgresPackage) {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// SHA256 returns the pinned hash of what is fetched for this platform, in hex; "" where the engine does not exist for it.
// For an engine of many files it is the hash of the list of their hashes.
func (p *Package) SHA256() string { return p.hash() }

// State says how far an engine is from being usable here.
type State string

// The states of an engine.
const (
	Present        State = "present"         // fetched, and its runtime is here
	Missing        State = "missing"         // can be fetched
	RuntimeMissing State = "runtime missing" // something must be installed first
	Unsupported    State = "unsupported"     // does not exist for this platform
)

// Status is what is known about an engine on this machine.
type Status struct {
	Package *Package
	State   State
	Path    string // if Present: the engine's folder, or the installed program that serves as well
	Hint    string // one line that says what to do, "" if Present
}

// Err returns nil for a usable engine, else a *MissingError.
func (s Status) Err() error {
	if s.State == Present {
		return nil
	}
	return &MissingError{Status: s}
}

// MissingError says that an engine cannot be used here now, and what to do about it.
type MissingError struct{ Status Status }

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s is %s: %s", e.Status.Package.Title, e.Status.State, e.Status.Hint)
}

// CacheDir returns the folder that keeps fetched engines: the one TRIBUTARY_ENGINES names, else tributary/engines in
// the user's cache folder.
func CacheDir() (string, error) {
	if dir := os.Getenv("TRIBUTARY_ENGINES"); dir != "" {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return "", fmt.Errorf("resolve TRIBUTARY_ENGINES: %w", err)
		}
		return dir, nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the user's cache folder (TRIBUTARY_ENGINES may name one): %w", err)
	}
	return filepath.Join(base, "tributary", "engines"), nil
}

// folder returns where the engine is or will be. The name carries version and platform, so a cache can hold several.
func (p *Package) folder(cache string) string {
	name := p.Name + "-" + p.Version
	if p.perPlatform {
		name += "-" + runtime.GOOS + "-" + runtime.GOARCH
	}
	return filepath.Join(cache, name)
}

// Status says whether the engine can be used from the cache folder, and if not, what to do. It starts the runtime's
// version command, which takes some tens of milliseconds, and touches no network.
func (p *Package) Status(ctx context.Context, cache string) Status {
	if !p.supported() {
		return Status{Package: p, State: Unsupported, Hint: fmt.Sprintf(
			"there is no build for %s/%s; give a server of your own with %s", runtime.GOOS, runtime.GOARCH, p.Flag)}
	}
	if err := p.runtime(ctx); err != nil {
		return Status{Package: p, State: RuntimeMissing, Hint: p.orOwn(err)}
	}
	if dir, ok := p.present(cache); ok {
		return Status{Package: p, State: Present, Path: dir}
	}
	if p.onPath != nil {
		if program := p.onPath(ctx); program != "" {
			return Status{Package: p, State: Present, Path: program}
		}
	}
	if err := p.fetcher(ctx); err != nil {
		return Status{Package: p, State: RuntimeMissing, Hint: p.orOwn(err)}
	}
	return Status{Package: p, State: Missing, Hint: fmt.Sprintf(
		"run `tributary setup %s` (fetches %s), or give a server of your own with %s", p.Name, megabytes(p.FetchSize), p.Flag)}
}

func (p *Package) present(cache string) (dir string, ok bool) {
	dir = p.folder(cache)
	_, err := os.Stat(filepath.Join(dir, filepath.FromSlash(p.entry)))
	return dir, err == nil
}

func (p *Package) orOwn(err error) string {
	return fmt.Sprintf("%v; or give a server of your own with %s", err, p.Flag)
}

// use returns the engine's folder if it can be used now, else a *MissingError. An empty cache means CacheDir.
func (p *Package) use(ctx context.Context, cache string) (string, error) {
	if cache == "" {
		dir, err := CacheDir()
		if err != nil {
			return "", err
		}
		cache = dir
	}
	status := p.Status(ctx, cache)
	return status.Path, status.Err()
}

// IsMissing reports whether err says that an engine is not usable here, and returns its status.
func IsMissing(err error) (Status, bool) {
	var missing *MissingError
	if errors.As(err, &missing) {
		return missing.Status, true
	}
	return Status{}, false
}

func megabytes(n int64) string { return fmt.Sprintf("%d MB", (n+500_000)/1_000_000) }
