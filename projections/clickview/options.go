package clickview

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"regexp"
	"strconv"
	"time"
)

// Options say where the server is, and set limits. Only Addr or Dial is required.
type Options struct {
	// Addr is host:port of the native protocol.
	Addr string
	// Dial, when set, opens connections in place of a dialer to Addr: for a server whose address may change.
	Dial func(ctx context.Context) (net.Conn, error)
	// TLS, when set, is used for every connection.
	TLS *tls.Config
	// User and Password of an account that may create databases; empty means default without a password.
	User, Password string
	// Database is this view's alone, and so is Database + "__next"; empty means tributary.
	Database string

	// OpTimeout bounds one statement of a commit; zero means 30 s.
	OpTimeout time.Duration
	// ReadTimeout, ReadRows and ReadMemory bound one statement of Query: its time, the rows of its result and the memory
	// in bytes it takes on the server. Zero means 10 s, 1,000,000 and 1 GB.
	ReadTimeout time.Duration
	ReadRows    int
	ReadMemory  int64
	// Readers is how many statements of Query run at once; zero means 8.
	Readers int

	// Logger takes what an operator should know; nil means slog.Default.
	Logger *slog.Logger

	// fault, when set, is asked before and after each call to the server; an error stands for a crash there.
	fault func(op string, sent bool) error
}

var databaseName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,63}$`)

// Validate says what New would refuse.
func (o Options) Validate() error {
	_, err := o.withDefaults()
	return err
}

func (o Options) withDefaults() (Options, error) {
	o.User = cmp.Or(o.User, "default")
	o.Database = cmp.Or(o.Database, "tributary")
	o.OpTimeout = cmp.Or(o.OpTimeout, 30*time.Second)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 10*time.Second)
	o.ReadRows = cmp.Or(o.ReadRows, 1_000_000)
	o.ReadMemory = cmp.Or(o.ReadMemory, 1_000_000_000)
	o.Readers = cmp.Or(o.Readers, 8)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Addr == "" && o.Dial == nil {
		return o, errors.New("clickhouse: no address given")
	}
	if !databaseName.MatchString(o.Database) {
		return o, errors.New("clickhouse: database " + strconv.Quote(o.Database) + " is not a plain name of letters, digits and _, at most 64")
	}
	return o, nil
}
