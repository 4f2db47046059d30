package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// What operators ask of sites is refused where it cannot be meant, with what to do, and answered with how things are then.
func TestSitesAskedWrongly(t *testing.T) {
	s := embeddedSites(t)
	for i := range s.flags {
		s.flags[i] = append(s.flags[i], "--homed", "ledger")
	}
	s.both(t)
	s.agreed(t)
	refused := func(code int, says string, args ...string) {
		t.Helper()
		if a := tributary(t, append(args, "--data", s.data[0])...); a.code != code || !strings.Contains(a.stderr, says) || a.stdout != "" {
			t.Errorf("tributary %s: exit code %d, want %d and %q; stdout %q, stderr:\n%s", strings.Join(args, " "), a.code, code, says, a.stdout, tail(a.stderr, 2000))
		}
	}

	// A site that joins, with an address that is put right.
	name, addrs := s.names[0][:len(s.names[0])-1]+"c", freePorts(t, 3)
	for i, taken := range s.grpc {
		refused(2, "is the address of site "+s.names[i], "sites", "join", name+"="+taken+","+addrs[1])
	}
	done(t, "sites", "join", name+"="+addrs[0]+","+addrs[1], "--data", s.data[0])
	if out := done(t, "sites", "join", name+"="+addrs[2]+","+addrs[1], "--data", s.data[0]); !strings.Contains(out, addrs[2]) || !strings.Contains(out, "--kafka "+addrs[1]) || strings.Contains(out, addrs[0]) {
		t.Errorf("sites join with another address says\n%s", out)
	}

	// Cells of nobody, and cells for a site that takes no writes: nobody could write them.
	refused(2, "there is no shard shard-00@nobody", "cells", "list", "--home", "shard-00@nobody")
	refused(2, "there is no shard shard-00@nobody", "cells", "list", "--home", "nobody")
	refused(2, "is not of the form", "cells", "list", "--home", "shard-x@nobody")
	if out := done(t, "cells", "list", "--home", "shard-00@"+s.names[1], "--data", s.data[0]); !strings.Contains(out, s.names[1]) {
		t.Errorf("cells list of the other site says\n%s", out)
	}
	cell := ""
	for i, home := 0, ""; home != s.names[0]; i++ {
		cell, home = s.at[0].owner(t, fmt.Sprint(i))
	}
	done(t, "sites", "readonly", "--reason", "its disk is changed", "--data", s.data[1])
	refused(2, "its disk is changed", "cells", "move", cell, "--to", "shard-00@"+s.names[1])
	refused(2, "no other site is heard and takes writes", "sites", "leave", s.names[0], "--reason", "it is not wanted")
	done(t, "sites", "readonly", "off", "--data", s.data[1])
	done(t, "cells", "move", cell, "--to", "shard-00@"+s.names[1], "--data", s.data[0])

	// Two that take over at once from a site that is gone.
	s.at[1].kill()
	eventually(t, "the other site is not heard", func() bool { return s.at[0].get(t, "/v1/sites")["mode"] == "isolated" })
	var both [2]*program
	for i := range both {
		both[i] = start(t, built, "sites", "promote", "--json", "--from", s.names[1], "--reason", "it was killed", "--data", s.data[0])
	}
	taken, elsewhere := 0, 0
	for _, p := range both {
		a := p.wait(t)
		if a.code != 0 {
			t.Fatalf("one of two that take over at once: exit code %d; stderr:\n%s", a.code, tail(a.stderr, 2000))
		}
		said := decoded[struct{ Taken, Elsewhere int }](t, a.stdout)
		taken, elsewhere = taken+said.Taken, elsewhere+said.Elsewhere
	}
	if list := done(t, "cells", "list", "--data", s.data[0]); taken == 0 || !strings.Contains(list, s.names[0]) {
		t.Errorf("%d cells are taken by either, %d by the other meanwhile; cells list says\n%s", taken, elsewhere, list)
	}
}
