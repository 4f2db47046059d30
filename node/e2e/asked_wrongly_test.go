package e2e

import (
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
	if out := done(t, "sites", "join", name+"="+addrs[2]+","+addrs[1], "--data", s.data[0]); !strings.Contains(out, addrs[2]) || strings.Contains(out, addrs[0]) {
		t.Errorf("sites join with another address says\n%s", out)
	}
}
