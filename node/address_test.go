package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/eventstore"
)

func TestPasswordsAreLeftOut(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:6379":                      "127.0.0.1:6379",
		"user:secret@127.0.0.1:9000":          "127.0.0.1:9000",
		"redis://:se@cret@127.0.0.1:6379/0":   "redis://127.0.0.1:6379/0",
		"clickhouse://u:secret@h:9000/db?x=1": "clickhouse://h:9000/db",
		"clickhouse://h:9000?password=secret": "clickhouse://h:9000",
		"h:9000?username=u&password=secret":   "h:9000",
		"embedded":                            "embedded",
		"127.0.0.1:9092,127.0.0.1:9093":       "127.0.0.1:9092,127.0.0.1:9093",
	} {
		if got := withoutPassword(addr); got != want {
			t.Errorf("withoutPassword(%q) = %q, want %q", addr, got, want)
		}
	}
}

// TestWrongAddressesAreRefusedBeforeAnythingIsKept gives a new folder addresses of a wrong form: each is refused with the form
// that is taken, without its password, and the folder stays empty.
func TestWrongAddressesAreRefusedBeforeAnythingIsKept(t *testing.T) {
	for _, tt := range []struct {
		flag, addr, form string
		config           Config
	}{
		{"--kafka", "kafka", "HOST:PORT", Config{Kafka: "kafka"}},
		{"--kafka", "k:9092,", "HOST:PORT", Config{Kafka: "k:9092,"}},
		{"--kafka", "kafka://k:9092", "HOST:PORT", Config{Kafka: "kafka://k:9092"}},
		{"--kafka", "k:http", "1 and 65535", Config{Kafka: "k:http"}},
		{"--redis", "r", "redis://USER:PASSWORD@HOST:PORT/NUMBER", Config{Redis: "r"}},
		{"--redis", "r:0", "1 and 65535", Config{Redis: "r:0"}},
		{"--redis", "http://r:6379", "redis://USER:PASSWORD@HOST:PORT/NUMBER", Config{Redis: "http://r:6379"}},
		{"--redis", "redis://r:6379/one", "HOST:PORT/NUMBER", Config{Redis: "redis://u:secret@r:6379/one"}},
		{"--redis", "redis://r:port", "not a URL", Config{Redis: "redis://u:secret@r:port"}},
		{"--clickhouse", "http://c:8123", "clickhouse://USER:PASSWORD@HOST:PORT/DATABASE", Config{ClickHouse: "http://u:secret@c:8123"}},
		{"--clickhouse", "clickhouse://c:port", "not a URL", Config{ClickHouse: "clickhouse://u:secret@c:port"}},
		{"--clickhouse", "clickhouse://c:9000", "clickhouse://USER:PASSWORD@HOST:PORT/DATABASE", Config{ClickHouse: "clickhouse://c:9000?password=secret"}},
		{"--clickhouse", "clickhouse://c:9000/a-b", "plain name", Config{ClickHouse: "clickhouse://c:9000/a-b"}},
		{"--clickhouse", "c:99999", "1 and 65535", Config{ClickHouse: "c:99999"}},
	} {
		tt.config.Data = filepath.Join(t.TempDir(), "data")
		_, err := Open(t.Context(), tt.config)
		switch {
		case err == nil:
			t.Errorf("%s %s is taken", tt.flag, tt.addr)
		case !errors.Is(err, eventstore.ErrInvalid), !strings.Contains(err.Error(), tt.flag+" "+tt.addr), !strings.Contains(err.Error(), tt.form),
			strings.Contains(err.Error(), "secret"):
			t.Errorf("%s %s: %v; want the flag, %q and no password", tt.flag, tt.addr, err, tt.form)
		}
		if _, err := os.Stat(tt.config.Data); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s %s has left something in the folder", tt.flag, tt.addr)
		}
	}
	for _, c := range []Config{
		{Kafka: "k1:9092, k2:9092", Redis: "r:6379", ClickHouse: "c"},
		{Kafka: "[::1]:9092", Redis: "rediss://u:p@r:6379/3?read_timeout=3s", ClickHouse: "clickhouse://u:p@c/shop"},
		{Kafka: Off, Redis: Embedded, ClickHouse: "u:p@c:9440/shop_2"},
	} {
		c.Data = t.TempDir()
		if err := c.complete(); err != nil {
			t.Errorf("%+v is refused: %v", c, err)
		}
	}
}

// A taken port is found before a folder is made, which would be of a site by the name that was given for good.
func TestTakenPortLeavesNoFolder(t *testing.T) {
	taken := listen(t).Addr().String()
	data := filepath.Join(t.TempDir(), "data")
	for _, c := range []Config{{HTTP: taken, GRPC: "127.0.0.1:0"}, {HTTP: "127.0.0.1:0", GRPC: taken}} {
		c.Data, c.Kafka, c.ClickHouse = data, Off, Off
		var e *TakenError
		if _, err := Open(t.Context(), c); !errors.As(err, &e) || e.Addr != taken {
			t.Errorf("error is %v, want it to say that %s is taken", err, taken)
		}
	}
	if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder is there: %v", err)
	}
}
