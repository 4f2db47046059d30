package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Two sites that are asked to leave at the same moment give nothing to each other for ever: of two alone one stays at least, and says
// why; where there is a third one, both leave, and it has all cells. R18.
func TestTwoSitesLeaveAtOnce(t *testing.T) {
	s := embeddedSites(t)
	for i := range s.flags {
		s.flags[i] = append(s.flags[i], "--homed", "ledger")
	}
	a, b := s.both(t)
	s.agreed(t)
	// leave has both leave, and returns which have.
	leave := func() (left [2]bool, says [2]string) {
		var asking sync.WaitGroup
		for i := range s.names {
			asking.Go(func() {
				out := tributary(t, "sites", "leave", s.names[i], "--reason", "both are not wanted", "--data", s.data[i])
				left[i], says[i] = out.code == 0, out.stdout+out.stderr
			})
		}
		asking.Wait()
		return left, says
	}
	left, says := leave()
	if left[0] && left[1] {
		t.Fatalf("no site is left:\n%s\n%s", says[0], says[1])
	}
	for i, has := range left {
		switch {
		case !has && !strings.Contains(says[i], "no site would be left to go on") && !strings.Contains(says[i], "no other site is heard and takes writes"):
			t.Errorf("site %s does not leave, and says\n%s", s.names[i], says[i])
		case has:
			_, kafka, _ := strings.Cut(s.flags[1-i][len(s.flags[1-i])-3], "=") // as the other was given it
			done(t, "sites", "join", s.names[i]+"="+kafka, "--data", s.data[1-i])
		default:
			done(t, "sites", "readonly", "off", "--data", s.data[i]) // it stays
		}
	}

	name, addrs, data := s.names[0][:len(s.names[0])-1]+"c", freePorts(t, 2), t.TempDir()
	_, port, _ := strings.Cut(addrs[1], ":")
	c := &serving{program: start(t, built, "serve", "--json", "--data", data, "--site", name, "--http", "127.0.0.1:0", "--grpc", addrs[0], "--kafka-port", port,
		"--clickhouse", "off", "--join", a.grpc), data: data, grpc: addrs[0]}
	c.listening(t)
	for _, at := range []*serving{a, b, c} {
		eventually(t, "three sites take part, and all hear all", func() bool {
			members, _ := at.get(t, "/v1/sites/roster")["members"].([]any)
			peers, _ := at.get(t, "/v1/sites")["peers"].([]any)
			return len(members) == 3 && len(peers) == 2 && at.get(t, "/v1/sites")["mode"] == "normal"
		})
	}
	if left, says := leave(); !left[0] || !left[1] {
		t.Fatalf("left have %v:\n%s\n%s", left, says[0], says[1])
	}
	eventually(t, "the third site has all cells, and is alone", func() bool {
		shares, _ := c.get(t, "/v1/cells")["shares"].([]any)
		cells := map[string]string{}
		for _, share := range shares {
			share := share.(map[string]any)
			cells[fmt.Sprint(share["home"])] = fmt.Sprint(share["cells"])
		}
		members, _ := c.get(t, "/v1/sites/roster")["members"].([]any)
		return cells["shard-00@"+name] == "1024" && len(members) == 1
	})
	if out := tributary(t, "sites", "leave", name, "--reason", "nobody is wanted", "--data", data); out.code == 0 || !strings.Contains(out.stderr, "no other site is heard") {
		t.Errorf("the last site leaves: %+v", out)
	}
}
