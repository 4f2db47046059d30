package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var s settings
	flag.DurationVar(&s.duration, "duration", 5*time.Second, "of each work")
	flag.IntVar(&s.size, "size", 512, "bytes of a payload")
	flag.IntVar(&s.streams, "streams", 100_000, "streams that the appends go round over")
	flag.IntVar(&s.loaded, "loaded", 50_000, "streams of 20 events that the loads choose from")
	names := flag.String("peers", "", "names, separated by commas; empty means all")
	only := flag.String("works", "", "names, separated by commas; empty means all")
	dir := flag.String("dir", "", "where the data go, below a folder that is removed afterwards; empty means the folder for temporary files")
	asJSON := flag.Bool("json", false, "print one JSON object a row on standard output instead of the table")
	lag := flag.Bool("lag", false, "measure how long events take between two sites, beside MirrorMaker 2, in place of the works")
	rate := flag.Float64("rate", 2000, "with -lag: events a second")
	serve := flag.String("serve", "", "be the server of a peer that is embedded (used by the program itself)")
	port := flag.Int("port", 0, "for -serve")
	build := flag.String("build", "", "build a peer from its sources: umadb")
	flag.Parse()
	switch {
	case *serve == "nats":
		return serveNATS(ctx, *dir, *port)
	case *serve == "etcd":
		return serveEtcd(ctx, *dir, *port)
	case *build == "umadb":
		return buildUmaDB(ctx)
	case *serve != "" || *build != "" || flag.NArg() > 0:
		return errors.New("unknown arguments, see -help")
	}
	peers, err := chosen(*names)
	if err != nil {
		return err
	}
	if s.duration < 100*time.Millisecond || s.size < 1 || s.streams < 1 || s.loaded < 1 || *rate < 1 {
		return errors.New("-duration is at least 100 ms, the other numbers are at least 1")
	}
	wanted, err := chosenWorks(*only)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(*dir, "peers-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(scratch)
	if err := os.Chmod(scratch, 0o755); err != nil { // a peer may run under another account
		return fmt.Errorf("open the folder: %w", err)
	}
	var rows []Row
	if *lag {
		rows, err = measureLag(ctx, scratch, s, *rate)
	} else {
		rows, err = measure(ctx, scratch, peers, wanted, s)
	}
	switch {
	case !*asJSON && *lag:
		fmt.Print(lagTable(rows))
		return err
	case !*asJSON:
		printTable(os.Stdout, rows, wanted)
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for i := range rows {
		if err := out.Encode(&rows[i]); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return err
}

func chosenWorks(names string) ([]Work, error) {
	if names == "" {
		return works, nil
	}
	var out []Work
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(works, func(w Work) bool { return w.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("work %q is unknown", name)
		}
		out = append(out, works[i])
	}
	return out, nil
}

// measure does every work on every peer. A peer that fails is said so and left; the others go on.
func measure(ctx context.Context, scratch string, peers []Kind, wanted []Work, s settings) ([]Row, error) {
	var rows []Row
	var failed []error
	for _, kind := range peers {
		dir := filepath.Join(scratch, kind.Name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return rows, fmt.Errorf("make a folder: %w", err)
		}
		got, err := measurePeer(ctx, dir, kind, wanted, s)
		rows = append(rows, got...)
		if errors.Is(err, errMissing) {
			fmt.Fprintf(os.Stderr, "%s is left out, %v\n", kind.Name, err)
		} else if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", kind.Name, err))
		}
		if err := os.RemoveAll(dir); err != nil {
			return rows, fmt.Errorf("remove data: %w", err)
		}
	}
	return rows, errors.Join(failed...)
}

func measurePeer(ctx context.Context, dir string, kind Kind, wanted []Work, s settings) (rows []Row, err error) {
	peer, version, err := kind.Start(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, peer.Close()) }()
	for _, w := range wanted {
		if why, lacks := kind.Lacks[w.Name]; lacks {
			fmt.Fprintf(os.Stderr, "%s cannot do %s: %s\n", kind.Name, w.Name, why)
			continue
		}
		figures, err := w.run(ctx, peer, w, s)
		if err != nil {
			return rows, fmt.Errorf("%s: %w", w.Name, err)
		}
		row := Row{Peer: kind.Name, Version: version, Check: kind.Check, Work: w.Name, Clients: w.Clients, Batch: w.Batch, Size: s.size, Figures: figures}
		fmt.Fprintf(os.Stderr, "%s\n", row)
		rows = append(rows, row)
	}
	return rows, nil
}
