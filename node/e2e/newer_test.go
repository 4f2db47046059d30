package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/drill"
	"github.com/tributary-es/tributary/internal/testenv"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// newerCancelled is the name under which the newer program records that an order was cancelled.
const newerCancelled = "order.cancelled.v2"

// buildNewer builds a program that has another version of an event, and reads the one before.
func buildNewer(t *testing.T) string {
	t.Helper()
	texts := map[string]string{}
	change := func(path, from, to string) {
		t.Helper()
		path = filepath.Join(root, filepath.FromSlash(path))
		if texts[path] == "" {
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[path] = string(source)
		}
		if strings.Count(texts[path], from) != 1 {
			t.Fatalf("%s does not have %q once: the test has to be brought in line", path, from)
		}
		texts[path] = strings.Replace(texts[path], from, to, 1)
	}
	const former = `"order.cancelled.v1"`
	change("commerce/order/events.go", `CancelledV1 = `+former, `CancelledV1 = "`+newerCancelled+`"`)
	change("commerce/order/events.go", "&commercev1.OrderCancelled{},\n})",
		"&commercev1.OrderCancelled{},\n}, commands.UpcastProto("+former+", func(m *commercev1.OrderCancelled) (Event, error) { return m, nil }))")
	for _, path := range []string{"commerce/views/keys.go", "commerce/views/rows.go"} {
		change(path, "order.ShippedV1, order.CancelledV1,", "order.ShippedV1, order.CancelledV1, "+former+",")
		change(path, "case order.CancelledV1:", "case order.CancelledV1, "+former+":")
	}
	change("commerce/views/rebase.go", "e.Type != order.CancelledV1", "e.Type != order.CancelledV1 && e.Type != "+former)
	change("commerce/checkout/saga.go", "order.ShippedV1, order.CancelledV1}", "order.ShippedV1, order.CancelledV1, "+former+"}")
	change("commerce/checkout/saga.go", "r.Type != order.CancelledV1", "r.Type != order.CancelledV1 && r.Type != "+former)
	return buildOverlaid(t, texts)
}

// One of three sites is upgraded to a program that records an event under a version which the others do not know, while clients write at
// all of them. Those park it, with what comes after it in its stream, and go on with all else; nothing of it is lost, and what they have
// parked is applied when they are upgraded. One that is started again before that does not misread its log: it says which event it lacks.
// It is T24 of docs/reliability.md. Shows I15.
func TestNewerSite(t *testing.T) {
	if !*long {
		t.Skip("with -long: a newer program is built; projections.TestWhatOnlyANewerProgramKnows shows what is parked in the short form")
	}
	testenv.Ensure(t, "clickhouse")
	u := newUpgrading(t, drill.Options{Names: []string{"bj", "sh", "sz"}, Flags: homedLedger})
	newer, all := buildNewer(t), u.sites.All()
	u.replace(t, all[0], newer, func() {})
	u.comes(t, all[0])
	// There is nothing of this on stock, so that its checkout cancels the order.
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const cancelled = 10
	for i := range cancelled {
		key := fmt.Sprintf("none-%d", i)
		if err := placing(ctx, all[0], key, key, "NONE"); err != nil {
			t.Fatal(err)
		}
		u.ledger.Acknowledge(key, all[0].Name)
	}
	parked := 0
	for _, site := range all[1:] {
		eventually(t, "site "+site.Name+" has parked what it does not know", func() bool {
			return len(parkedAt(t, site).GetEvents()) == 2*cancelled // in Redis and ClickHouse
		})
		for _, e := range parkedAt(t, site).GetEvents() {
			parked++
			if e.GetType() != newerCancelled || !strings.Contains(e.GetReason(), "newer program") {
				t.Errorf("site %s has parked %v", site.Name, e)
			}
		}
	}
	u.more(t, 50)
	for _, site := range all { // other streams go on
		st, err := apiv1.NewAdminServiceClient(site.Conn()).GetStatus(t.Context(), &apiv1.GetStatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the read models of site "+site.Name+" follow", func() bool {
			now, err := apiv1.NewAdminServiceClient(site.Conn()).GetStatus(t.Context(), &apiv1.GetStatusRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range now.GetProjections() {
				if !reached(t, p.GetPosition(), st.GetDurable()) {
					return false
				}
			}
			return true
		})
	}
	u.replace(t, all[1], newer, func() {
		a := tributary(t, "schemas", "check", "--json", "--data", all[1].Data)
		if a.code != 4 || !strings.Contains(a.stdout, newerCancelled) {
			t.Errorf("the program of before looks at the log: exit code %d, %s %s", a.code, tail(a.stdout, 1000), tail(a.stderr, 1000))
		}
	})
	u.comes(t, all[1])
	u.replace(t, all[2], newer, func() {})
	u.comes(t, all[2])
	u.peersKeptUp(t)
	u.end(t, "three sites upgraded one by one to a program that records a newer version of an event, under load", map[string]any{"parked": parked, "of that applied after the upgrade": parked})
}

// reached reports whether a position is at or behind another one of the same log.
func reached(t *testing.T, at, want string) bool {
	t.Helper()
	a, err := eventstore.ParsePosition(at)
	if err != nil {
		t.Fatal(err)
	}
	w, err := eventstore.ParsePosition(want)
	if err != nil {
		t.Fatal(err)
	}
	return a.Compare(w) >= 0
}
