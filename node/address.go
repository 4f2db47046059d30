package node

import (
	"context"
	"errors"
	"net"
	"strings"
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

// reach says whether something listens at an address.
func reach(ctx context.Context, addr string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// brokers splits a list of broker addresses.
func brokers(list string) []string {
	var out []string
	for _, b := range strings.Split(list, ",") {
		if b = strings.TrimSpace(b); b != "" {
			out = append(out, b)
		}
	}
	return out
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
