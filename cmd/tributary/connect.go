package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/node"
)

// engineFlags say what a node works with.
type engineFlags struct {
	Site       string `help:"Name of the site." placeholder:"NAME"`
	Kafka      string `help:"Kafka: embedded, off, or brokers HOST:PORT,…" placeholder:"ADDR"`
	Redis      string `help:"Redis: embedded, or HOST:PORT, or a redis:// URL." placeholder:"ADDR"`
	ClickHouse string `name:"clickhouse" help:"ClickHouse: embedded, off, or a clickhouse:// URL." placeholder:"URL"`
	Source     string `help:"Where projections read from: store or kafka. Kept for the next time." placeholder:"SOURCE"`
	Feed       string `help:"auto: the feed, a topic with the events of all sites, is written where there are others and projections read from Kafka. on: always, for programs of your own. Kept for the next time." placeholder:"auto|on"`
	keyFlags
}

func (f engineFlags) config(g *globals, data string) node.Config {
	config := node.Config{
		Data: data, Site: f.Site, Kafka: f.Kafka, Redis: f.Redis, ClickHouse: f.ClickHouse, Source: f.Source, Feed: f.Feed,
		Logger: g.log, Version: version,
	}
	f.fill(&config)
	return config
}

// target is what a command works on: a running server, or a stopped data folder. What becomes of a stopped one is told by the variable
// "stopped" of its help, which a command sets that does not open it.
type target struct {
	Addr string `help:"gRPC address of a running server." placeholder:"HOST:PORT"`
	Data string `help:"Data folder; the server that runs on it is found${stopped}." default:"./data" type:"path"`
	engineFlags
}

// readAfterFlag has a read wait for what was recorded elsewhere.
type readAfterFlag struct {
	ReadAfter string `help:"Wait until the server holds what a receipt names: its position here, or its session token of whatever site." placeholder:"TOKEN"`
}

func (f readAfterFlag) context(ctx context.Context) context.Context {
	if f.ReadAfter == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, "x-read-after", f.ReadAfter)
}

// session is a connection to a server, which may have been started for it.
type session struct {
	conn *grpc.ClientConn
	// node is set when the folder was stopped and the session runs its server itself.
	node *node.Node
	// ended is closed when that server has ended.
	ended chan struct{}
	stop  func() error
}

// wait waits until ctx ends, or until the session's own server has ended by itself; stop says why.
func (s *session) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.ended:
		return errors.New("the server has ended")
	}
}

// connect finds the server, or starts one on a stopped folder for as long as the session lasts: a whole one, which takes part.
func (t *target) connect(ctx context.Context, g *globals) (*session, error) {
	return t.open(ctx, g, func(*node.Config) error { return nil })
}

// look is connect for who wants to know what the log holds, and nothing more: a stopped folder is shown as it is.
func (t *target) look(ctx context.Context, g *globals) (*session, error) {
	return t.open(ctx, g, func(c *node.Config) error {
		c.Look = true
		return nil
	})
}

// running is connect for who waits for what is to come: nothing comes in a stopped folder.
func (t *target) running(ctx context.Context, _ *globals) (*session, error) {
	s, err := runningServer(ctx, t.Addr, t.Data)
	if err != nil {
		return nil, fmt.Errorf("nothing comes in a folder without a server: %w", err)
	}
	return s, nil
}

// settled is connect for who asks the read models: those of a stopped folder are filled first. A site that has others would be there
// for them meanwhile, which is not what who asks has in mind.
func (t *target) settled(ctx context.Context, g *globals) (*session, error) {
	s, err := t.open(ctx, g, func(c *node.Config) error {
		others, err := node.PeersOf(t.Data)
		if err == nil && len(others) > 0 {
			err = fmt.Errorf("%w: no server runs on %s, and a site that has others is not started for a look: start it (tributary serve --data %s), and ask again", eventstore.ErrInvalid, t.Data, pasted(t.Data))
		}
		return err
	})
	if err != nil || s.node == nil {
		return s, err
	}
	if err := settle(ctx, g, s); err != nil {
		return nil, errors.Join(err, s.stop())
	}
	return s, nil
}

// open is connect; before a stopped folder is opened, the configuration is shown to prepare.
func (t *target) open(ctx context.Context, g *globals, prepare func(*node.Config) error) (*session, error) {
	if t.Addr != "" {
		return dial(t.Addr)
	}
	b, running, err := node.FindServer(ctx, t.Data)
	if err != nil {
		return nil, err
	}
	if running {
		return dial(b.GRPC)
	}
	if !node.HasData(t.Data) {
		return nil, noServer(ctx, t.Data)
	}
	config := t.config(g, t.Data)
	config.HTTP, config.GRPC = "127.0.0.1:0", "127.0.0.1:0"
	if err := prepare(&config); err != nil {
		return nil, err
	}
	return startSession(ctx, config)
}

// runningServer finds a server that runs, by its address or its folder.
func runningServer(ctx context.Context, addr, data string) (*session, error) {
	if addr != "" {
		return dial(addr)
	}
	b, running, err := node.FindServer(ctx, data)
	if err != nil {
		return nil, err
	}
	if running {
		return dial(b.GRPC)
	}
	return nil, noServer(ctx, data)
}

// noServer says what to do where no server runs on a folder. One is to be started where there is data; where there is none, a server that
// runs on another folder is likelier to be meant than a new one.
func noServer(ctx context.Context, data string) error {
	if node.HasData(data) {
		return fmt.Errorf("%w: no server runs on %s; start it with: tributary serve --data %s, or name another with --data FOLDER or --addr HOST:PORT", eventstore.ErrInvalid, data, pasted(data))
	}
	beside, err := node.ServersBeside(ctx, data)
	if err != nil {
		return err
	}
	if len(beside) == 0 {
		return fmt.Errorf("%w: no server runs on %s, and there is no data in it; name the server that is meant with --data FOLDER or --addr HOST:PORT (gRPC), or start a new one with: tributary serve --data %s",
			eventstore.ErrInvalid, data, pasted(data))
	}
	for i, folder := range beside {
		beside[i] = "--data " + pasted(folder)
	}
	return fmt.Errorf("%w: no server runs on %s, and there is no data in it; name the one that is meant, by its folder or with --addr HOST:PORT (gRPC): there is %s",
		eventstore.ErrInvalid, data, strings.Join(beside, " and "))
}

// pasted writes an argument as a shell takes it.
func pasted(arg string) string {
	special := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._-+=:,@%", r)
	}
	if arg != "" && !strings.ContainsFunc(arg, special) {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// startSession runs a node for as long as the session lasts.
func startSession(ctx context.Context, config node.Config) (*session, error) {
	n, err := node.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var runErr error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runErr = n.Run(runCtx)
	}()
	finish := func() error {
		cancel()
		<-ended
		return errors.Join(runErr, n.Close())
	}
	s, err := dial(n.GRPCAddr())
	if err != nil {
		return nil, errors.Join(err, finish())
	}
	closeConn := s.stop
	s.node, s.ended = n, ended
	s.stop = func() error { return errors.Join(closeConn(), finish()) }
	return s, nil
}

func dial(addr string) (*session, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return &session{conn: conn, stop: conn.Close}, nil
}

// requireEmpty refuses a folder that holds anything.
func requireEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w: --data %s: %w", eventstore.ErrInvalid, dir, err)
	}
	return fmt.Errorf("%w: --data %s is not empty (it holds %s); name a folder that is new or empty",
		eventstore.ErrInvalid, dir, filepath.Base(entries[0].Name()))
}
