package drill

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// holding returns the census of a site that holds events.
func holding(t *testing.T, site string, events ...*apiv1.Event) *Census {
	t.Helper()
	c := newCensus(site)
	for _, e := range events {
		if err := c.add(e); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// event is one of the log of a site.
func event(site string, seq int, command string) *apiv1.Event {
	return &apiv1.Event{Dot: fmt.Sprintf("shard-00@%s/1/%d", site, seq), Category: "thing", StreamId: "1", Type: "thing.v1", CommandId: command}
}

// moving is one that moves units of a stock code.
func moving(t *testing.T, site string, seq int, name string, m proto.Message) *apiv1.Event {
	t.Helper()
	payload, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	e := event(site, seq, "")
	e.Category, e.StreamId, e.Type, e.Payload = "inventory", "MUG-1", name, payload
	return e
}

// What is lost, done twice or done although it was refused is found, and nothing else.
func TestAudit(t *testing.T) {
	l := NewLedger()
	for _, key := range []string{"there", "two events", "at one site", "nowhere", "twice", "at both sites"} {
		l.Acknowledge(key, "bj")
	}
	l.note("no", "bj", refused)
	l.Refuse("no, and yet", "bj")
	l.note("who knows", "bj", unknown)
	all := []*apiv1.Event{
		event("bj", 1, "there"), event("bj", 2, "two events"), event("bj", 3, "two events"), event("bj", 4, "twice"), event("bj", 5, "no, and yet"),
		event("bj", 6, "twice"), event("bj", 7, "at both sites"), event("sh", 1, "at both sites"), event("sh", 2, "who knows"),
	}
	got := l.Audit([]*Census{holding(t, "bj", append(slices.Clone(all), event("bj", 8, "at one site"))...), holding(t, "sh", all...)})
	want := Commands{
		Acknowledged: 6, Refused: 2, Unanswered: 1, Found: 4, Lost: 2, Phantom: 1, Duplicated: 2, LostKeys: []string{"at one site", "nowhere"},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("found %+v\nwant  %+v", got, want)
	}
	if err := newCensus("bj").add(event("bj", 2, "")); err == nil {
		t.Error("a log that begins with its second event is taken for whole")
	}
}

// Sites that differ in anything that an event was born with have different logs.
func TestLogsAreCompared(t *testing.T) {
	one := holding(t, "bj", event("bj", 1, "a"), event("sh", 1, "b"))
	for name, other := range map[string]*Census{
		"the same":         holding(t, "sh", event("sh", 1, "b"), event("bj", 1, "a")),
		"another event":    holding(t, "sh", event("bj", 1, "c"), event("sh", 1, "b")),
		"one event less":   holding(t, "sh", event("bj", 1, "a")),
		"one event beyond": holding(t, "sh", event("bj", 1, "a"), event("sh", 1, "b"), event("sh", 2, "c")),
	} {
		equal := true
		for _, l := range Logs([]*Census{one, other}) {
			equal = equal && l.Equal
		}
		if equal != (name == "the same") {
			t.Errorf("%s: equal is %t", name, equal)
		}
	}
}

// Units are counted for each site: one that sells another's has oversold, though there are enough.
func TestStockIsCounted(t *testing.T) {
	received := moving(t, "bj", 1, "inventory.received.v1", &commercev1.InventoryReceived{Quantity: 5})
	sell := func(site string, seq int, units int64) []*apiv1.Event {
		return []*apiv1.Event{
			moving(t, site, seq, "inventory.reserved.v1", &commercev1.InventoryReserved{Reservation: "1", Quantity: units}),
			moving(t, site, seq+1, "inventory.confirmed.v1", &commercev1.InventoryConfirmed{Reservation: "1", Quantity: units}),
		}
	}
	moved := moving(t, "bj", 2, "inventory.rights_moved.v1", &commercev1.InventoryRightsMoved{To: "sh", Quantity: 2})
	for name, c := range map[string]struct {
		events []*apiv1.Event
		sold   int64
		ok     bool
	}{
		"all":                    {sell("bj", 2, 5), 5, true},
		"one more":               {sell("bj", 2, 6), 6, false},
		"those of another":       {sell("sh", 1, 1), 1, false},
		"those that it was sent": {append([]*apiv1.Event{moved}, sell("sh", 1, 2)...), 2, true},
		"more than it was sent":  {append([]*apiv1.Event{moved}, sell("sh", 1, 3)...), 3, false},
		"what it has sent away":  {append([]*apiv1.Event{moved}, sell("bj", 3, 4)...), 4, false},
	} {
		s := stockOf([]*Census{holding(t, "sz", append([]*apiv1.Event{received}, c.events...)...)})
		if s.Codes != 1 || s.Stocked != 5 || s.Sold != c.sold || (s.Oversold == 0) != c.ok {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// Each promise that does not hold is named, and none that does.
func TestJudge(t *testing.T) {
	good := func() Report {
		return Report{Commands: Commands{Acknowledged: 1, Found: 1}, LogsEqual: true, ReadModelsEqual: true, Conflicts: Conflicts{Total: 1, Equal: true}}
	}
	for want, spoil := range map[string]func(*Report){
		"lost": func(r *Report) { r.Commands.Lost = 1 }, "phantom": func(r *Report) { r.Commands.Phantom = 1 },
		"duplicated": func(r *Report) { r.Commands.Duplicated = 1 }, "diverged": func(r *Report) { r.LogsEqual = false },
		"conflicts": func(r *Report) { r.Conflicts.Equal = false }, "oversold": func(r *Report) { r.Stock.Oversold = 1 },
		"promised": func(r *Report) { r.Stock.Held = 1 }, "read models": func(r *Report) { r.ReadModelsEqual = false },
		"parked": func(r *Report) { r.ReadModels = map[string]ReadModel{"bj": {Parked: 1}} },
	} {
		r := good()
		if r.judge(); len(r.Faults) > 0 {
			t.Fatalf("of what is well it is said: %v", r.Faults)
		}
		spoil(&r)
		if r.judge(); len(r.Faults) != 1 || !strings.HasPrefix(r.Faults[0], want+":") {
			t.Errorf("%s: it is said %v", want, r.Faults)
		}
	}
}
