package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tributary-es/tributary/internal/testenv"
)

// embeddedSites are two sites whose brokers live and die with them.
func embeddedSites(t *testing.T) *twoSites {
	t.Helper()
	name := testenv.Unique(t)
	s := &twoSites{names: [2]string{name + "-a", name + "-b"}}
	addrs := freePorts(t, 4)
	for i := range s.names {
		s.grpc[i], s.data[i] = addrs[i], t.TempDir()
		_, port, _ := strings.Cut(addrs[2+i], ":")
		s.flags[i] = []string{
			"--site", s.names[i], "--kafka-port", port, "--clickhouse", "off", "--peer", fmt.Sprintf("%s=%s,%s", s.names[1-i], addrs[1-i], addrs[3-i]),
		}
	}
	return s
}

// again starts a site that has run before, with no flags but those that are named: it knows the rest.
func (s *twoSites) again(t *testing.T, i int, flags ...string) *serving {
	t.Helper()
	s.at[i] = &serving{program: start(t, built, append([]string{"serve", "--json", "--data", s.data[i]}, flags...)...), data: s.data[i], grpc: s.grpc[i]}
	s.at[i].listening(t)
	return s.at[i]
}

// dependency returns what a site's health says of something; nil when it says nothing.
func (s *serving) dependency(t *testing.T, name string) object {
	t.Helper()
	all, _ := s.get(t, "/v1/health")["dependencies"].([]any)
	for _, d := range all {
		if d := d.(map[string]any); d["name"] == name {
			return d
		}
	}
	return nil
}

// Sites that are started with other lists of homed categories write nothing of what the lists differ in, say why, and go on with the
// rest; when the lists are the same again they write. Started again without flags a site has what it had. R16.
func TestSitesThatDiffer(t *testing.T) {
	s := embeddedSites(t)
	plain := s.flags[1]
	s.flags[0] = append(s.flags[0], "--homed", "ledger")
	a, b := s.both(t)
	refused := func(n int) {
		t.Helper()
		for i, at := range s.at {
			eventually(t, "site "+s.names[i]+" has heard that the other differs", func() bool {
				differences, _ := at.get(t, "/v1/sites")["differences"].([]any)
				return len(differences) > 0
			})
			resp, body := roundTrip(t, request(t, http.MethodPost, "http://"+at.http+"/v1/store/append", fmt.Sprintf(
				`{"request_id": "differs-%d-%d", "appends": [{"category": "ledger", "id": "1", "events": [{"type": "ledger.booked.v1", "payload_json": "{}"}]}]}`, n, i)))
			if resp.StatusCode != http.StatusLocked || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "--homed") || !strings.Contains(body, "write-blocked") {
				t.Errorf("site %s answers %d (Retry-After %q): %s", s.names[i], resp.StatusCode, resp.Header.Get("Retry-After"), body)
			}
			if mode := at.get(t, "/v1/sites")["mode"]; mode != "write-blocked" {
				t.Errorf("site %s is %v", s.names[i], mode)
			}
			if d := at.dependency(t, "homed streams"); d == nil || !strings.Contains(fmt.Sprint(d["problem"]), "ledger") {
				t.Errorf("the health of site %s says of its homed streams %v", s.names[i], d)
			}
			at.order(t, fmt.Sprintf("X-%d-%d", n, i))
		}
	}
	books := func(n int) {
		t.Helper()
		s.agreed(t)
		for i, at := range s.at {
			if status, _, body := at.book(t, fmt.Sprint(n), fmt.Sprintf("agrees-%d-%d", n, i)); status != http.StatusCreated {
				t.Errorf("site %s answers %d: %s", s.names[i], status, body)
			}
		}
	}
	refused(1)
	if out := done(t, "sites", "status", "--data", s.data[0]); !strings.Contains(out, "write-blocked") || !strings.Contains(out, "homed differs from site "+s.names[1]) {
		t.Errorf("sites status says\n%s", out)
	}
	b.stop(t)
	s.flags[1] = append(slices.Clone(plain), "--homed", "ledger")
	b = s.start(t, 1)
	books(1)
	b.stop(t)
	b = s.again(t, 1)
	books(2)
	b.stop(t)
	s.again(t, 1, "--homed", "off")
	refused(2)
	a.stop(t)
	s.again(t, 0, "--homed", "off")
	eventually(t, "nothing is homed any more", func() bool { return len(s.at[0].blocked(t)) == 0 && len(s.at[1].blocked(t)) == 0 })
	for i, at := range s.at {
		if status, by, body := at.book(t, "1", fmt.Sprintf("free-%d", i)); status != http.StatusCreated || by != "" {
			t.Errorf("what is homed no more is answered with %d by %q: %s", status, by, body)
		}
	}
}

// A third site joins by the name of one, and both know it; it is given a cell, and gives it back when it leaves. One that takes no
// writes says so, after a start too. One that is killed loses its cells to the other. R18.
func TestSitesComeAndGo(t *testing.T) {
	s := embeddedSites(t)
	for i := range s.flags {
		s.flags[i] = append(s.flags[i], "--homed", "ledger")
	}
	a, b := s.both(t)
	s.agreed(t)
	name, addrs, data := s.names[0][:len(s.names[0])-1]+"c", freePorts(t, 2), t.TempDir()
	_, port, _ := strings.Cut(addrs[1], ":")
	c := &serving{program: start(t, built, "serve", "--json", "--data", data, "--site", name, "--http", "127.0.0.1:0", "--grpc", addrs[0], "--kafka-port", port,
		"--clickhouse", "off", "--join", a.grpc), data: data, grpc: addrs[0]}
	c.listening(t)
	all := []*serving{a, b, c}
	roster := func(at *serving) string { return fmt.Sprint(at.get(t, "/v1/sites/roster")["members"]) }
	for _, at := range all {
		eventually(t, "the third site is on record, and all hear all", func() bool {
			peers, _ := at.get(t, "/v1/sites")["peers"].([]any)
			return strings.Contains(roster(at), name) && len(peers) == 2 && at.get(t, "/v1/sites")["mode"] == "normal"
		})
	}
	c.order(t, "C-1")
	_, body := roundTrip(t, request(t, http.MethodPost, "http://"+c.http+"/v1/stock/MUG-C/receive", `{"quantity": 1}`))
	var receipt struct{ Session string }
	if err := json.Unmarshal([]byte(body), &receipt); err != nil || receipt.Session == "" {
		t.Fatalf("a receipt of the third site: %s, %v", body, err)
	}
	// follow reads with a token of the third site, and then with what the answer gives.
	follow := func(when string, sites ...*serving) {
		t.Helper()
		for _, at := range sites {
			for token, i := receipt.Session, 0; i < 2; i++ {
				resp, body := roundTrip(t, request(t, http.MethodGet, "http://"+at.http+"/v1/stock/MUG-C", "", "X-Read-After: "+token))
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%s, read after %s: %s %s", when, token, resp.Status, body)
				}
				token = resp.Header.Get("X-Session")
			}
		}
	}
	follow("the third site has joined", all...)
	stream := ""
	for i := 0; stream == ""; i++ {
		if _, home := a.owner(t, fmt.Sprint(i)); home == s.names[0] {
			stream = fmt.Sprint(i)
		}
	}
	n := 0
	book := func(at *serving, by string) {
		t.Helper()
		n++
		if status, site, body := at.book(t, stream, fmt.Sprintf("booking-%d", n)); status != http.StatusCreated || site != by {
			t.Fatalf("booking %d: %d by %q, want %q: %s", n, status, site, by, body)
		}
	}
	owns := func(site string, sites ...*serving) {
		t.Helper()
		for _, at := range sites {
			eventually(t, "all know that "+site+" has the cell", func() bool { _, home := at.owner(t, stream); return home == site })
		}
	}
	book(a, "")
	cell, _ := a.owner(t, stream)
	done(t, "cells", "move", cell, "--to", "shard-00@"+name, "--data", s.data[0])
	owns(name, all...)
	book(b, name)
	book(c, "")

	a.stop(t) // it keeps for the next time who there is now, and later that one of them has left
	a = s.again(t, 0)
	all[0] = a

	if out := done(t, "sites", "leave", name, "--reason", "it is not wanted", "--data", data); !strings.Contains(out, "has left") || !strings.Contains(out, "given to the other sites: 1 units of stock, of 1 codes") {
		t.Errorf("sites leave says\n%s", out)
	}
	eventually(t, "the unit that it could sell is another site's", func() bool {
		for i, at := range all[:2] {
			move := request(t, http.MethodPost, "http://"+at.http+"/v1/stock/MUG-C/move-rights", fmt.Sprintf(`{"to_site": %q, "quantity": 1}`, s.names[1-i]))
			if resp, _ := roundTrip(t, move); resp.StatusCode == http.StatusOK {
				return true
			}
		}
		return false
	})
	for _, at := range all[:2] {
		eventually(t, "the site is on record as one that has left", func() bool {
			peers, _ := at.get(t, "/v1/sites")["peers"].([]any)
			return !strings.Contains(roster(at), name) && len(peers) == 1
		})
	}
	if resp, body := roundTrip(t, request(t, http.MethodPost, "http://"+c.http+"/v1/stock/MUG-1/receive", `{"quantity": 1}`)); resp.StatusCode != http.StatusServiceUnavailable ||
		!strings.Contains(body, "it is not wanted") {
		t.Errorf("a site that has left answers %d: %s", resp.StatusCode, body)
	}
	if out := done(t, "sites", "leave", name, "--reason", "once more", "--data", data); !strings.Contains(out, "has left") {
		t.Errorf("a site that has left leaves again:\n%s", out)
	}
	if out := tributary(t, "sites", "readonly", "off", "--data", data); out.code == 0 || !strings.Contains(out.stderr, "has left") {
		t.Errorf("a site that has left is to take writes: %+v", out)
	}
	// It joins again while it runs, takes writes by itself, and leaves as it did.
	if out := done(t, "sites", "join", name+"="+addrs[0]+","+addrs[1], "--data", s.data[0]); !strings.Contains(out, "takes part again") {
		t.Errorf("sites join of a site that has left says\n%s", out)
	}
	eventually(t, "the site that has joined again takes writes", func() bool {
		resp, _ := roundTrip(t, request(t, http.MethodPost, "http://"+c.http+"/v1/stock/MUG-1/receive", `{"quantity": 1}`))
		return resp.StatusCode == http.StatusOK
	})
	if took, _ := a.get(t, "/v1/sites")["takeovers"].([]any); len(took) > 0 {
		t.Errorf("a site that has joined again was taken over: %v", took)
	}
	done(t, "sites", "leave", name, "--reason", "it is not wanted", "--data", data)
	c.stop(t)
	follow("the third site has left", a, b)
	_, home := a.owner(t, stream)
	owns(home, a, b)
	by := map[string]string{s.names[0]: "", s.names[1]: s.names[1]}
	book(a, by[home])
	s.equal(t)

	eventually(t, "sites verify --deep finds the same in both stores", func() bool {
		return areTheSame(t, s.data[0], "--deep")
	})

	done(t, "sites", "readonly", "--reason", "it is moved", "--data", s.data[0])
	for range 2 {
		resp, body := roundTrip(t, request(t, http.MethodPost, "http://"+a.http+"/v1/stock/MUG-1/receive", `{"quantity": 1}`))
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "it is moved") || a.get(t, "/v1/sites")["mode"] != "read-only" {
			t.Errorf("a site that takes no writes answers %d: %s", resp.StatusCode, body)
		}
		a.stop(t)
		a = s.again(t, 0)
	}
	done(t, "sites", "readonly", "off", "--data", s.data[0])
	a.order(t, "A-1")
	if kept, err := os.ReadFile(filepath.Join(s.data[0], "config.json")); err != nil || strings.Contains(string(kept), `"site":""`) {
		t.Errorf("what is kept of other sites: %s (%v)", kept, err)
	}

	b.kill()
	eventually(t, "a does not hear b", func() bool { return a.get(t, "/v1/sites")["mode"] == "isolated" })
	if out := tributary(t, "sites", "verify", "--data", s.data[0]); out.code != 5 || !strings.Contains(out.stdout, "can be compared when it is back") {
		t.Errorf("sites verify of a site that is away: %+v", out)
	}
	if out := tributary(t, "sites", "leave", s.names[0], "--reason", "it is not wanted", "--data", s.data[0]); out.code == 0 || !strings.Contains(out.stderr, "no other site is heard") {
		t.Errorf("a site leaves though no other is heard: %+v", out)
	}
	kept, number := -1, ""
	for home = ""; home != s.names[0]; {
		kept++
		number, home = a.owner(t, fmt.Sprint(kept))
	}
	for i := range 2 {
		done(t, "cells", "move", number, "--to", "shard-00@"+s.names[1], "--data", s.data[0])
		if out := tributary(t, "sites", "leave", s.names[1], "--reason", "it was killed", "--data", s.data[0]); out.code == 0 || !strings.Contains(out.stderr, "1 are on their way to it") {
			t.Errorf("a site leaves to which a cell is on its way: %+v", out)
		}
		done(t, "sites", "promote", "--from", s.names[1], "--reason", "it was killed", "--data", s.data[0])
		if status, by, body := a.book(t, fmt.Sprint(kept), fmt.Sprintf("kept-%d", i)); status != http.StatusCreated || by != "" {
			t.Errorf("what was on its way to a site that is gone: %d by %q: %s", status, by, body)
		}
	}
	book(a, "")
	s.again(t, 1)
	owns(s.names[0], s.at[:]...)
	s.equal(t)
}

// A site whose only other one is gone before both were heard writes nothing homed, alone neither, until an operator says that the
// other is gone; then it takes its cells. R16.
func TestFoundedWithoutASite(t *testing.T) {
	s := embeddedSites(t)
	s.flags[0] = append(s.flags[0], "--homed", "ledger")
	a := s.start(t, 0)
	for range 2 {
		eventually(t, "homed streams wait", func() bool { status, _, _ := a.book(t, "1", "waits"); return status == http.StatusLocked })
		a.stop(t)
		a = s.again(t, 0, "--peer", "off")
	}
	if out := tributary(t, "sites", "promote", "--from", s.names[1], "--reason", "it burnt down", "--data", s.data[0]); out.code == 0 || !strings.Contains(out.stderr, "sites found") {
		t.Errorf("sites promote before there is a system: %+v", out)
	}
	if out := done(t, "sites", "found", "--without", s.names[1], "--reason", "it burnt down", "--data", s.data[0]); !strings.Contains(out, "promote --from "+s.names[1]) {
		t.Errorf("sites found says\n%s", out)
	}
	done(t, "sites", "promote", "--from", s.names[1], "--reason", "it burnt down", "--data", s.data[0])
	done(t, "sites", "leave", s.names[1], "--reason", "it burnt down", "--data", s.data[0])
	for i := range 8 {
		if status, by, body := a.book(t, fmt.Sprint(i), fmt.Sprintf("alone-%d", i)); status != http.StatusCreated || by != "" {
			t.Errorf("booking %d: %d by %q: %s", i, status, by, body)
		}
	}
}
