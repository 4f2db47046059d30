package e2e

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// status is what a server says of itself.
type status struct {
	Durable string `json:"durable"`
	Mirror  struct {
		State    string `json:"state"`
		Mirrored string `json:"mirrored"`
	} `json:"mirror"`
	Projections []struct {
		Name     string `json:"name"`
		State    string `json:"state"`
		Position string `json:"position"`
	} `json:"projections"`
	Sagas []struct {
		Open     string `json:"open"`
		Position string `json:"position"`
	} `json:"sagas"`
	Dependencies []struct {
		Name    string `json:"name"`
		Up      bool   `json:"up"`
		Problem string `json:"problem"`
	} `json:"dependencies"`
}

func (s *serving) status(t *testing.T) status {
	t.Helper()
	resp, body := roundTrip(t, request(t, http.MethodGet, "http://"+s.http+"/v1/status", ""))
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status: %s: %s", resp.Status, body)
	}
	return decoded[status](t, body)
}

// at reports whether all that follows the log has come to a position.
func (st status) at(position string) bool {
	reached := st.Mirror.State == "mirroring" && lsn(st.Mirror.Mirrored) >= lsn(position)
	for _, p := range st.Projections {
		reached = reached && p.State == "live" && lsn(p.Position) >= lsn(position)
	}
	for _, saga := range st.Sagas {
		reached = reached && lsn(saga.Position) >= lsn(position)
	}
	return reached
}

// idle reports whether sagas have nothing under way.
func (st status) idle() bool {
	for _, saga := range st.Sagas {
		if saga.Open != "0" {
			return false
		}
	}
	return true
}

// lsn returns the place in the log that a position such as 1-42 names, 0 if it names none.
func lsn(position string) uint64 {
	_, number, _ := strings.Cut(position, "-")
	n, _ := strconv.ParseUint(number, 10, 64) // 0 when it is none
	return n
}

// follows waits until everything that follows the log has come to a position.
func (s *serving) follows(t *testing.T, position string) {
	t.Helper()
	eventually(t, "everything has come to "+position, func() bool { return s.status(t).at(position) })
}

// stuck reports whether something is said to be down, with a problem that has all of some words.
func (st status) stuck(name string, words ...string) bool {
	for _, d := range st.Dependencies {
		if d.Name == name && !d.Up && has(d.Problem, words) {
			return true
		}
	}
	return false
}

// caughtUp waits until everything stands at the end of a log that grows no more.
func (s *serving) caughtUp(t *testing.T) {
	t.Helper()
	eventually(t, "everything has caught up with the log", func() bool {
		st := s.status(t)
		return st.idle() && st.at(st.Durable)
	})
}
