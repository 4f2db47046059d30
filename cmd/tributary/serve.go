package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tributary-es/tributary/commerce/retail"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/node"
	retailsample "github.com/tributary-es/tributary/testdata/retail"
)

// listenFlags say where a server listens.
type listenFlags struct {
	HTTP string `name:"http" help:"HTTP address; loopback only, port 0 takes a free one. Kept for the next time where there are other sites; else 127.0.0.1:8080." placeholder:"HOST:PORT"`
	GRPC string `name:"grpc" help:"gRPC address; loopback only, port 0 takes a free one. Kept for the next time where there are other sites; else 127.0.0.1:9090." placeholder:"HOST:PORT"`
}

// serveCmd runs a server.
type serveCmd struct {
	Data       string `help:"Data folder." default:"./data" type:"path"`
	Sample     bool   `help:"Load the sample of real orders that comes with the program; a second time changes nothing."`
	Raw        bool   `name:"raw-appends" help:"Let the store API append to the streams of the shop's aggregates, too. What their codecs cannot read stops their commands."`
	Durability string `help:"Durability of commands and appends that name none: local, kafka, or peer, another site. Kept for the next time; else local." enum:",local,kafka,peer" default:"" placeholder:"CLASS"`
	Streams    int    `name:"max-streams" help:"How many streams are taken at a time: subscriptions, sessions, members of groups. One that is not read holds up to 512 KiB, a read up to 1 MiB." default:"512" placeholder:"N"`
	siteFlags
	listenFlags
	diskFlags
	archiveFlags
	engineFlags
}

// siteFlags name the other sites.
type siteFlags struct {
	Peer      []string      `help:"Another site to replicate with; may be repeated. off: none. Both are kept for the next time." placeholder:"SITE=GRPC_ADDR,KAFKA_ADDR" sep:"none"`
	Homed     []string      `help:"A category whose streams are written at one site at a time; may be repeated, the same at all sites. off: none. Kept for the next time." placeholder:"CATEGORY"`
	Takeover  string        `help:"auto: of three sites or more, the others take over what is homed at one that is gone, when all of them say so. manual: when they are asked to. Kept for the next time; auto at first." placeholder:"auto|manual"`
	Rebalance string        `help:"auto: this site gives units of stock that it may sell to sites that sell more than they have. manual: when it is asked to (move-rights). Kept for the next time; manual at first." placeholder:"auto|manual"`
	Join      string        `help:"Take part in the system of the site that has this gRPC address; it says who the others are. For a folder that knows none." placeholder:"HOST:PORT"`
	MaxSkew   time.Duration `help:"How far in the future an event of another site may be that is taken; more only to take in what a clock that was ahead has given its time." default:"500ms" placeholder:"TIME"`
	KafkaPort int           `help:"Port of the embedded Kafka, for other sites to reach it; 0 takes a free one." placeholder:"PORT"`
}

func (f *siteFlags) apply(c *node.Config) (err error) {
	if f.MaxSkew <= 0 {
		return fmt.Errorf("%w: --max-skew must be more than 0", eventstore.ErrInvalid)
	}
	c.KafkaPort, c.Homed, c.Takeover, c.Rebalance, c.Join, c.MaxSkew = f.KafkaPort, f.Homed, f.Takeover, f.Rebalance, f.Join, f.MaxSkew
	c.Peers, err = node.ParsePeers(f.Peer)
	return err
}

// archiveFlags have a server move old events to an archive by itself.
type archiveFlags struct {
	ArchiveTo    string `help:"Where to move old events: a folder, or s3://BUCKET/PREFIX; without, they stay." placeholder:"FOLDER|URL"`
	ArchiveAfter age    `help:"How old events have to be for that, such as 90d or 12h." placeholder:"AGE"`
	DropAfter    age    `help:"How old archived events have to be to be dropped for good; without, they are kept." placeholder:"AGE"`
}

// maxStreams is the most that may be asked for: 50 GB of memory, if nobody reads.
const maxStreams = 100_000

// diskFlags say what the store expects of its disk.
type diskFlags struct {
	MinFree      int64         `help:"Free space of the disk, in MiB, below which no commands are taken." default:"256" placeholder:"MIB"`
	Ballast      int64         `help:"Size, in MiB, of a file that is let go when the disk is full; at most half of --min-free." default:"64" placeholder:"MIB"`
	Scrub        int64         `help:"How many MiB a second the daily scrub of the store's files reads; 0: there is none." default:"8" placeholder:"MIB"`
	CompareEvery time.Duration `help:"How often, about, the store is compared with those of the other sites; 0: never by itself." default:"1h" placeholder:"TIME"`
	Cache        int64         `help:"Memory, in MiB, for what was read from the store's files: streams with their events, and the index." default:"16" placeholder:"MIB"`
	StallAfter   time.Duration `help:"How long the disk may not answer before it is said to be stalled." default:"2s" placeholder:"TIME"`
}

func (f *diskFlags) apply(c *node.Config) error {
	if f.CompareEvery < 0 {
		return fmt.Errorf("%w: --compare-every must not be less than 0", eventstore.ErrInvalid)
	}
	if f.MinFree <= 0 || f.Ballast <= 0 || f.Cache <= 0 || f.StallAfter <= 0 || f.Scrub < 0 {
		return fmt.Errorf("%w: --min-free, --ballast, --cache and --stall-after must be more than 0, --scrub not less", eventstore.ErrInvalid)
	}
	if most := int64(1 << 20); f.MinFree > most || f.Cache > most || f.Scrub > most {
		return fmt.Errorf("%w: --min-free, --cache and --scrub are in MiB, %d at most", eventstore.ErrInvalid, most)
	}
	c.CacheBytes = f.Cache << 20
	if c.CompareEvery = f.CompareEvery; c.CompareEvery == 0 {
		c.CompareEvery = -1
	}
	if c.ScrubBytesPerSecond = f.Scrub << 20; f.Scrub == 0 {
		c.ScrubBytesPerSecond = -1
	}
	c.MinFreeBytes, c.BallastBytes, c.StallAfter = f.MinFree<<20, f.Ballast<<20, f.StallAfter
	return nil
}

// Run serves until interrupted.
func (c *serveCmd) Run(ctx context.Context, g *globals) error {
	config := c.config(g, c.Data)
	config.HTTP, config.GRPC, config.Remember = c.HTTP, c.GRPC, true
	config.RawAppends, config.MaxStreams, config.Durability = c.Raw, c.Streams, c.Durability
	if c.Streams < 1 || c.Streams > maxStreams {
		return fmt.Errorf("%w: --max-streams must be from 1 to %d", eventstore.ErrInvalid, maxStreams)
	}
	config.ArchiveTo, config.ArchiveAfter = c.ArchiveTo, time.Duration(c.ArchiveAfter)
	config.DropAfter = time.Duration(c.DropAfter)
	if err := errors.Join(c.diskFlags.apply(&config), c.siteFlags.apply(&config)); err != nil {
		return err
	}
	return serve(ctx, g, config, c.Sample, "stay in "+c.Data)
}

// devCmd runs a server on throwaway data.
type devCmd struct {
	listenFlags
	engineFlags
}

// Run serves until interrupted, and leaves nothing behind.
func (c *devCmd) Run(ctx context.Context, g *globals) (err error) {
	dir, err := os.MkdirTemp("", "tributary-dev-")
	if err != nil {
		return fmt.Errorf("make a throwaway folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	config := c.config(g, dir)
	config.HTTP, config.GRPC = c.HTTP, c.GRPC
	return serve(ctx, g, config, true, "in "+dir+" go with it")
}

// serve runs a node until ctx ends, in one life of its log after the other.
func serve(ctx context.Context, g *globals, config node.Config, sample bool, data string) error {
	for {
		err := serveLife(ctx, g, config, sample, data)
		var life *node.LifeError
		if !errors.As(err, &life) || ctx.Err() != nil {
			return err
		}
		g.log.Warn("the server starts again in another life of its log", slog.Any("because", err))
		config.Life = life.Incarnation
	}
}

// withFlag adds to the error of a port that is taken the flag that names another.
func withFlag(err error) error {
	var taken *node.TakenError
	if !errors.As(err, &taken) {
		return err
	}
	if _, port, cut := net.SplitHostPort(taken.Free); taken.Protocol == "Kafka" && cut == nil {
		return fmt.Errorf("%w (--kafka-port %s)", err, port)
	}
	return fmt.Errorf("%w (--%s)", err, strings.ToLower(taken.Protocol))
}

// serveLife runs a node until ctx ends, says on stdout where it listens, and loads the sample if asked to.
func serveLife(ctx context.Context, g *globals, config node.Config, sample bool, data string) (err error) {
	n, err := node.Open(ctx, config)
	if err != nil {
		return withFlag(err)
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.Run(ctx) })
	awaitClickHouse(ctx, n)
	if err := announce(g, n, data); err != nil {
		cancel()
		return errors.Join(err, group.Wait())
	}
	if sample {
		group.Go(func() error {
			// The server goes on without its sample: what kept it from loading, an engine that is missing say, is no reason
			// to take no commands.
			if err := loadSample(ctx, g, n); err != nil && ctx.Err() == nil {
				g.log.Warn("the sample is not loaded whole", slog.Any("problem", err))
			}
			return nil
		})
	}
	return group.Wait()
}

// clickHousePatience is how long the announcement waits for the embedded ClickHouse to have an address.
const clickHousePatience = 3 * time.Second

func awaitClickHouse(ctx context.Context, n *node.Node) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(clickHousePatience); n.ClickHouseStarts() && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func announce(g *globals, n *node.Node, data string) error {
	b := n.Beacon()
	addresses := map[string]string{
		"page": "http://" + n.HTTPAddr() + "/", "http": "http://" + n.HTTPAddr() + "/v1/", "grpc": n.GRPCAddr(),
		"health": "http://" + n.HTTPAddr() + "/v1/health", "openapi": "http://" + n.HTTPAddr() + "/openapi.json",
		"kafka": b.Kafka, "redis": b.Redis, "clickhouse": b.ClickHouse,
	}
	why := n.TakesNone()
	if why != "" {
		addresses["takes_no_commands"] = why
	}
	return g.print(addresses, func() {
		fmt.Fprintf(g.out, "\nTributary is ready. Ctrl-C stops it; the data %s.\n\n", data)
		g.table([][]string{
			{"  page", addresses["page"]},
			{"  HTTP API", addresses["http"]},
			{"  gRPC API", addresses["grpc"]},
			{"  health", addresses["health"]},
			{"  OpenAPI", addresses["openapi"]},
			{"  Kafka", orDash(b.Kafka)},
			{"  Redis", orDash(b.Redis)},
			{"  ClickHouse", clickHouseRow(b.ClickHouse, n)},
		})
		if why != "" {
			fmt.Fprintf(g.out, "\nIt takes no commands at present (tributary sites status --data %s says when it does): %s\n", pasted(n.Data()), why)
		}
	})
}

// loadSample imports the sample and shows what it did.
func loadSample(ctx context.Context, g *globals, n *node.Node) (err error) {
	set, err := readSample(ctx)
	if err != nil {
		return err
	}
	s, err := dial(n.GRPCAddr())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	answer, err := importSet(ctx, g, s, set)
	if err != nil {
		return err
	}
	if err := settle(ctx, g, s); err != nil {
		return err
	}
	if g.JSON {
		return nil
	}
	f, err := n.ReadFigures(ctx)
	if err != nil {
		return fmt.Errorf("read back what the sample did: %w", err)
	}
	fmt.Fprintf(g.out, "\nThe sample: %d lines of real orders as %d commands (%d repeated) in %.1f s.\n\n", answer.Lines, answer.Items, answer.Repeated, answer.Seconds)
	g.table(figureRows(f))
	return nil
}

// readSample reads the sample that comes with the program.
func readSample(ctx context.Context) (*retail.Set, error) {
	set, err := retail.ReadSources(ctx, retail.Source{Name: retailsample.Name, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(retailsample.Compressed())), nil
	}})
	if err != nil {
		return nil, fmt.Errorf("read the sample: %w", err)
	}
	return set, nil
}

// figureRows is what became of an import, each figure with the place it was read from.
func figureRows(f node.Figures) [][]string {
	rows := [][]string{
		{"  WHERE", "WHAT", "FIGURE"},
		{"  log (Pebble)", "events in streams", fmt.Sprintf("%d in %d", f.Log.Events, f.Log.Streams)},
	}
	if f.Kafka != nil {
		rows = append(rows, []string{"  Kafka", "records", strconv.FormatUint(f.Kafka.Records, 10)})
	}
	if f.Feed != nil {
		rows = append(rows, []string{"  Kafka", "records of the feed", strconv.FormatUint(f.Feed.Records, 10)})
	}
	if r := f.Redis; r != nil {
		rows = append(rows,
			[]string{"  Redis", "orders, shipped", fmt.Sprintf("%d, %d", r.Orders, r.Shipped)},
			[]string{"  Redis", "stock codes, units on hand", fmt.Sprintf("%d, %d", r.StockCodes, r.OnHand)})
	}
	if c := f.ClickHouse; c != nil {
		rows = append(rows,
			[]string{"  ClickHouse", "lines, invoices, customers", fmt.Sprintf("%d, %d, %d", c.Lines, c.Invoices, c.Customers)},
			[]string{"  ClickHouse", "net sales", c.Net})
	}
	return rows
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// clickHouseRow says how to ask SQL over HTTP.
func clickHouseRow(addr string, n *node.Node) string {
	if addr == "" || strings.Contains(addr, "://") {
		return orDash(addr)
	}
	return addr + " (HTTP; user tributary, password in " + filepath.Join(n.Data(), "clickhouse", "password") + ")"
}
