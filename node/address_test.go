package node

import "testing"

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
