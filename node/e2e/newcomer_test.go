package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// A site that was started before anybody has put it on record waits; when it is, by the address at which it runs, it gets all that there
// was before, writes, and has cells moved to it. R18.
func TestNewcomerStartedBeforeItJoins(t *testing.T) {
	s := embeddedSites(t)
	for i := range s.flags {
		s.flags[i] = append(s.flags[i], "--homed", "ledger")
	}
	s.both(t)
	s.agreed(t)
	for i, at := range s.at {
		for n := range 10 {
			at.post(t, fmt.Sprintf("/v1/stock/BEFORE-%d-%d/receive", i, n), `{"quantity": 1}`)
		}
	}
	name, addrs, data := s.names[0][:len(s.names[0])-1]+"c", freePorts(t, 2), t.TempDir()
	_, port, _ := strings.Cut(addrs[1], ":")
	flags := []string{"serve", "--json", "--data", data, "--site", name, "--http", "127.0.0.1:0", "--grpc", addrs[0], "--kafka-port", port, "--clickhouse", "off", "--homed", "ledger"}
	for _, of := range s.flags { // each names the other one
		flags = append(flags, of[slices.Index(of, "--peer"):][:2]...)
	}
	c := &serving{program: start(t, built, flags...), data: data, grpc: addrs[0]}
	c.listening(t)
	if resp, body := roundTrip(t, request(t, http.MethodPost, "http://"+c.http+"/v1/stock/MUG-1/receive", `{"quantity": 1}`)); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a site that nobody knows answers %d: %s", resp.StatusCode, body)
	}
	done(t, "sites", "join", name+"="+addrs[0]+","+addrs[1], "--data", s.data[0])
	eventually(t, "the newcomer hears all, and has all that was before", func() bool {
		if c.get(t, "/v1/sites")["mode"] != "normal" {
			return false
		}
		for i := range s.at {
			resp, _ := roundTrip(t, request(t, http.MethodGet, fmt.Sprintf("http://%s/v1/stock/BEFORE-%d-9", c.http, i), ""))
			if resp.StatusCode != http.StatusOK {
				return false
			}
		}
		return true
	})
	eventually(t, "it writes", func() bool {
		resp, _ := roundTrip(t, request(t, http.MethodPost, "http://"+c.http+"/v1/stock/MUG-C/receive", `{"quantity": 1}`))
		return resp.StatusCode/100 == 2
	})
	stream, cell := -1, ""
	for home := ""; home != s.names[0]; {
		stream++
		cell, home = s.at[0].owner(t, fmt.Sprint(stream))
	}
	done(t, "cells", "move", cell, "--to", "shard-00@"+name, "--data", s.data[0])
	eventually(t, "a cell that was moved to it is written there", func() bool {
		status, by, _ := s.at[1].book(t, fmt.Sprint(stream), "moved")
		return status == http.StatusCreated && by == name
	})
}
