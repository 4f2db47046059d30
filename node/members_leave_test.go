package node

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// A site that is about to leave takes no writes, and the others are told so, but those that give away what it alone may use. Who asks
// again has it go on, and who does not has it stay.
func TestLeaverTakesNoWritesButGives(t *testing.T) {
	n, stop := runAlone(t, filepath.Join(t.TempDir(), "data"))
	defer stop()
	ctx, m := t.Context(), members{n: n}
	receive := func(ctx context.Context, reference string) error {
		_, err := n.bus.Dispatch(ctx, commands.Meta{}, inventory.Receive{Code: "MUG", Quantity: 5, Reference: reference, At: time.Now()})
		return err
	}
	give := func() (*sitesv1.LeaveSiteResponse, error) {
		t.Helper()
		if err := n.sites.retire(ctx, "it is not wanted", n.cells.registrar.Roster); err != nil {
			t.Fatal(err)
		}
		out := &sitesv1.LeaveSiteResponse{}
		return out, m.giveAway(ctx, out, []string{"sh"})
	}
	if err := receive(ctx, "1"); err != nil {
		t.Fatal(err)
	}
	fails := errors.New("it cannot be given")
	n.domains = append(n.domains, joined{Domain: Domain{Leave: func(context.Context, *Parts, []string) (given, kept string, err error) {
		return "", "", fails
	}}})
	if _, err := give(); !errors.Is(err, fails) {
		t.Errorf("giving away ends with %v", err)
	}
	if err := receive(ctx, "2"); !errors.Is(err, eventstore.ErrReadOnly) || !strings.Contains(err.Error(), "it is not wanted") || !strings.Contains(err.Error(), "readonly off") {
		t.Errorf("a site that is about to leave answers a write with %v", err)
	}
	if s := n.sites.service.ReadOnly(); !strings.Contains(s, "it is not wanted") {
		t.Errorf("the others are told that it takes no writes because of %q", s)
	}
	if _, err := m.SetReadOnly(ctx, &sitesv1.SetReadOnlyRequest{}); err != nil {
		t.Fatal(err)
	}
	if err := receive(ctx, "3"); err != nil {
		t.Errorf("a site that stays after all answers a write with %v", err)
	}
	n.domains = n.domains[:len(n.domains)-1]
	if out, err := give(); err != nil || len(out.GetGiven()) != 1 || !strings.HasPrefix(out.GetGiven()[0], "5 units") {
		t.Errorf("asked again it has given %q (%v), want the 5 units that came in since", out.GetGiven(), err)
	}
	s, _, _, err := commands.LoadHere(ctx, n.bus, inventory.Aggregate(), "", "MUG")
	if err != nil || s.Available() != 0 || s.Books().Rights("sh") != 10 {
		t.Errorf("%d units are left, and sh has %d (%v)", s.Available(), s.Books().Rights("sh"), err)
	}
}

// What gives away is written by a site that is about to leave, and by no other that takes no writes.
func TestReadOnlyTakesWhatGivesAway(t *testing.T) {
	request := requestFor("stock")
	for name, c := range map[string]struct {
		note  readOnlyNote
		gives bool
		says  string
	}{
		"an operator says so":  {readOnlyNote{Reason: "its disk is changed"}, false, "readonly off"},
		"it is about to leave": {readOnlyNote{Reason: hasLeft + "it is moved"}, true, "sites leave, asked again"},
		"it has left":          {readOnlyNote{Reason: hasLeft + "it is moved", Left: true}, false, "sites join"},
	} {
		r := &readOnly{}
		r.kept.Store(&c.note)
		for _, asked := range []struct {
			ctx   context.Context
			takes bool
		}{{t.Context(), false}, {givesAway(t.Context()), c.gives}} {
			if err := r.refuses(asked.ctx, &request); (err == nil) != asked.takes || err != nil && (!errors.Is(err, eventstore.ErrReadOnly) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%s: it answers %v, want that it takes it: %v", name, err, asked.takes)
			}
		}
	}
}

// A site that does not know yet that it takes part is not asked to leave in vain: it takes writes as before, and is told to ask again.
func TestLeaveBeforeTheSiteIsOnRecord(t *testing.T) {
	n, err := Open(t.Context(), Config{Data: t.TempDir(), Kafka: Off, ClickHouse: Off, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}()
	leave := &sitesv1.LeaveSiteRequest{Site: n.config.Site, Reason: "it is not wanted"}
	if _, err := (members{n: n}).LeaveSite(t.Context(), leave); !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("a site without others leaves: %v", err)
	}
	n.sites.site = &replication.Site{} // there are others
	defer func() { n.sites.site = nil }()
	if _, err := (members{n: n}).LeaveSite(t.Context(), leave); !errors.Is(err, eventstore.ErrUnavailable) || n.sites.readOnly.reason() != "" {
		t.Errorf("it leaves: %v; it takes no writes because of %q", err, n.sites.readOnly.reason())
	}
}
