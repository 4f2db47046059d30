package engine

import (
	"context"
	"time"
)

// FolderIsFree returns nil as soon as no process holds the folder's lock, an error if one still does after patience.
func FolderIsFree(dir string, patience time.Duration) error {
	lock, err := lockFolder(context.Background(), dir, patience)
	if err != nil {
		return err
	}
	return lock.Close()
}

// LeaveAtEOF closes the stdin of the child that runs now and returns how the child ended.
func (s *server) LeaveAtEOF() error {
	p, _, _ := s.get()
	if err := p.stdin.Close(); err != nil {
		return err
	}
	<-p.done
	return p.err
}

// SmallPackage returns an engine of one file, named "engine", that fetch brings: for tests of fetching itself.
func SmallPackage(fetch func(ctx context.Context, partial, result string, stage func(string)) error) *Package {
	return &Package{
		Name: "small", Title: "Small 1.0", Version: "1.0", Flag: "--small", FetchSize: 3_000_000, DiskSize: 7_000_000,
		hash: func() string { return "5ba11" }, supported: func() bool { return true },
		runtime: needNothing, fetcher: needNothing, entry: "engine",
		fetch: func(ctx context.Context, f *fetching) error {
			return fetch(ctx, f.partial, f.result, func(stage string) { f.report(stage, 0, 0) })
		},
	}
}

// NowhereSupported makes a package one that has no build for this platform.
func NowhereSupported(p *Package) *Package {
	p.supported = func() bool { return false }
	return p
}
