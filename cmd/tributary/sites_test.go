package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// comingSites answers as a server does to which, and to whose other site, more events come with every call.
type comingSites struct {
	sitesv1.SitesClient
	calls, end uint64 // of which the other site gets no more
}

func (c *comingSites) CompareSites(context.Context, *sitesv1.CompareSitesRequest, ...grpc.CallOption) (*sitesv1.CompareSitesResponse, error) {
	c.calls++
	return &sitesv1.CompareSitesResponse{Equal: true, Comparisons: []*sitesv1.Comparison{
		{Log: "shard-00@bj/1", Site: "sh", Here: 10 + c.calls, There: min(c.end, 7+c.calls)},
		{Log: "shard-00@sh/1", Site: "sh", Here: 3 + c.calls, There: 5},
		{Log: "shard-00@sz/1", Site: "sz", Here: 3, There: 0, Away: "site sz does not answer"},
	}}, nil
}

// Sites have time to come to have what others had at the beginning, and not what has come since; then it is said who lacks how much.
func TestVerifyWaitsForWhatIsOnItsWay(t *testing.T) {
	f := &comingSites{end: 1000}
	if _, lag, err := compareInTime(t.Context(), f, time.Minute); err != nil || len(lag) > 0 || f.calls != 4 {
		t.Errorf("after %d calls lag %q, %v; want none after 4", f.calls, lag, err)
	}
	_, lag, err := compareInTime(t.Context(), &comingSites{end: 9}, 0)
	if want := []string{"site sh lacks 3 events of shard-00@bj/1", "this site lacks 1 events of shard-00@sh/1"}; err != nil || !slices.Equal(lag, want) {
		t.Errorf("lag %q, %v; want %q", lag, err, want)
	}
}

// A site without others is not said to hold what all hold.
func TestVerifyOfASiteWithoutOthers(t *testing.T) {
	var out strings.Builder
	(&globals{out: &out}).comparisons(&sitesv1.CompareSitesResponse{Site: "bj", Equal: true})
	if got := out.String(); got != "There is no other site to compare with.\n" {
		t.Errorf("it is said that\n%s", got)
	}
}

// Where there are no conflicts it is said so, and nothing else.
func TestNoConflicts(t *testing.T) {
	for n, want := range map[int]string{0: "there are no such conflicts\n", 1: "AT "} {
		var out strings.Builder
		(&globals{out: &out}).conflicts(&sitesv1.ListConflictsResponse{Conflicts: make([]*sitesv1.Conflict, n)})
		if got := out.String(); !strings.HasPrefix(got, want) || n == 0 && got != want {
			t.Errorf("of %d conflicts it is said that\n%s", n, got)
		}
	}
}
