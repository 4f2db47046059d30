package node_test

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/node"
)

// TestKeysFromAnOlderBackup: after the folder of the keys is lost and an older backup restored, whoever had a key since is
// not taken for someone else, and a newer backup brings it back. Shows E4.
func TestKeysFromAnOlderBackup(t *testing.T) {
	data, backups := t.TempDir(), t.TempDir()
	config := node.Config{Data: data}
	keys := filepath.Join(data, "keys")
	place := func(base, customer string) {
		t.Helper()
		a := call(t, "POST", base+"/v1/orders", mugs("A-"+customer, customer, 1, `,"delivery":{"name":"Name of `+customer+`"}`))
		if a.Status != 201 {
			t.Fatalf("order of %s: %+v", customer, a)
		}
	}
	shop := node.Shop()
	shop.Sagas = nil
	base, stop := shopServer(t, data, shop)
	place(base, "1")
	place(base, "2")
	if _, err := node.BackupKeys(config, filepath.Join(backups, "old")); err != nil {
		t.Fatal(err)
	}
	place(base, "3")
	if _, err := node.BackupKeys(config, filepath.Join(backups, "new")); err != nil {
		t.Fatal(err)
	}
	stop()
	restore := func(name string) {
		t.Helper()
		f, err := os.Open(filepath.Join(backups, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := node.RestoreKeys(config, f); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(keys, "keys.slots")); err != nil {
		t.Fatal(err)
	}
	restore("old")
	_, stop = shopServer(t, data, shop)
	stop()
	if _, err := os.Stat(filepath.Join(keys, "keys.restored")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a start the numbers are still not known: %v", err)
	}
	base, stop = shopServer(t, data, shop)
	place(base, "4")
	stop()
	restore("new")
	base, _ = shopServer(t, data, shop)
	for _, customer := range []string{"1", "2", "3", "4"} {
		resp, err := http.Get(base + "/v1/streams/order/A-" + customer)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK || !strings.Contains(string(text), "Name of "+customer) {
			t.Errorf("the order of %s: HTTP %d, %s", customer, resp.StatusCode, text)
		}
	}
}

// Keys are the server's to give: the store API takes none.
func TestStoreAPITakesNoKeys(t *testing.T) {
	base, _ := shopServer(t, t.TempDir(), node.Shop())
	for _, event := range []string{
		`{"type":"mine.x.v1","key_ref":99,"payload":"uqMJAXg="}`, `{"type":"mine.x.v1","payload":"uqMJAXg="}`, `{"type":"mine.x.v1","key_ref":99,"payload_json":"{}"}`,
	} {
		a := call(t, "POST", base+"/v1/store/append", `{"appends":[{"category":"mine","id":"1","events":[`+event+`]}]}`)
		if a.Status != http.StatusBadRequest {
			t.Errorf("%s: %+v, want it refused", event, a)
		}
	}
}

// TestErasingAnUnknownSubject: a reference that nothing personal was ever recorded of is not said to be erased, unless that is
// asked for in advance; one that is erased stays so.
func TestErasingAnUnknownSubject(t *testing.T) {
	shop := node.Shop()
	shop.Sagas = nil
	base, _ := shopServer(t, t.TempDir(), shop)
	erase := func(id, query string, status int) answer {
		t.Helper()
		a := call(t, "DELETE", base+"/v1/subjects/"+id+"?reason=asked"+query, "")
		if a.Status != status {
			t.Fatalf("erase %s%s: %+v, want HTTP %d", id, query, a, status)
		}
		return a
	}
	order := func(id, customer, more string, status int) {
		t.Helper()
		if a := call(t, "POST", base+"/v1/orders", mugs(id, customer, 1, more)); a.Status != status {
			t.Fatalf("order of %s: %+v, want HTTP %d", customer, a, status)
		}
	}
	const delivery = `,"delivery":{"name":"Ada"}`
	order("A-1", "1", delivery, 201)
	order("A-2", "2", "", 201)
	for _, nobody := range []string{"17851", "2"} { // orders of 2 have nothing personal
		if a := erase(nobody, "", 404); !strings.Contains(a.Detail, "nothing to erase") || !strings.Contains(a.Detail, nobody) {
			t.Errorf("erase %s: %+v", nobody, a)
		}
	}
	for range 2 {
		erase("1", "", 200)
		erase("2", "&in_advance=true", 200)
	}
	erase("2", "", 200)
	order("A-3", "2", delivery, 410)
	order("A-4", "2", "", 201)
}

// TestRestoreSaysWhichKeysItNeeds: a log with personal data is restored into a new folder; the report names their keys and where
// they are looked for, and keys cannot be restored before their master key, which the error says.
func TestRestoreSaysWhichKeysItNeeds(t *testing.T) {
	shop := node.Shop()
	shop.Sagas = nil
	data, backup, restored := t.TempDir(), filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "data")
	base, stop := shopServer(t, data, shop)
	if a := call(t, "POST", base+"/v1/orders", mugs("A-1", "1", 1, `,"delivery":{"name":"Ada"}`)); a.Status != 201 {
		t.Fatalf("order: %+v", a)
	}
	stop()
	if _, err := node.BackupKeys(node.Config{Data: data}, backup+".keys"); err != nil {
		t.Fatal(err)
	}
	if _, err := node.BackUpFolder(t.Context(), data, backup, slog.New(slog.DiscardHandler), func(_, _ uint64) {}); err != nil {
		t.Fatal(err)
	}
	r, err := node.Restore(t.Context(), node.RestoreConfig{Data: restored, From: backup, Logger: slog.New(slog.DiscardHandler)})
	if err != nil || r.KeyFile == "" || r.Keys != filepath.Join(restored, "keys") || r.KeysThere {
		t.Fatalf("restore: %+v, %v; want the keys that are missing", r, err)
	}
	bringBack := func() error {
		f, err := os.Open(backup + ".keys")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		_, err = node.RestoreKeys(node.Config{Data: restored}, f)
		return err
	}
	for what, err := range map[string]error{"keys restore": bringBack(), "a start": openFails(t, restored, shop)} {
		if err == nil || !strings.Contains(err.Error(), "master.key") {
			t.Errorf("%s without the master key: %v", what, err)
		}
	}
	if err := os.CopyFS(r.Keys, os.DirFS(filepath.Join(data, "keys"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(r.Keys, "keys.slots")); err != nil {
		t.Fatal(err)
	}
	if err := bringBack(); err != nil {
		t.Errorf("keys restore with the master key: %v", err)
	}
}

// openFails returns why a folder cannot be opened.
func openFails(t *testing.T, data string, d node.Domain) error {
	t.Helper()
	n, err := node.Open(t.Context(), node.Config{
		Data: data, HTTP: "127.0.0.1:0", GRPC: "127.0.0.1:0", Kafka: node.Off, ClickHouse: node.Off, Domains: []node.Domain{d}, Logger: slog.New(slog.DiscardHandler),
	})
	if err == nil {
		t.Fatal("it opens", n.Close())
	}
	return err
}
