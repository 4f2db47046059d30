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
	shop := node.Shop()
	shop.Sagas = nil
	base, stop := shopServer(t, data, shop)
	placeNamed(t, base, "1")
	placeNamed(t, base, "2")
	if _, err := node.BackupKeys(config, filepath.Join(backups, "old")); err != nil {
		t.Fatal(err)
	}
	placeNamed(t, base, "3")
	if _, err := node.BackupKeys(config, filepath.Join(backups, "new")); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := os.Remove(filepath.Join(keys, "keys.slots")); err != nil {
		t.Fatal(err)
	}
	restoreKeys(t, config, filepath.Join(backups, "old"))
	_, stop = shopServer(t, data, shop)
	stop()
	if _, err := os.Stat(filepath.Join(keys, "keys.restored")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after a start the numbers are still not known: %v", err)
	}
	base, stop = shopServer(t, data, shop)
	placeNamed(t, base, "4")
	stop()
	restoreKeys(t, config, filepath.Join(backups, "new"))
	base, _ = shopServer(t, data, shop)
	for _, customer := range []string{"1", "2", "3", "4"} {
		if text := orderOf(t, base, customer); !strings.Contains(text, "Name of "+customer) {
			t.Errorf("the order of %s: %s", customer, text)
		}
	}
}

// placeNamed places an order A-CUSTOMER with personal data of a customer.
func placeNamed(t *testing.T, base, customer string) {
	t.Helper()
	a := call(t, "POST", base+"/v1/orders", mugs("A-"+customer, customer, 1, `,"delivery":{"name":"Name of `+customer+`"}`))
	if a.Status != http.StatusCreated {
		t.Fatalf("order of %s: %+v", customer, a)
	}
}

// orderOf returns the events of the order that placeNamed has placed.
func orderOf(t *testing.T, base, customer string) string {
	t.Helper()
	resp, err := http.Get(base + "/v1/streams/order/A-" + customer)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("the order of %s: HTTP %d, %s, %v", customer, resp.StatusCode, text, err)
	}
	return string(text)
}

func restoreKeys(t *testing.T, config node.Config, backup string) {
	t.Helper()
	f, err := os.Open(backup)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := node.RestoreKeys(config, f); err != nil {
		t.Fatal(err)
	}
}

// TestErasureWithKeysThatLackSome: where the key file lacks keys, or cannot read one, a subject that it does not know is erased
// when that is asked for. What the log has of it stays unreadable when a newer backup brings its key back. Shows E3.
func TestErasureWithKeysThatLackSome(t *testing.T) {
	for name, lose := range map[string]func(slots string, old []byte, restore func()) error{
		"an older backup is restored": func(slots string, _ []byte, restore func()) error {
			err := os.Remove(slots)
			restore()
			return err
		},
		"an older file is put back": func(slots string, old []byte, _ func()) error { return os.WriteFile(slots, old, 0o600) },
		"a slot is damaged": func(slots string, old []byte, _ func()) error {
			f, err := os.OpenFile(slots, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteAt([]byte("rot"), int64(len(old))+20) // the slot after those of the older file
			return errors.Join(err, f.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			data, backups := t.TempDir(), t.TempDir()
			config, slots := node.Config{Data: data}, filepath.Join(data, "keys", "keys.slots")
			shop := node.Shop()
			shop.Sagas = nil
			base, stop := shopServer(t, data, shop)
			placeWithBackup := func(customer, backup string) {
				t.Helper()
				placeNamed(t, base, customer)
				if _, err := node.BackupKeys(config, filepath.Join(backups, backup)); err != nil {
					t.Fatal(err)
				}
			}
			placeWithBackup("1", "old")
			old, err := os.ReadFile(slots)
			if err != nil {
				t.Fatal(err)
			}
			placeWithBackup("3", "new")
			stop()
			if err := lose(slots, old, func() { restoreKeys(t, config, filepath.Join(backups, "old")) }); err != nil {
				t.Fatal(err)
			}
			base, stop = shopServer(t, data, shop)
			if a := call(t, "DELETE", base+"/v1/subjects/3?reason=asked", ""); a.Status != http.StatusOK {
				t.Errorf("erase a subject with personal data in the log: %+v", a)
			}
			stop()
			restoreKeys(t, config, filepath.Join(backups, "new"))
			base, _ = shopServer(t, data, shop)
			for customer, readable := range map[string]bool{"1": true, "3": false} {
				if text := orderOf(t, base, customer); strings.Contains(text, "Name of "+customer) != readable {
					t.Errorf("with a newer backup the order of %s is %s; want its name there: %v", customer, text, readable)
				}
			}
		})
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
// asked for in advance; one that is erased stays so. A request that gives no reason is told so, whoever it is about.
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
	for _, query := range []string{"1", "17851", "17851?in_advance=true", "1?reason=%20"} {
		if a := call(t, "DELETE", base+"/v1/subjects/"+query, ""); a.Status != 400 || !strings.Contains(a.Detail, "reason is missing") {
			t.Errorf("erase %s without a reason: %+v, want HTTP 400 that says what is missing", query, a)
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
