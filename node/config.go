package node

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/wholefile"
)

// Embedded is the address of a dependency that the node runs itself; Off switches one off.
const (
	Embedded = "embedded"
	Off      = "off"
)

// Sources that projections can read from.
const (
	SourceStore = "store"
	SourceKafka = "kafka"
)

// When a site's feed is written: when its own projections read it, or always.
const (
	FeedAuto = "auto"
	FeedOn   = "on"
)

// Who takes over from a site that is gone: the others by themselves, or when somebody asks them to.
const (
	TakeoverAuto   = "auto"
	TakeoverManual = "manual"
)

// Whether what only one site may use is given to the sites that need it: by itself, or when somebody asks for it.
const (
	RebalanceAuto   = "auto"
	RebalanceManual = "manual"
)

// Config says what a node is made of. Empty fields take the value that the data folder was last used with, else the
// default.
type Config struct {
	// Data is the folder that holds everything the node keeps. Required.
	Data string `json:"-"`
	// Site names the site; default "local". It cannot change once the folder has a log.
	Site string `json:"site,omitempty"`
	// HTTP and GRPC are what to listen on; default 127.0.0.1:8080 and 127.0.0.1:9090. Only loopback addresses are taken. They are kept
	// where there are, or were, other sites, which find this one by them.
	HTTP string `json:"http,omitempty"`
	GRPC string `json:"grpc,omitempty"`
	// Kafka is "embedded" (default), "off", or brokers as host:port, separated by commas.
	Kafka string `json:"kafka,omitempty"`
	// KafkaPort is the port of the embedded Kafka, for other sites to reach it; 0 takes a free one.
	KafkaPort int `json:"kafka_port,omitempty"`
	// Homed are the categories whose streams are written at one site at a time, the same at all sites; others are written at any.
	// nil means those that the folder was last used with.
	Homed []string `json:"homed,omitempty"`
	// Takeover says whether, of three sites or more, others take over what is homed at one that is gone: "auto" (default), or "manual", when
	// somebody asks them to. All have to say auto for that.
	Takeover string `json:"takeover,omitempty"`
	// Rebalance says whether this site gives units of stock, and what else only it may use, to sites that need them: "auto", or "manual"
	// (default), when somebody asks for it.
	Rebalance string `json:"rebalance,omitempty"`
	// Peers are the other sites that this one replicates with; nil means those that the folder was last used with, an empty
	// list none.
	Peers []Peer `json:"peers,omitempty"`
	// Join is the gRPC address of a site of a system that this one is to take part in, when the folder knows no other sites: it is put on
	// record there, and told who the others are.
	Join string `json:"-"`
	// MaxSkew is how far in the future an event of another site may be that is taken; zero means 500 ms.
	MaxSkew time.Duration `json:"-"`
	// Life, when not 0, is the life that the log begins before anything else, as a LifeError asked for.
	Life uint32 `json:"-"`
	// Redis is "embedded" (default), or host:port, or a redis:// URL.
	Redis string `json:"redis,omitempty"`
	// ClickHouse is "embedded" (default), "off", or a clickhouse:// URL with user, password and database.
	ClickHouse string `json:"clickhouse,omitempty"`
	// Source is where projections read from: "store" (default) or "kafka".
	Source string `json:"source,omitempty"`
	// Feed says when the topic is written that has all that the log holds, events of other sites too: "auto" (default), when projections of
	// a site that has others read from Kafka, or "on", for programs that read it elsewhere.
	Feed string `json:"feed,omitempty"`
	// Durability is that of commands and appends that name none: local (default), kafka or peer.
	Durability string `json:"durability,omitempty"`
	// RawAppends lets the store API append to the streams, and events of the types, that the domains work with: for moving
	// data in. What a codec cannot read stops the commands of its stream and is set aside by projections.
	RawAppends bool `json:"-"`
	// MinFreeBytes is the free space of the disk below which no appends are taken, BallastBytes the size of a file that is
	// let go when there is none; StallAfter is how long the disk may not answer. Zero means the store's defaults.
	MinFreeBytes int64         `json:"-"`
	BallastBytes int64         `json:"-"`
	StallAfter   time.Duration `json:"-"`
	// CacheBytes is the memory for what was read from the store's files; zero means the store's default.
	CacheBytes int64 `json:"-"`
	// MaxStreams is how many streams the server takes at a time: subscriptions, sessions, members of groups; zero means 512.
	MaxStreams int `json:"-"`
	// Keys is the folder of the keys of personal data; default: keys in the data folder. It belongs to this node alone.
	Keys string `json:"keys,omitempty"`
	// MasterKeyFile holds the master key that wraps them; default: master.key beside them. MasterKey is the master key itself,
	// which goes before; it is not remembered.
	MasterKeyFile string `json:"master_key_file,omitempty"`
	MasterKey     string `json:"-"`
	// ScrubBytesPerSecond bounds what a scrub reads, once a day; zero means the store's default, a negative one that there
	// is no scrub unless it is asked for.
	ScrubBytesPerSecond int64 `json:"-"`
	// CompareEvery is how often, about, the store is compared with those of the other sites; zero means an hour, a negative one that
	// it is not unless that is asked for.
	CompareEvery time.Duration `json:"-"`
	// ArchiveTo is where events are moved to that are older than ArchiveAfter: a folder, or s3://BUCKET/PREFIX; empty: nowhere.
	ArchiveTo    string        `json:"-"`
	ArchiveAfter time.Duration `json:"-"`
	// DropAfter is how old archived events have to be to be dropped for good; zero: they are not.
	DropAfter time.Duration `json:"-"`
	// archiveSegment is the size of a segment then; zero means the store's default.
	archiveSegment int64
	// addressed says that HTTP and GRPC are kept, as they were before.
	addressed bool
	// Look has the node show what the folder holds, and nothing more: it records nothing, takes part nowhere, fills no read models and is
	// not found by its folder. What it works with, and other sites, count for nothing then.
	Look bool `json:"-"`
	// Remember keeps the fields above for the next time the folder is used without them. A new folder always does.
	Remember bool `json:"-"`
	// Domains are what the node serves; nil means the shop.
	Domains []Domain `json:"-"`
	// Logger takes the node's log; nil means slog.Default.
	Logger *slog.Logger `json:"-"`
	// Version of the program.
	Version string `json:"-"`
}

// configFile keeps, in the data folder, what the folder was last used with. It holds no addresses with passwords.
const configFile = "config.json"

// complete fills empty fields from the data folder, then with the defaults, and validates. All faults are joined.
func (c *Config) complete() error {
	if c.Data == "" {
		return fmt.Errorf("%w: no data folder is named (--data DIR)", eventstore.ErrInvalid)
	}
	last, err := lastConfig(c.Data)
	if err != nil {
		return err
	}
	if c.Look {
		c.look()
	}
	named := cmp.Or(c.Site, last.Site) != ""
	c.Site = cmp.Or(c.Site, last.Site, "local")
	c.HTTP = cmp.Or(c.HTTP, last.HTTP, "127.0.0.1:8080")
	c.GRPC = cmp.Or(c.GRPC, last.GRPC, "127.0.0.1:9090")
	c.addressed = last.GRPC != ""
	var secrets [3]error
	c.Kafka, secrets[0] = remembered("--kafka", c.Kafka, last.Kafka)
	c.Redis, secrets[1] = remembered("--redis", c.Redis, last.Redis)
	c.ClickHouse, secrets[2] = remembered("--clickhouse", c.ClickHouse, last.ClickHouse)
	if err := errors.Join(secrets[:]...); err != nil {
		return err
	}
	c.Source = cmp.Or(c.Source, last.Source, SourceStore)
	c.Feed = cmp.Or(c.Feed, last.Feed, FeedAuto)
	if c.Peers == nil {
		c.Peers = last.Peers
	}
	if c.Homed == nil {
		c.Homed = last.Homed
	}
	c.Takeover = cmp.Or(c.Takeover, last.Takeover, TakeoverAuto)
	c.Rebalance = cmp.Or(c.Rebalance, last.Rebalance, RebalanceManual)
	if c.Kafka == Embedded {
		c.KafkaPort = cmp.Or(c.KafkaPort, last.KafkaPort)
	}
	c.Keys, c.MasterKeyFile = cmp.Or(c.Keys, last.Keys), cmp.Or(c.MasterKeyFile, last.MasterKeyFile)
	c.completeDurability(&last)
	if c.Domains == nil {
		c.Domains = []Domain{Shop()}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if err := c.checkArchivePolicy(); err != nil {
		return err
	}
	if !named && len(c.Peers)+len(c.Join) > 0 {
		return fmt.Errorf("%w: --site is missing: other sites (--peer, --join) know this one by its name, which its folder keeps for good", eventstore.ErrInvalid)
	}
	return c.validate(last)
}

func (c *Config) validate(last Config) error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: "+format, append([]any{eventstore.ErrInvalid}, args...)...))
	}
	if err := eventstore.ValidateSite(c.Site); err != nil {
		faults = append(faults, err)
	}
	if last.Site != "" && c.Site != last.Site {
		fault("the folder %s belongs to site %q, not %q (--site)", c.Data, last.Site, c.Site)
	}
	for flag, addr := range map[string]string{"--http": c.HTTP, "--grpc": c.GRPC} {
		if err := onLoopback(addr); err != nil {
			fault("%s %s: %v", flag, addr, err)
		}
	}
	if c.Kafka != Embedded && c.Kafka != Off {
		if _, err := brokers(c.Kafka); err != nil {
			fault("--kafka %s: %v; use embedded, off, or brokers as HOST:PORT, separated by commas", withoutPassword(c.Kafka), err)
		}
	}
	if c.Redis == Off {
		fault("--redis off: orders and stock are answered from Redis, so it cannot be switched off")
	} else if c.Redis != Embedded {
		if err := redisAddress(c.Redis); err != nil {
			fault("--redis %s: %v; use embedded, HOST:PORT, or redis://USER:PASSWORD@HOST:PORT/NUMBER", withoutPassword(c.Redis), err)
		}
	}
	if c.ClickHouse != Embedded && c.ClickHouse != Off {
		if _, err := clickHouseAddress(c.ClickHouse); err != nil {
			fault("--clickhouse %s: %v; use embedded, off, or clickhouse://USER:PASSWORD@HOST:PORT/DATABASE", withoutPassword(c.ClickHouse), err)
		}
	}
	if c.Source != SourceStore && c.Source != SourceKafka {
		fault("--source %s: use store or kafka", c.Source)
	}
	if c.Source == SourceKafka && c.Kafka == Off {
		fault("--source kafka needs Kafka, which is switched off (--kafka)")
	}
	if c.Feed != FeedAuto && c.Feed != FeedOn {
		fault("--feed %s: use auto or on", c.Feed)
	}
	if c.Feed == FeedOn && c.Kafka == Off {
		fault("--feed on needs Kafka, which is switched off (--kafka); give --feed auto if that is meant")
	}
	if c.Takeover != TakeoverAuto && c.Takeover != TakeoverManual {
		fault("--takeover %s: use auto or manual", c.Takeover)
	}
	if c.Rebalance != RebalanceAuto && c.Rebalance != RebalanceManual {
		fault("--rebalance %s: use auto or manual", c.Rebalance)
	}
	c.validatePeers(fault)
	c.validateHomed(fault)
	c.validateDurability(fault)
	c.validateJoin(fault)
	return errors.Join(faults...)
}

// secretMark stands before an address that was given with a password, which is not kept.
const secretMark = "with a password: "

// remembered returns what a folder was last used with; an address that had a password has to be given again.
func remembered(flag, given, last string) (string, error) {
	if given != "" || !strings.HasPrefix(last, secretMark) {
		return cmp.Or(given, last, Embedded), nil
	}
	return "", fmt.Errorf("%w: the folder was last used with %s %s and a password, which is not kept; give it again, or %s %s",
		eventstore.ErrInvalid, flag, strings.TrimPrefix(last, secretMark), flag, Embedded)
}

// save keeps what the folder is used with, for the next time, without passwords.
func (c *Config) save() error {
	kept := *c
	for _, addr := range []*string{&kept.Kafka, &kept.Redis, &kept.ClickHouse} {
		if strings.Contains(*addr, "@") || strings.Contains(*addr, "password=") {
			*addr = secretMark + withoutPassword(*addr)
		}
	}
	if kept.Durability == eventstore.Local.String() {
		kept.Durability = ""
	}
	if len(kept.Peers) == 0 && !c.addressed {
		kept.HTTP, kept.GRPC = "", ""
	}
	body, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	return wholefile.Write(filepath.Join(c.Data, configFile), append(body, '\n'))
}

// unlessFull keeps a full disk from stopping a node that can go on without a file: it is logged, and no error.
func unlessFull(log *slog.Logger, what string, err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		log.Warn("the disk is full: "+what, slog.Any("error", err))
		return nil
	}
	return err
}

// PeersOf returns the other sites that a folder was last used with.
func PeersOf(data string) ([]Peer, error) {
	last, err := lastConfig(data)
	return last.Peers, err
}

func lastConfig(data string) (Config, error) {
	var last Config
	path := filepath.Join(data, configFile)
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return last, nil
	}
	if err != nil {
		return last, fmt.Errorf("read configuration: %w", err)
	}
	if err := json.Unmarshal(body, &last); err != nil {
		return last, fmt.Errorf("read configuration %s: %w; mend or remove the file", path, err)
	}
	return last, nil
}
