package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// ledgerConsumer is a member of a group that remembers what it did, over the lives of the server.
type ledgerConsumer struct {
	done    map[string]uint64 // by stream, the version that was acknowledged last
	sure    map[string]uint64 // in this life of the server, or before a checkpoint of an earlier one
	durable map[string]uint64 // before a checkpoint
	again   int               // deliveries of what had been acknowledged
	left    int               // events that were never acknowledged
}

const (
	ledgers = 20
	entries = 60 // of each
)

// TestGroupThroughKills shows G1, G2 and G4 from outside: a server is killed with -9 while a member of a group works. What
// was acknowledged before an answered flush is not handed out again, each event comes at least once, and those of a stream
// in order.
func TestGroupThroughKills(t *testing.T) {
	kills := 3
	if *long {
		kills = 30
	}
	data := filepath.Join(t.TempDir(), "data")
	flags := []string{"--kafka", "off", "--clickhouse", "off"}
	s := serve(t, data, flags...)
	fillLedgers(t, s)
	made := decoded[object](t, done(t, "groups", "create", "audit", "--json", "--category", "ledger", "--lease", "5s", "--addr", s.grpc))
	if made["made"] != true {
		t.Fatalf("groups create: %v", made)
	}
	c := &ledgerConsumer{done: map[string]uint64{}, durable: map[string]uint64{}, left: ledgers * entries}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range kills {
		c.work(t, s, ledgers*entries/(kills+1)+random.IntN(50), random)
		s.kill()
		nobodyLeft(t, data)
		s = serve(t, data, flags...)
	}
	c.work(t, s, 1<<30, random)
	t.Logf("%d of %d events came again after %d kills", c.again, ledgers*entries, kills)

	info := decoded[object](t, done(t, "groups", "describe", "audit", "--json", "--addr", s.grpc))
	if info["parked"] != "0" || info["in_flight"] != "0" || info["waiting"] != "0" {
		t.Errorf("groups describe after all is done: %v", info)
	}
	if reset := decoded[object](t, done(t, "groups", "reset", "audit", "--to", "end", "--json", "--addr", s.grpc)); reset["cursor"] == "" {
		t.Errorf("groups reset: %v", reset)
	}
	done(t, "groups", "delete", "audit", "--addr", s.grpc)
	if a := tributary(t, "groups", "describe", "audit", "--addr", s.grpc); a.code != 2 {
		t.Errorf("groups describe of one that was deleted: exit code %d, %s", a.code, a.stderr)
	}
	s.stop(t)
}

func dialServer(t *testing.T, s *serving) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.grpc, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // of a server that was killed, perhaps
	return conn
}

func fillLedgers(t *testing.T, s *serving) {
	t.Helper()
	store := storev1.NewEventStoreClient(dialServer(t, s))
	for range entries / 10 {
		r := &storev1.AppendRequest{}
		for l := range ledgers {
			a := &storev1.StreamAppend{Category: "ledger", Id: fmt.Sprint(l)}
			for range 10 {
				a.Events = append(a.Events, &storev1.NewEvent{Type: "ledger.entered.v1", PayloadJson: `{"amount":"1.00"}`})
			}
			r.Appends = append(r.Appends, a)
		}
		if _, err := store.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

// work acknowledges so many events, or all there are, and asks for a checkpoint now and then. What is checked holds for
// every delivery.
func (c *ledgerConsumer) work(t *testing.T, s *serving, most int, random *rand.Rand) {
	t.Helper()
	c.sure = maps.Clone(c.durable)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := storev1.NewConsumerGroupsClient(dialServer(t, s)).Consume(ctx)
	if err != nil {
		t.Fatal(err)
	}
	say := func(m *storev1.ConsumeRequest) {
		t.Helper()
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Join{Join: &storev1.ConsumeJoin{Group: "audit", Member: "worker", Capacity: 16}}})
	say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Credits{Credits: 1 << 20}})
	var asked []map[string]uint64 // what was acknowledged before each flush that is not answered yet
	flush := func() {
		asked = append(asked, maps.Clone(c.sure))
		say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Flush{Flush: &storev1.ConsumeFlush{}}})
	}
	for n := 0; n < most && (c.left > 0 || len(asked) > 0); {
		m, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case m.GetSettled() != nil:
			c.durable, asked = asked[0], asked[1:]
		case m.GetLost() != nil:
			t.Fatalf("too late: %v", m)
		case m.GetDelivery() != nil:
			c.take(t, m.GetDelivery())
			say(&storev1.ConsumeRequest{Kind: &storev1.ConsumeRequest_Ack{Ack: &storev1.ConsumeAck{Ids: []uint64{m.GetDelivery().GetId()}}}})
			if n++; c.left == 0 || random.IntN(25) == 0 {
				flush()
			}
		}
	}
}

// take judges a delivery.
func (c *ledgerConsumer) take(t *testing.T, d *storev1.GroupDelivery) {
	t.Helper()
	e := d.GetEvent()
	id, v := e.GetStreamId(), e.GetVersion()
	switch {
	case e.GetCategory() != "ledger":
		t.Fatalf("the group got an event of %s", e.GetCategory())
	case v <= c.sure[id]:
		t.Fatalf("version %d of ledger %s came again, though %d was acknowledged, and nothing has crashed since or a checkpoint had it", v, id, c.sure[id])
	case v > c.done[id]+1:
		t.Fatalf("version %d of ledger %s came after %d", v, id, c.done[id])
	case v <= c.done[id]:
		c.again++
		c.left += int(c.done[id] - v + 1)
	}
	c.done[id], c.sure[id] = v, v
	c.left--
}
