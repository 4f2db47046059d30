package e2e

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	columns = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
	goodRow = "536365,85123A,WHITE HANGING HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"
)

// TestMalformedInput: every verb that takes retail files refuses a bad one with code 2, names the file, the line and what is
// wrong, and has neither written nor fetched anything.
func TestMalformedInput(t *testing.T) {
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write([]byte(columns + strings.Repeat(goodRow, 1000))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, file, content string
		says                []string
	}{
		{"missing column", "a.csv", strings.Replace(columns, ",UnitPrice", "", 1) + goodRow, []string{"a.csv: line 1", "UnitPrice"}},
		{"bad number", "a.csv", columns + goodRow + strings.Replace(goodRow, ",6,", ",six,", 1), []string{"a.csv: line 3, Quantity", `"six"`}},
		{"bad price", "a.csv", columns + strings.Replace(goodRow, ",2.55,", ",2;55,", 1), []string{"a.csv: line 2, UnitPrice", `"2;55"`}},
		{"bad date", "a.csv", columns + strings.Replace(goodRow, "2010-12-01", "2010-13-01", 1), []string{"a.csv: line 2, InvoiceDate", "2010-13-01"}},
		{"bad UTF-8", "a.csv", columns + goodRow + strings.Replace(goodRow, "WHITE", "WH\xffTE", 1), []string{"a.csv: line 3, Description", "UTF-8"}},
		{"open quote", "a.csv", columns + goodRow + strings.Replace(goodRow, "WHITE", `"WHITE`, 1), []string{"a.csv: line 3", "quote"}},
		{"truncated gzip", "a.csv.gz", zipped.String()[:zipped.Len()/2], []string{"a.csv.gz", "gzip"}},
		{"empty file", "a.csv", "", []string{"a.csv", "empty"}},
		{"missing file", "", "", []string{"a.csv", "no such file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, "a.csv")
			if c.file != "" {
				path = filepath.Join(folder, c.file)
				if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			good := filepath.Join(folder, "good.csv")
			if err := os.WriteFile(good, []byte(columns+goodRow), 0o600); err != nil {
				t.Fatal(err)
			}
			data, engines := filepath.Join(folder, "data"), filepath.Join(folder, "engines")
			t.Setenv("TRIBUTARY_ENGINES", engines)
			for _, args := range [][]string{
				{"demo", "--once", "--json", "--data", data, "--input", good, "--input", path},
				{"import", "retail", "--json", "--data", data, good, path},
			} {
				a := tributary(t, args...)
				if a.code != 2 || a.stdout != "" {
					t.Errorf("%s: exit code %d, stdout %q; want 2 and nothing", args[0], a.code, a.stdout)
				}
				said := decoded[map[string]struct{ Message string }](t, a.stderr)["error"].Message
				for _, want := range c.says {
					if !strings.Contains(said, want) {
						t.Errorf("%s says %q, want it to name %q", args[0], said, want)
					}
				}
			}
			for _, made := range []string{data, engines} {
				if _, err := os.Stat(made); err == nil {
					t.Errorf("%s was made", made)
				}
			}
		})
	}
}

// TestNoData: verbs on a folder that holds no log say how to get one.
func TestNoData(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	for _, args := range [][]string{{"verify"}, {"rebuild", "shop-redis"}, {"events", "read"}, {"import", "retail", testdata(t, "three-decimals.csv")}} {
		a := tributary(t, append(args, "--data", data)...)
		if a.code != 2 || !strings.Contains(a.stderr, "tributary serve --data "+data) {
			t.Errorf("%v on no data: exit code %d, %q; want 2 and the line that makes some", args, a.code, a.stderr)
		}
		if _, err := os.Stat(data); err == nil {
			t.Errorf("%v made %s", args, data)
		}
	}
}

func TestDemoWantsAnEmptyFolder(t *testing.T) {
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "notes.txt"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := tributary(t, "demo", "--once", "--json", "--data", data, "--input", testdata(t, "three-decimals.csv"))
	if a.code != 2 || a.stdout != "" || !strings.Contains(a.stderr, data) || !strings.Contains(a.stderr, "notes.txt") {
		t.Errorf("exit code %d, stdout %q, stderr %q; want 2, and the folder named with what it holds", a.code, a.stdout, a.stderr)
	}
	if entries, err := os.ReadDir(data); err != nil || len(entries) != 1 {
		t.Errorf("the folder has %d entries, %v; want it untouched", len(entries), err)
	}
}

// TestMissingEngine: what needs ClickHouse and finds none ends with code 3 and the line that gets it; a server runs without
// it, and says so.
func TestMissingEngine(t *testing.T) {
	t.Setenv("TRIBUTARY_ENGINES", t.TempDir())
	a := tributary(t, "demo", "--once", "--json", "--data", filepath.Join(t.TempDir(), "data"), "--input", testdata(t, "three-decimals.csv"))
	if a.code != 3 || a.stdout != "" || !strings.Contains(a.stderr, "tributary setup") {
		t.Errorf("demo: exit code %d, stdout %q, stderr %q; want 3 and the line that gets it", a.code, a.stdout, a.stderr)
	}
	a = tributary(t, "doctor", "--json")
	if a.code != 3 || !strings.Contains(a.stderr, "tributary setup") || !strings.Contains(a.stdout, `"clickhouse"`) {
		t.Errorf("doctor: exit code %d, stdout %q, stderr %q; want 3, a report, and the line that gets it", a.code, a.stdout, a.stderr)
	}

	s := serve(t, t.TempDir())
	s.post(t, "/v1/stock/MUG-1/receive", `{"quantity": 10}`)
	eventually(t, "health names the missing engine", func() bool {
		resp, body := roundTrip(t, request(t, http.MethodGet, "http://"+s.http+"/v1/health", ""))
		return resp.StatusCode == http.StatusOK && strings.Contains(body, "tributary setup")
	})
	eventually(t, "sales are refused with the line that enables them", func() bool {
		resp, body := roundTrip(t, request(t, http.MethodGet, "http://"+s.http+"/v1/sales/by-month", ""))
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("sales without ClickHouse: %s: %s; want 503", resp.Status, body)
		}
		return strings.Contains(body, "tributary setup")
	})
	s.stop(t)
}

// TestWrongCommandLines: each is refused with code 2 and a word of what is wrong.
func TestWrongCommandLines(t *testing.T) {
	data := t.TempDir()
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"frobnicate"}, "frobnicate"},
		{[]string{"serve", "--data", data, "--http", "0.0.0.0:8080"}, "loopback"},
		{[]string{"serve", "--data", data, "--redis", "off"}, "--redis"},
		{[]string{"serve", "--data", data, "--source", "kafka", "--kafka", "off"}, "--source"},
		{[]string{"serve", "--data", data, "--site", "not a site"}, "site"},
		{[]string{"serve", "--data", data, "--clickhouse", "http://127.0.0.1"}, "--clickhouse"},
		{[]string{"setup", "oracle"}, "oracle"},
		{[]string{"bench", "append", "--clients", "0"}, "--clients"},
	} {
		a := tributary(t, c.args...)
		if a.code != 2 || !strings.Contains(a.stderr, c.says) {
			t.Errorf("%v: exit code %d, %q; want 2 and a word of %q", c.args, a.code, a.stderr, c.says)
		}
	}
}
