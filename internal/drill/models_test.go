package drill

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// showing is a server that shows what it was given.
type showing struct {
	commerceapiv1.UnimplementedQueryServiceServer
	apiv1.UnimplementedAdminServiceServer

	position string // that all answers stand at
	orders   map[string]*commerceapiv1.Order
	lists    map[string][]string // ids of the orders of a customer
	stock    map[string]*commerceapiv1.Stock
	sales    map[string]*commerceapiv1.SalesRow // by group, one each
	tables   map[string]string                  // what ClickHouse says of a table
}

func newShowing(position string) *showing {
	order := func(id, customer, status string) *commerceapiv1.Order {
		return &commerceapiv1.Order{Id: id, CustomerId: customer, Status: status, Country: "France", Total: "4.25", Version: 2}
	}
	return &showing{
		position: position,
		orders:   map[string]*commerceapiv1.Order{"1": order("1", "anna", "created"), "2": order("2", "anna", "shipped"), "3": order("3", "", "created")},
		lists:    map[string][]string{"anna": {"2", "1"}},
		stock:    map[string]*commerceapiv1.Stock{"CUP": {StockCode: "CUP", OnHand: 5, Reserved: 1}, "MUG": {StockCode: "MUG", OnHand: 7}},
		sales: map[string]*commerceapiv1.SalesRow{
			"by-day": {Key: "2011-01-01", Net: "8.5"}, "by-month": {Key: "2011-01", Net: "8.5"}, "by-country": {Key: "France", Net: "8.5"}, "by-product": {Key: "CUP", Net: "8.5"},
		},
		tables: map[string]string{
			"order_lines": "1\torder\t1\tCUP\t1\n2\torder\t2\tCUP\t1\n2\torder\t2\tMUG\t1\n", "order_changes": "1\t1\tcreated\t1\n",
			"payments": "1\t1\tauthorized\t4.25\t1\n", "stock_movements": "CUP\treceived\t5\t1\nMUG\treceived\t7\t1\n",
		},
	}
}

func (s *showing) CountOrders(context.Context, *commerceapiv1.CountOrdersRequest) (*commerceapiv1.OrderCounts, error) {
	counts := &commerceapiv1.OrderCounts{ByStatus: map[string]int64{}, Position: s.position}
	for _, o := range s.orders {
		counts.ByStatus[o.GetStatus()]++
	}
	return counts, nil
}

func (s *showing) GetOrder(_ context.Context, r *commerceapiv1.GetOrderRequest) (*commerceapiv1.Order, error) {
	o, ok := s.orders[r.GetId()]
	if !ok {
		return nil, status.Error(codes.NotFound, "no such order")
	}
	o.Position = s.position
	return o, nil
}

// ListCustomerOrders has one order in each page.
func (s *showing) ListCustomerOrders(_ context.Context, r *commerceapiv1.ListCustomerOrdersRequest) (*commerceapiv1.ListCustomerOrdersResponse, error) {
	ids, at := s.lists[r.GetCustomerId()], len(r.GetPageToken())
	page := &commerceapiv1.ListCustomerOrdersResponse{Total: uint32(len(ids)), Position: s.position}
	if at < len(ids) {
		page.Orders = append(page.Orders, &commerceapiv1.Order{Id: ids[at], Position: s.position})
	}
	if at+1 < len(ids) {
		page.NextPageToken = strings.Repeat("x", at+1)
	}
	return page, nil
}

func (s *showing) GetStock(_ context.Context, r *commerceapiv1.GetStockRequest) (*commerceapiv1.Stock, error) {
	stock, ok := s.stock[r.GetStockCode()]
	if !ok {
		return nil, status.Error(codes.NotFound, "no such stock code")
	}
	stock.Position = s.position
	return stock, nil
}

func (s *showing) GetSales(_ context.Context, r *commerceapiv1.GetSalesRequest) (*commerceapiv1.Sales, error) {
	return &commerceapiv1.Sales{Rows: []*commerceapiv1.SalesRow{s.sales[r.GetGroup()]}, Position: s.position}, nil
}

func (s *showing) ListParked(context.Context, *apiv1.ListParkedRequest) (*apiv1.ListParkedResponse, error) {
	return &apiv1.ListParkedResponse{}, nil
}

// siteOf returns a site with a server that shows this, and with its tables.
func siteOf(t *testing.T, name string, shows *showing) *Site {
	t.Helper()
	s := &Site{Name: name, Data: t.TempDir(), opts: &Options{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	commerceapiv1.RegisterQueryServiceServer(server, shows)
	apiv1.RegisterAdminServiceServer(server, shows)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	s.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	tables := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sql, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		for table, rows := range shows.tables {
			if strings.Contains(string(sql), "tributary."+table+" ") {
				fmt.Fprint(w, rows)
				return
			}
		}
		http.Error(w, "no such table", http.StatusNotFound)
	}))
	t.Cleanup(func() {
		tables.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := s.conn.Close(); err != nil {
			t.Error(err)
		}
	})
	dir := filepath.Join(s.Data, "clickhouse")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ports"), fmt.Appendf(nil, "1\t%d\n", tables.Listener.Addr().(*net.TCPAddr).Port), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// What two sites show differently is found and named, though all sums are the same; at which position they stand is no difference.
func TestModelsAreCompared(t *testing.T) {
	held := holding(t, "bj")
	for _, id := range []string{"1", "2", "3"} {
		held.orders[id] = true
	}
	held.stock["CUP"], held.stock["MUG"] = nil, nil
	read := func(name string, shows *showing) ReadModel {
		t.Helper()
		m, err := siteOf(t, name, shows).readModel(t.Context(), held)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	base := read("bj", newShowing("1-100"))
	for _, c := range []struct {
		name  string
		spoil func(*showing)
		want  []string // what is named, by how it begins
	}{
		{"nothing", func(*showing) {}, nil},
		{"two orders the other way round", func(s *showing) {
			s.orders["1"].Status, s.orders["2"].Status = s.orders["2"].GetStatus(), s.orders["1"].GetStatus()
		}, []string{"order 1:", "order 2:"}},
		{"a total", func(s *showing) { s.orders["3"].Total = "4.26" }, []string{"order 3:"}},
		{"a version", func(s *showing) { s.orders["3"].Version++ }, []string{"order 3:"}},
		{"an order that is not there", func(s *showing) { delete(s.orders, "3") }, []string{"order 3:", "status created:"}},
		{"a list without its last order", func(s *showing) { s.lists["anna"] = []string{"2"} }, []string{"list of customer anna:"}},
		{"a list in another order", func(s *showing) { s.lists["anna"] = []string{"1", "2"} }, []string{"list of customer anna:"}},
		{"units of two stock codes", func(s *showing) { s.stock["CUP"].OnHand, s.stock["MUG"].OnHand = 7, 5 }, []string{"stock CUP:", "stock MUG:"}},
		{"units that are promised", func(s *showing) { s.stock["CUP"].Reserved = 0 }, []string{"stock CUP:"}},
		{"sales", func(s *showing) { s.sales["by-product"].Units++ }, []string{"sales by-product CUP:"}},
		{"a line that stands twice", func(s *showing) {
			s.tables["order_lines"] = strings.Replace(s.tables["order_lines"], "MUG\t1\n", "MUG\t2\n", 1)
		}, []string{"rows of order_lines 2:"}},
		{"a change that is not there", func(s *showing) { s.tables["order_changes"] = "" }, []string{"rows of order_changes 1:"}},
		{"a payment", func(s *showing) { s.tables["payments"] = "1\t1\tauthorized\t4.26\t1\n" }, []string{"rows of payments 1:"}},
		{"movements the other way round", func(s *showing) {
			s.tables["stock_movements"] = "CUP\treceived\t7\t1\nMUG\treceived\t5\t1\n"
		}, []string{"rows of stock_movements CUP:", "rows of stock_movements MUG:"}},
	} {
		shows := newShowing("3-7")
		c.spoil(shows)
		r := Report{Sites: []string{"bj", "sh"}, Conflicts: Conflicts{Total: 1, Equal: true}, LogsEqual: true}
		r.compare([]ReadModel{base, read("sh", shows)})
		r.judge()
		if r.Different != len(c.want) || len(r.Differences) != len(c.want) || len(r.Faults) != min(1, len(c.want)) {
			t.Errorf("%s: %d differences: %q; it is said %q", c.name, r.Different, r.Differences, r.Faults)
			continue
		}
		for i, want := range c.want {
			if !strings.HasPrefix(r.Differences[i], want+" bj shows ") {
				t.Errorf("%s: named is %q, want %s", c.name, r.Differences[i], want)
			}
		}
	}
	shows := newShowing("3-7")
	delete(shows.tables, "payments")
	if _, err := siteOf(t, "sh", shows).readModel(t.Context(), held); err == nil || !strings.Contains(err.Error(), "table payments") {
		t.Errorf("of a table that cannot be read it is said %v", err)
	}
}
