package node_test

import (
	"errors"
	"io"
	"io/fs"
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
