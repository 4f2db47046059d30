package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// Who has let a site in is told lines that start it as they stand, with real brokers and with the embedded one.
func TestStartLines(t *testing.T) {
	roster := &sitesv1.Roster{Homed: []string{"ledger"}, Members: []*sitesv1.Member{
		{Site: "bj", Grpc: "127.0.0.1:9090", Kafka: "127.0.0.1:9092"}, {Site: "sz", Grpc: "127.0.0.1:9290", Kafka: "127.0.0.1:9292"},
	}}
	const start, rest = "  tributary serve --site sz --data sz --http 127.0.0.1:0 --grpc 127.0.0.1:9290 ", " --peer bj=127.0.0.1:9090,127.0.0.1:9092 --homed ledger\n"
	for kafka, want := range map[string][]string{
		"127.0.0.1:9292":  {"--kafka 127.0.0.1:9292", "--kafka-port 9292"},
		"k-1:9092,k-2:92": {"--kafka k-1:9092,k-2:92"},
	} {
		m := &sitesv1.Member{Site: "sz", Grpc: "127.0.0.1:9290", Kafka: kafka}
		got := startLines(m, roster)
		for _, flag := range want {
			if !strings.Contains(got, start+flag+rest) {
				t.Errorf("with Kafka at %s it is said that\n%swant a line with %s", kafka, got, flag)
			}
		}
		if n := strings.Count(got, start); n != len(want) {
			t.Errorf("with Kafka at %s there are %d lines, want %d:\n%s", kafka, n, len(want), got)
		}
	}
}

// A site joins with its addresses, and takes writes or does not: what else is said is refused in words of the command itself.
func TestMembersAskedWrongly(t *testing.T) {
	for _, c := range []struct {
		err  error
		says string
	}{
		{(&sitesJoinCmd{Peer: "sz"}).Run(t.Context(), nil), "SITE=GRPC_ADDR,KAFKA_ADDR"},
		{(&sitesJoinCmd{Peer: "off"}).Run(t.Context(), nil), "SITE=GRPC_ADDR,KAFKA_ADDR"},
		{(&sitesReadonlyCmd{Off: "on"}).Run(t.Context(), nil), "--reason"},
		{(&sitesReadonlyCmd{Off: "on", Reason: "x"}).Run(t.Context(), nil), "--reason"},
		{(&sitesReadonlyCmd{}).Run(t.Context(), nil), "--reason"},
	} {
		if !errors.Is(c.err, eventstore.ErrInvalid) || !strings.Contains(c.err.Error(), c.says) || strings.Contains(c.err.Error(), "--peer") {
			t.Errorf("%v; want ErrInvalid with %s, without --peer", c.err, c.says)
		}
	}
}

// A site that is not named is asked for before a server is.
func TestSitesThatAreNotNamed(t *testing.T) {
	nowhere := siteTarget{Data: t.TempDir()}
	for name, c := range map[string]interface {
		Run(ctx context.Context, g *globals) error
	}{
		"leave":   &sitesLeaveCmd{Reason: "x", siteTarget: nowhere},
		"join":    &sitesJoinCmd{Peer: "=,", siteTarget: nowhere},
		"promote": &sitesPromoteCmd{Reason: "x", siteTarget: nowhere},
	} {
		if err := c.Run(t.Context(), &globals{}); !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "the name of the") {
			t.Errorf("sites %s without a name: %v", name, err)
		}
	}
}
