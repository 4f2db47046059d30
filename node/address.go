package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/projections/clickview"
	"github.com/tributary-es/tributary/projections/redisview"
)

// onLoopback refuses addresses that others could reach, for there is no authentication yet.
func onLoopback(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("is not of the form host:port")
	}
	if port == "" {
		return errors.New("names no port")
	}
	if host == "localhost" {
		return nil
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return nil
	}
	return errors.New("is not a loopback address; the server has no authentication yet, so put a proxy that has in front of it")
}

// portsFree returns an error when a port of a server in a new folder cannot be taken: before anything is made there, which would name the site
// for good.
func (c *Config) portsFree(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(c.Data, storeFolder)); c.Look || !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := server.Free(ctx, c.HTTP, "HTTP"); err != nil {
		return err
	}
	return server.Free(ctx, c.GRPC, "gRPC")
}

// hostPort says what is wrong with an address of a server.
func hostPort(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || host == "" || strings.ContainsAny(host, "/@?# \t") {
		return fmt.Errorf("%q is not of the form HOST:PORT", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q has no port between 1 and 65535", addr)
	}
	return nil
}

// brokers splits a list of broker addresses.
func brokers(list string) ([]string, error) {
	out := strings.Split(list, ",")
	for i, b := range out {
		out[i] = strings.TrimSpace(b)
		if err := hostPort(out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// redisAddress says what is wrong with the address of a Redis.
func redisAddress(addr string) error {
	if strings.Contains(addr, "://") {
		return redisview.ValidateURL(addr)
	}
	return hostPort(addr)
}

// clickHouseAddress says how to reach the ClickHouse of an address. The error tells what is wrong, without the password.
func clickHouseAddress(addr string) (clickview.Options, error) {
	if !strings.Contains(addr, "://") {
		addr = "clickhouse://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil {
		return clickview.Options{}, fmt.Errorf("%q is not a URL", withoutPassword(addr))
	}
	if u.Scheme != "clickhouse" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return clickview.Options{}, fmt.Errorf("%q is not of the form clickhouse://USER:PASSWORD@HOST:PORT/DATABASE", withoutPassword(addr))
	}
	host := u.Host
	if u.Port() == "" {
		host = strings.TrimSuffix(host, ":") + ":9000" // the native protocol's
	}
	if err := hostPort(host); err != nil {
		return clickview.Options{}, err
	}
	o := clickview.Options{Addr: host, User: u.User.Username(), Database: strings.Trim(u.Path, "/")}
	o.Password, _ = u.User.Password()
	return o, o.Validate()
}

// withoutPassword returns an address fit for logs and status answers.
func withoutPassword(addr string) string {
	scheme, rest, ok := strings.Cut(addr, "://")
	if !ok {
		scheme, rest = "", addr
	}
	if i := strings.LastIndex(rest, "@"); i >= 0 {
		rest = rest[i+1:]
	}
	rest, _, _ = strings.Cut(rest, "?")
	if !ok {
		return rest
	}
	return scheme + "://" + rest
}
