package api_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-es/tributary/commerce/api"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/queries"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// model is a read model that stands at a position, and reaches another after a time.
type model struct {
	at, later eventstore.Position
	after     time.Duration
	err       error
}

func (m *model) Position(context.Context) (eventstore.Position, error) { return m.at, m.err }

func (m *model) Await(ctx context.Context, p eventstore.Position) error {
	if m.at.Incarnation != p.Incarnation {
		return eventstore.ErrWrongIncarnation
	}
	if m.at.Compare(p) >= 0 {
		return nil
	}
	wait := m.after
	if m.later.Compare(p) < 0 {
		wait = time.Hour
	}
	select {
	case <-time.After(wait):
		m.at = m.later
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func at(lsn uint64) eventstore.Position { return eventstore.Position{Incarnation: 1, LSN: lsn} }

// shelf is a fake of the read models: a customer with n orders.
type shelf struct {
	orders int
	asked  api.SalesQuery
	err    error
}

func (s *shelf) Order(_ context.Context, id string) (*commerceapiv1.Order, error) {
	if s.err != nil {
		return nil, s.err
	}
	return &commerceapiv1.Order{Id: id, Version: 3}, nil
}

func (s *shelf) OrderCounts(context.Context) (map[string]int64, error) {
	return map[string]int64{"shipped": 2}, s.err
}

func (s *shelf) CustomerOrders(_ context.Context, _ string, offset, limit int) (out []*commerceapiv1.Order, total int, err error) {
	for i := offset; i < min(s.orders, offset+limit); i++ {
		out = append(out, &commerceapiv1.Order{Id: fmt.Sprint(i)})
	}
	return out, s.orders, s.err
}

func (s *shelf) Stock(_ context.Context, code string) (*commerceapiv1.Stock, error) {
	return &commerceapiv1.Stock{StockCode: code, OnHand: 4}, s.err
}

func (s *shelf) Sales(_ context.Context, q api.SalesQuery) ([]*commerceapiv1.SalesRow, error) {
	s.asked = q
	return []*commerceapiv1.SalesRow{{Key: "k"}}, s.err
}

func TestAnswersSayTheirPosition(t *testing.T) {
	q := &api.Queries{Views: &shelf{orders: 1}, Keys: &model{at: at(7)}, Rows: &model{at: at(5)}}
	for name, ask := range map[string]struct {
		do   func() (interface{ GetPosition() string }, error)
		want string
	}{
		"order": {func() (interface{ GetPosition() string }, error) {
			return q.GetOrder(t.Context(), &commerceapiv1.GetOrderRequest{Id: "A"})
		}, "1-7"},
		"counts": {func() (interface{ GetPosition() string }, error) {
			return q.CountOrders(t.Context(), &commerceapiv1.CountOrdersRequest{})
		}, "1-7"},
		"customer": {func() (interface{ GetPosition() string }, error) {
			return q.ListCustomerOrders(t.Context(), &commerceapiv1.ListCustomerOrdersRequest{CustomerId: "9"})
		}, "1-7"},
		"stock": {func() (interface{ GetPosition() string }, error) {
			return q.GetStock(t.Context(), &commerceapiv1.GetStockRequest{StockCode: "B"})
		}, "1-7"},
		"sales": {func() (interface{ GetPosition() string }, error) {
			return q.GetSales(t.Context(), &commerceapiv1.GetSalesRequest{Group: "by-day"})
		}, "1-5"},
	} {
		got, err := ask.do()
		if err != nil || got.GetPosition() != ask.want {
			t.Errorf("%s: position %q, want %s (%v)", name, got.GetPosition(), ask.want, err)
		}
	}
}

func TestQueriesWaitForAPosition(t *testing.T) {
	for name, tt := range map[string]struct {
		model *model
		after string
		want  string // of the answer's position
		check func(error) bool
		took  time.Duration
	}{
		"there already": {&model{at: at(7)}, "1-7", "1-7", nil, 0},
		"a moment":      {&model{at: at(7), later: at(9), after: time.Second}, "1-8", "1-9", nil, time.Second},
		"too long": {&model{at: at(7)}, "1-8", "", func(err error) bool {
			var late *queries.NotYetError
			return errors.As(err, &late) && late.NotYet() && late.At == at(7) && late.Want == at(8) && eventstore.ClassOf(err) == eventstore.Transient
		}, 5 * time.Second},
		"another log": {&model{at: at(7)}, "2-8", "", func(err error) bool { return errors.Is(err, eventstore.ErrWrongIncarnation) }, 0},
		"no position": {&model{at: at(7)}, "soon", "", func(err error) bool {
			return errors.Is(err, eventstore.ErrInvalid) && strings.Contains(err.Error(), "X-Read-After")
		}, 0},
		"rebuilding":       {&model{err: queries.ErrRebuilding}, "", "", func(err error) bool { return errors.Is(err, queries.ErrRebuilding) }, 0},
		"rebuilding, late": {&model{at: at(1), err: queries.ErrRebuilding}, "1-8", "", func(err error) bool { return errors.Is(err, queries.ErrRebuilding) }, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := &api.Queries{Views: &shelf{}, Keys: tt.model, Rows: tt.model}
				var pairs []string
				if tt.after != "" {
					pairs = []string{"x-read-after", tt.after}
				}
				begin := time.Now()
				o, err := q.GetOrder(call(t, pairs...), &commerceapiv1.GetOrderRequest{Id: "A"})
				if took := time.Since(begin); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
				if tt.check != nil && !tt.check(err) || tt.check == nil && err != nil || o.GetPosition() != tt.want {
					t.Errorf("position %q, want %q; error %v", o.GetPosition(), tt.want, err)
				}
			})
		})
	}
}

func TestCanceledWaitsSaySo(t *testing.T) {
	ctx, cancel := context.WithCancel(call(t, "x-read-after", "1-8"))
	cancel()
	q := &api.Queries{Views: &shelf{}, Keys: &model{at: at(7)}}
	if _, err := q.GetStock(ctx, &commerceapiv1.GetStockRequest{StockCode: "B"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCustomersOrdersArePaged(t *testing.T) {
	q := &api.Queries{Views: &shelf{orders: 45}, Keys: &model{at: at(7)}}
	var ids, pages []string
	for token := ""; ; {
		page, err := q.ListCustomerOrders(t.Context(), &commerceapiv1.ListCustomerOrdersRequest{CustomerId: "9", PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.GetOrders() {
			ids = append(ids, o.GetId())
			if o.GetPosition() != "1-7" {
				t.Errorf("order %s stands at %q", o.GetId(), o.GetPosition())
			}
		}
		if page.GetTotal() != 45 {
			t.Errorf("total %d", page.GetTotal())
		}
		pages = append(pages, fmt.Sprint(len(page.GetOrders())))
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if len(ids) != 45 || ids[0] != "0" || ids[44] != "44" || strings.Join(pages, " ") != "20 20 5" {
		t.Errorf("pages of %v, orders %v", pages, ids)
	}
}

func TestAPageTokenIsOfOneCustomer(t *testing.T) {
	q := &api.Queries{Views: &shelf{orders: 45}, Keys: &model{at: at(7)}}
	page, err := q.ListCustomerOrders(t.Context(), &commerceapiv1.ListCustomerOrdersRequest{CustomerId: "9"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = q.ListCustomerOrders(t.Context(), &commerceapiv1.ListCustomerOrdersRequest{CustomerId: "10", PageToken: page.GetNextPageToken()})
	if !errors.Is(err, eventstore.ErrInvalid) || !strings.Contains(err.Error(), "of another query") {
		t.Errorf("another customer's token: %v, want ErrInvalid", err)
	}
}

func TestSalesQueries(t *testing.T) {
	day := func(text string) time.Time {
		d, err := time.Parse(time.DateOnly, text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for name, tt := range map[string]struct {
		ask  *commerceapiv1.GetSalesRequest
		want api.SalesQuery
	}{
		"defaults": {&commerceapiv1.GetSalesRequest{Group: "by-month"}, api.SalesQuery{Group: api.SalesByMonth, Limit: 100}},
		"all": {
			&commerceapiv1.GetSalesRequest{Group: "by-product", From: "2011-01-01", To: "2011-01-31", Country: "EIRE", Limit: 10000, Offset: 7},
			api.SalesQuery{Group: api.SalesByProduct, From: day("2011-01-01"), To: day("2011-01-31"), Country: "EIRE", Limit: 10000, Offset: 7},
		},
	} {
		s := &shelf{}
		q := &api.Queries{Views: s, Rows: &model{at: at(7)}}
		if _, err := q.GetSales(t.Context(), tt.ask); err != nil || s.asked != tt.want {
			t.Errorf("%s: %v, asked %+v", name, err, s.asked)
		}
	}
}

func TestQueriesAreRefused(t *testing.T) {
	s := &shelf{}
	q := &api.Queries{Views: s, Keys: &model{at: at(7)}, Rows: &model{at: at(7)}}
	sales := func(r *commerceapiv1.GetSalesRequest) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := q.GetSales(ctx, r)
			return err
		}
	}
	orders := func(r *commerceapiv1.ListCustomerOrdersRequest) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := q.ListCustomerOrders(ctx, r)
			return err
		}
	}
	for name, tt := range map[string]struct {
		ask   func(context.Context) error
		words []string
	}{
		"no order": {func(ctx context.Context) error {
			_, err := q.GetOrder(ctx, &commerceapiv1.GetOrderRequest{})
			return err
		}, []string{"id is empty"}},
		"no code": {func(ctx context.Context) error {
			_, err := q.GetStock(ctx, &commerceapiv1.GetStockRequest{})
			return err
		}, []string{"stock_code is empty"}},
		"customer, size, token": {orders(&commerceapiv1.ListCustomerOrdersRequest{PageSize: 101, PageToken: "?"}), []string{"customer_id is empty", "page_size 101", `page token "?"`}},
		"token of another kind": {orders(&commerceapiv1.ListCustomerOrdersRequest{CustomerId: "9", PageToken: "b2Zmc2V0Oi0x"}), []string{"page token"}}, // offset:-1
		"group":                 {sales(&commerceapiv1.GetSalesRequest{Group: "by-week"}), []string{`group "by-week"`, "by-product"}},
		"days":                  {sales(&commerceapiv1.GetSalesRequest{Group: "by-day", From: "1.1.2011", To: "2011-02-30"}), []string{"from", "1.1.2011", "to", "2011-02-30"}},
		"order of days":         {sales(&commerceapiv1.GetSalesRequest{Group: "by-day", From: "2011-02-02", To: "2011-02-01"}), []string{"2011-02-01 is before from 2011-02-02"}},
		"rows":                  {sales(&commerceapiv1.GetSalesRequest{Group: "by-day", Limit: 10001}), []string{"limit 10001"}},
	} {
		err := tt.ask(t.Context())
		if !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range tt.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q is not said: %v", name, w, err)
			}
		}
	}
	if err := sales(&commerceapiv1.GetSalesRequest{Group: "by-day"})(call(t, "x-tenant", "acme")); !errors.Is(err, eventstore.ErrUnsupported) {
		t.Errorf("another tenant: %v", err)
	}
	if err := sales(&commerceapiv1.GetSalesRequest{Group: "by-day"})(call(t, "x-tenant", "default")); err != nil {
		t.Errorf("the default tenant, named: %v", err)
	}
	s.err = queries.ErrNotFound
	if _, err := q.GetOrder(t.Context(), &commerceapiv1.GetOrderRequest{Id: "X"}); !errors.Is(err, queries.ErrNotFound) || !strings.Contains(err.Error(), `order "X"`) {
		t.Errorf("no such order: %v", err)
	}
	q.Rows = nil
	if err := sales(&commerceapiv1.GetSalesRequest{Group: "by-day"})(t.Context()); !errors.Is(err, eventstore.ErrUnsupported) {
		t.Errorf("without tables: %v", err)
	}
}
