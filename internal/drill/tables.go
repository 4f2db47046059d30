package drill

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/tributary-es/tributary/internal/engine"
)

// shopTables are the tables that the shop's projection writes, each with the column that says what a row is of.
var shopTables = []struct{ name, key string }{
	{"order_lines", "document"}, {"order_changes", "order_id"}, {"payments", "payment_id"}, {"stock_movements", "stock_code"},
}

// tables reads what stands in the tables: each row as often as it stands there, less how often it was taken back. Where and in which
// order it was written is the site's own.
func (r *modelReader) tables(ctx context.Context) error {
	db, err := r.site.clickHouse()
	if err != nil {
		return err
	}
	for _, t := range shopTables {
		id, rows := "", strings.Builder{}
		sql := fmt.Sprintf("SELECT toString(%s) AS id, * EXCEPT (position, row, sign), sum(sign) AS times FROM %s.%s GROUP BY ALL HAVING times != 0 ORDER BY ALL FORMAT TSV",
			t.key, db.database, t.name)
		flush := func() {
			if rows.Len() > 0 {
				r.show("rows of "+t.name, id, rows.String())
				rows.Reset()
			}
		}
		err := db.lines(ctx, sql, func(line string) {
			of, row, _ := strings.Cut(line, "\t")
			if of != id {
				flush()
				id = of
			}
			rows.WriteString(row + "\n")
		})
		if err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
		flush()
	}
	return nil
}

// tableServer is where the tables of a site are.
type tableServer struct{ addr, user, password, database string }

// clickHouse returns where the site's tables are.
func (s *Site) clickHouse() (tableServer, error) {
	if s.click != nil {
		return tableServer{s.click.HTTPAddr(), s.click.User(), s.click.Password(), realDatabase}, nil
	}
	dir := filepath.Join(s.Data, "clickhouse")
	user, password, err := engine.ClickHouseAccount(dir)
	if err != nil {
		return tableServer{}, err
	}
	addr, err := engine.ClickHouseHTTPAddr(dir)
	return tableServer{addr, user, password, "tributary"}, err
}

// lines runs a query and takes its answer line by line.
func (d tableServer) lines(ctx context.Context, sql string, take func(string)) error {
	// Without it an answer may begin well and end in an error.
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+d.addr+"/?wait_end_of_query=1", strings.NewReader(sql))
	if err != nil {
		return err
	}
	request.SetBasicAuth(d.user, d.password)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask clickhouse: %w", err)
	}
	defer func() { _ = response.Body.Close() }() // it is read to the end, or has failed
	if response.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(response.Body, 1000))
		if err != nil {
			return fmt.Errorf("ask clickhouse: %w", err)
		}
		return fmt.Errorf("ask clickhouse: %s: %s", response.Status, text)
	}
	scanner := bufio.NewScanner(response.Body)
	scanner.Buffer(nil, 16<<20)
	for scanner.Scan() {
		take(scanner.Text())
	}
	return scanner.Err()
}
