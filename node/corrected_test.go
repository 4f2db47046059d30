package node

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/checkout"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/returns"
	"github.com/tributary-es/tributary/commerce/views"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/keyfile"
	"github.com/tributary-es/tributary/eventstore/memstore"
	"github.com/tributary-es/tributary/eventstore/sealed"
	"github.com/tributary-es/tributary/internal/hlc"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/counting"
	"github.com/tributary-es/tributary/projections/memview"
)

var long = flag.Bool("long", false, "run the long form of tests")

// shopSite is a site of the shop, in memory, with read models that are kept event by event.
type shopSite struct {
	name string
	log  *memstore.Store  // with events as they are recorded
	open eventstore.Store // the same, with what is personal opened, where it is sealed
	bus  *commands.Bus
	now  time.Time
	keys projections.Projection[projections.Keys]
	rows projections.Projection[projections.Rows]

	keysKept *memview.Keys
	rowsKept *memview.Rows
}

// newShopSite returns a site; without keys no order says whom it is delivered to.
func newShopSite(t testing.TB, name string, keys *keyfile.File) *shopSite {
	t.Helper()
	s := &shopSite{name: name, now: time.UnixMilli(1_300_000_000_000)}
	s.log = memstore.New(memstore.Options{LogID: eventstore.LogID{Site: name, Incarnation: 1}, Clock: hlc.New(func() time.Time { return s.now })})
	s.open = s.log
	if keys != nil {
		s.open = sealed.New(s.log, keys, keys.ID().String())
	}
	s.bus = commands.NewBus(s.open, commands.Options{})
	if err := errors.Join(checkout.Register(s.bus), commands.Register(s.bus, leaflets(), any(leaflet{}))); err != nil {
		t.Fatal(err)
	}
	s.keys, s.rows = withLeaflets(views.Keys()), views.Rows()
	s.keys.History, s.rows.History = counting.New(s.open, rulesOf(s.bus)), counting.New(s.open, rulesOf(s.bus))
	s.keysKept, s.rowsKept = memview.NewKeys(s.keys), memview.NewRows(s.rows)
	return s
}

// follow brings the kept models up to the log's end.
func (s *shopSite) follow(t testing.TB) {
	t.Helper()
	if state, err := s.log.Log(t.Context()); err != nil || state.Durable.LSN == 0 {
		return // nothing to fold
	}
	for _, sink := range []projections.Sink{s.keysKept, s.rowsKept} {
		if err := projections.Replay(t.Context(), s.open, sink, projections.Cursor{}); err != nil {
			t.Fatal(err)
		}
	}
	if parked, _ := s.keysKept.Parked(t.Context()); len(parked)+len(s.rowsKept.Parked()) > 0 {
		t.Fatalf("%s has parked %v and %v", s.name, parked, s.rowsKept.Parked())
	}
}

// take has the site take in up to count events of another one's log, and returns how many it has.
func (s *shopSite) take(t testing.TB, from *shopSite, count int) (taken int) {
	t.Helper()
	log := eventstore.LogID{Site: from.name, Incarnation: 1}
	heads, err := s.log.Heads(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	after := uint64(0)
	for _, h := range heads {
		if h.Log == log {
			after = h.Seq
		}
	}
	var events []eventstore.Recorded
	for e, err := range from.log.ReadLog(t.Context(), log, after) {
		if err != nil {
			t.Fatal(err)
		}
		// What the event was decided with comes first, as a core sees to it.
		for _, d := range e.Dep {
			if d.Log.Site != s.name && !slices.ContainsFunc(heads, func(h eventstore.LogHead) bool { return h.Log == d.Log && h.Seq >= d.Seq }) {
				count = 0
			}
		}
		if len(events) >= count && (len(events) == 0 || events[len(events)-1].EndsBatch()) {
			break
		}
		events = append(events, e)
	}
	if len(events) > 0 {
		if _, err := s.log.Receive(t.Context(), events); err != nil {
			t.Fatal(err)
		}
	}
	return len(events)
}

// act has the site decide a command that another one may decide too, or contradict.
func (s *shopSite) act(t testing.TB, r *rand.Rand) {
	t.Helper()
	s.now = s.now.Add(time.Duration(r.IntN(4)) * time.Millisecond)
	id, code := fmt.Sprintf("O-%d", r.IntN(6)), fmt.Sprintf("C-%d", r.IntN(2))
	back := "R" + id[1:]
	gbp := func() money.Amount { return money.MustParse(fmt.Sprintf("%d.25", 1+r.IntN(9)), "GBP") }
	var cmd any
	switch r.IntN(18) {
	case 0, 1, 2:
		place := order.Place{ID: id, CustomerID: fmt.Sprintf("%d", r.IntN(3)), Country: s.name, Currency: "GBP", At: s.now, Lines: []order.Line{
			{Number: 1, StockCode: code, Description: "from " + s.name, Quantity: 1 + r.Int64N(5), UnitPrice: gbp()},
		}}
		if s.open != eventstore.Store(s.log) && r.IntN(2) == 0 {
			place.Delivery = &order.Contact{Name: "Anna", City: s.name}
		}
		cmd = place
	case 3, 4:
		cmd = order.Confirm{ID: id, At: s.now}
	case 5:
		cmd = order.Ship{ID: id, At: s.now}
	case 6:
		cmd = order.Cancel{ID: id, Reason: "no more", At: s.now}
	case 7:
		cmd = inventory.Receive{Code: code, Quantity: 1 + r.Int64N(20), At: s.now}
	case 8:
		cmd = inventory.Try{Code: code, Reservation: id, Quantity: 1 + r.Int64N(3), At: s.now}
	case 9:
		cmd = inventory.Confirm{Code: code, Reservation: id, At: s.now}
	case 10:
		cmd = payment.Authorize{ID: id, OrderID: id, Amount: gbp(), Method: s.name, At: s.now}
	case 11:
		cmd = payment.Capture{ID: id, At: s.now}
	case 12:
		cmd = payment.Void{ID: id, Reason: "none", At: s.now}
	case 13, 14:
		cmd = returns.Receive{ID: back, CustomerID: "1", Country: s.name, Currency: "GBP", At: s.now, Lines: []returns.Line{
			{Number: 1, StockCode: code, Description: "from " + s.name, Quantity: 1 + r.Int64N(5), UnitPrice: gbp()},
		}}
	case 15:
		cmd = returns.Complete{ID: back, At: s.now}
	case 16, 17:
		cmd = leaflet{fmt.Sprintf("L-%d", r.IntN(2)), fmt.Sprintf("by %s; ", s.name)}
	}
	_, err := s.bus.Dispatch(t.Context(), commands.Meta{}, cmd)
	if conflicted := (*commands.ConflictedError)(nil); errors.As(err, &conflicted) {
		keep := conflicted.Branches[r.IntN(len(conflicted.Branches))]
		_, err = s.bus.Dispatch(t.Context(), commands.Meta{}, commands.Settle{Category: leafletCategory, ID: conflicted.Stream.ID, Keep: keep})
	}
	if err != nil && !errors.Is(err, eventstore.ErrConflict) && eventstore.ClassOf(err) != eventstore.Rejected {
		t.Fatalf("%s: %T: %v", s.name, cmd, err)
	}
}

// netOf has what the tables come to, whatever the positions of their rows: how often each stands there, less how often it was
// taken back.
func netOf(rows *memview.Rows) map[string]int {
	out := map[string]int{}
	for _, table := range rows.Tables() {
		for _, row := range rows.Table(table) {
			key := fmt.Sprint(table, row.Values)
			if out[key] += int(row.Sign); out[key] == 0 {
				delete(out, key)
			}
		}
	}
	return out
}

// all has every value of a model that all sites have: whom goods are delivered to can be read where the order was placed.
func all(keys *memview.Keys) map[string]projections.Value {
	out := map[string]projections.Value{}
	for key, v := range keys.All() {
		if !strings.HasPrefix(key, "personal:") {
			out[key] = v
		}
	}
	return out
}

// checkRebuilt compares the kept models with those that the log gives when it is folded anew.
func (s *shopSite) checkRebuilt(t testing.TB) {
	t.Helper()
	again := &shopSite{name: s.name, log: s.log, open: s.open, bus: s.bus, keysKept: memview.NewKeys(s.keys), rowsKept: memview.NewRows(s.rows)}
	again.follow(t)
	for i, pair := range [][2]projections.Sink{{s.keysKept, again.keysKept}, {s.rowsKept, again.rowsKept}} {
		kept, err1 := pair[0].Digest(t.Context())
		rebuilt, err2 := pair[1].Digest(t.Context())
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if kept != rebuilt {
			t.Fatalf("%s: kept and rebuilt models differ (%d): %s", s.name, i, cmp.Diff(all(s.keysKept), all(again.keysKept)))
		}
	}
}

// checkStates compares the kept models with the states of the aggregates.
func (s *shopSite) checkStates(t testing.TB) {
	t.Helper()
	ctx := context.Background()
	counts := map[string]int64{}
	for i := range 6 {
		id := fmt.Sprintf("O-%d", i)
		state, version, err := commands.Load(ctx, s.open, order.Aggregate(), eventstore.DefaultTenant, id)
		if err != nil {
			t.Fatal(err)
		}
		fields := s.keysKept.Value("order:" + id).Hash
		if fields["status"] != string(state.Status) {
			t.Fatalf("%s: order %s is %q, its state says %q", s.name, id, fields["status"], state.Status)
		}
		if state.Status == order.None {
			continue
		}
		counts[string(state.Status)]++
		if fields["version"] != fmt.Sprint(version) || fields["customer_id"] != state.CustomerID {
			t.Fatalf("%s: order %s is at version %s of customer %q, want %d of %q", s.name, id, fields["version"], fields["customer_id"], version, state.CustomerID)
		}
		if p := state.Placed; p != nil && (fields["total"] != p.Total || fields["country"] != p.Country) {
			t.Fatalf("%s: order %s is %v, its state says %+v", s.name, id, fields, p)
		}
		if got, want := s.linesOf(id), state.Status != order.Cancelled; (got != 0) != want {
			t.Fatalf("%s: order %s is %s and has lines of %d in the table", s.name, id, state.Status, got)
		}
	}
	got, err := views.Queries{Keys: s.keysKept}.OrderCounts(ctx)
	if err != nil || !cmp.Equal(got, counts) {
		t.Fatalf("%s: there are %v orders, %v, the states say %v", s.name, got, err, counts)
	}
	for i := range 2 {
		code := fmt.Sprintf("C-%d", i)
		state, version, err := commands.Load(ctx, s.open, inventory.Aggregate(), eventstore.DefaultTenant, code)
		if err != nil {
			t.Fatal(err)
		}
		fields := s.keysKept.Value("stock:" + code).Hash
		if version > 0 && (fields["on_hand"] != fmt.Sprint(state.OnHand) || fields["reserved"] != fmt.Sprint(state.Reserved)) {
			t.Fatalf("%s: stock %s is %v, its state has %d and %d", s.name, code, fields, state.OnHand, state.Reserved)
		}
	}
	s.checkPayments(t)
	s.checkReturns(t)
	s.checkLeaflets(t)
}

// checkReturns wants the lines of each return that there is once.
func (s *shopSite) checkReturns(t testing.TB) {
	t.Helper()
	for i := range 6 {
		id, lines := fmt.Sprintf("R-%d", i), 0
		state, _, err := commands.Load(t.Context(), s.open, returns.Aggregate(), eventstore.DefaultTenant, id)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range s.rowsKept.Table("order_lines") {
			if row.Values[0] == "return" && row.Values[1] == id {
				lines += int(row.Sign)
			}
		}
		if (lines == 1) != (state.Status != returns.None) || lines > 1 {
			t.Fatalf("%s: return %s is %q and has %d lines in the table", s.name, id, state.Status, lines)
		}
	}
}

// linesOf sums up the lines of an order in the table.
func (s *shopSite) linesOf(id string) (n int) {
	for _, row := range s.rowsKept.Table("order_lines") {
		if row.Values[0] == "order" && row.Values[1] == id {
			n += int(row.Sign)
		}
	}
	return n
}

// checkPayments compares the table of payments with what counts in their streams.
func (s *shopSite) checkPayments(t testing.TB) {
	t.Helper()
	want := map[string]int{}
	for i := range 6 {
		var events []eventstore.Recorded
		for e, err := range s.open.Read(t.Context(), eventstore.Stream(payment.Category, fmt.Sprintf("O-%d", i)), 1) {
			if err != nil {
				t.Fatal(err)
			}
			events = append(events, e)
		}
		_, j, err := commands.Fold(payment.Aggregate(), events)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			if !slices.ContainsFunc(j.Void, func(v commands.Void) bool { return v.Event == e.Dot }) {
				want[e.Type]++
			}
		}
	}
	got := map[string]int{}
	for _, row := range s.rowsKept.Table("payments") {
		kind := row.Values[2].(string)
		if got["payment."+kind+".v1"] += int(row.Sign); got["payment."+kind+".v1"] == 0 {
			delete(got, "payment."+kind+".v1")
		}
	}
	if !cmp.Equal(got, want) {
		t.Fatalf("%s: the table has %v, of the streams %v counts", s.name, got, want)
	}
}

// TestSitesHaveTheSameModels shows P9 and I13: sites that decide what contradicts itself, and hear of each other late and in
// any order, come to the same read models, which are those of a fold of the log and of the states of the aggregates.
func TestSitesHaveTheSameModels(t *testing.T) {
	rounds := 60
	if *long {
		rounds = 3000
	}
	keys := map[string]*keyfile.File{}
	for _, name := range []string{"bj", "sh", "sz"} {
		file, err := keyfile.Open(t.TempDir(), keyfile.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		keys[name] = file
	}
	void, picked, delivered, returned := 0, 0, 0, 0
	for seed := range uint64(rounds) {
		r := rand.New(rand.NewPCG(seed, 39))
		sites := []*shopSite{newShopSite(t, "bj", keys["bj"]), newShopSite(t, "sh", keys["sh"]), newShopSite(t, "sz", keys["sz"])}
		for range 60 + r.IntN(60) {
			s, other := sites[r.IntN(3)], sites[r.IntN(3)]
			switch r.IntN(8) {
			case 0:
				if s != other {
					s.take(t, other, 1+r.IntN(12))
				}
			case 1:
				s.follow(t)
			default:
				s.act(t, r)
			}
		}
		for taken := 1; taken > 0; { // until nobody lacks anything
			taken = 0
			for _, i := range r.Perm(9) {
				if i/3 != i%3 {
					taken += sites[i/3].take(t, sites[i%3], 1000)
				}
			}
		}
		for _, s := range sites {
			s.follow(t)
			s.checkRebuilt(t)
			s.checkStates(t)
		}
		for _, s := range sites[1:] {
			if diff := cmp.Diff(all(sites[0].keysKept), all(s.keysKept)); diff != "" {
				t.Fatalf("seed %d: keys of bj and %s differ:\n%s", seed, s.name, diff)
			}
			if diff := cmp.Diff(netOf(sites[0].rowsKept), netOf(s.rowsKept)); diff != "" {
				t.Fatalf("seed %d: rows of bj and %s differ:\n%s", seed, s.name, diff)
			}
		}
		for _, row := range sites[0].rowsKept.Table("order_changes") {
			if row.Sign < 0 {
				void++
			}
		}
		picked += sites[0].picked(t)
		for key, v := range sites[0].keysKept.All() {
			if strings.HasPrefix(key, "personal:") {
				delivered += len(v.Hash)
			}
		}
		for _, row := range sites[0].rowsKept.Table("order_lines") {
			if row.Values[0] == "return" && row.Sign < 0 {
				returned++
			}
		}
	}
	t.Logf("%d changes of orders and %d returns were taken back, %d branches picked, %d deliveries can be read", void, returned, picked, delivered)
	if picked < rounds/4 || delivered < rounds/2 || returned < rounds/2 {
		t.Errorf("in %d rounds: %d branches picked, %d deliveries, %d returns taken back", rounds, picked, delivered, returned)
	}
	if void < rounds {
		t.Errorf("%d changes of orders were taken back in %d rounds: the sites do not contradict each other", void, rounds)
	}
}
