package main

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// fakeSites answers as a server does whose site has cells, for an operator.
type fakeSites struct {
	sitesv1.CellsClient
	sitesv1.MembersClient
	cells []*sitesv1.Cell
	homed []string
	left  int // calls of LeaveSite
	moved []uint32
	of    string // whose cells were asked for
}

// askedSite is the site that is asked.
type askedSite struct{ sitesv1.SitesClient }

func (askedSite) GetSites(context.Context, *sitesv1.GetSitesRequest, ...grpc.CallOption) (*sitesv1.SitesStatus, error) {
	return &sitesv1.SitesStatus{Site: "bj"}, nil
}

func (f *fakeSites) MoveCell(_ context.Context, r *sitesv1.MoveCellRequest, _ ...grpc.CallOption) (*sitesv1.Cell, error) {
	if r.GetCell() > 1023 {
		return nil, status.Errorf(codes.InvalidArgument, "cell %d; there are 1024", r.GetCell())
	}
	if r.GetCell() == 13 {
		return nil, status.Error(codes.Unavailable, "no answer")
	}
	f.moved = append(f.moved, r.GetCell())
	return &sitesv1.Cell{Cell: r.GetCell(), Home: r.GetTo()}, nil
}

func (f *fakeSites) ListCells(_ context.Context, r *sitesv1.ListCellsRequest, _ ...grpc.CallOption) (*sitesv1.ListCellsResponse, error) {
	f.of = r.GetHome()
	return &sitesv1.ListCellsResponse{Cells: f.cells}, nil
}

func (f *fakeSites) GetRoster(context.Context, *sitesv1.GetRosterRequest, ...grpc.CallOption) (*sitesv1.Roster, error) {
	return &sitesv1.Roster{Cluster: "1", Homed: f.homed}, nil
}

func (f *fakeSites) LeaveSite(context.Context, *sitesv1.LeaveSiteRequest, ...grpc.CallOption) (*sitesv1.LeaveSiteResponse, error) {
	f.left++
	return &sitesv1.LeaveSiteResponse{Left: f.left > 2, Cells: uint32(300 / f.left)}, nil
}

// What was done with many cells is summed up for people, and all of it is there for programs.
func TestManyCellsAreSummedUp(t *testing.T) {
	f := &fakeSites{}
	for cell := range uint32(300) {
		f.cells = append(f.cells, &sitesv1.Cell{Cell: cell, Home: "shard-00@sz"})
	}
	take := func(asJSON bool) string {
		t.Helper()
		var out, err strings.Builder
		g := &globals{JSON: asJSON, out: &out, err: &err}
		did := words{"take cells", "is taken", "are taken"}
		if err := eachCell(t.Context(), g, f, nil, "shard-00@sz", 0, did, func(cell uint32) (*sitesv1.Cell, error) {
			taken := &sitesv1.Cell{Cell: cell, Home: "shard-00@bj", Epoch: 1}
			switch {
			case cell == 7:
				taken.Epoch = 3
			case cell >= 200 && cell%2 == 0:
				taken.Home = "shard-00@sh"
			}
			return taken, nil
		}); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	want := "249 cells are taken: shard-00@bj, epoch 1 (0-6, 8-199, 201, 203, 205, 207, 209, 211, 213, 215, 217, 219, and 40 more (--json has all))\n" +
		"cell 7 is taken: shard-00@bj, epoch 3\n" +
		"50 cells are taken: shard-00@sh, epoch 1 (200, 202, 204, 206, 208, 210, 212, 214, 216, 218, 220, 222, and 38 more (--json has all))\n"
	if got := take(false); got != want {
		t.Errorf("for people:\n%s, want\n%s", got, want)
	}
	var all struct {
		Cells []struct{ Cell uint32 } `json:"cells"`
	}
	if err := json.Unmarshal([]byte(take(true)), &all); err != nil || len(all.Cells) != 300 || all.Cells[299].Cell != 299 {
		t.Errorf("with --json there are %d cells, %v; want all", len(all.Cells), err)
	}
}

// A site that leaves is said to have cells where anything is homed, and only there.
func TestLeavingTellsOfCellsWhereAnyAreHomed(t *testing.T) {
	for homed, told := range map[string]bool{"": false, "ledger": true} {
		f := &fakeSites{}
		if homed != "" {
			f.homed = []string{homed}
		}
		var out strings.Builder
		if err := (&sitesLeaveCmd{Site: "sz", Reason: "x"}).leave(t.Context(), &globals{out: &out}, f); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); !strings.Contains(got, "has left") || strings.Contains(got, "150 cells are still") != told {
			t.Errorf("homed is %q: %s", homed, got)
		}
	}
}

// Who asks for the owner of a stream is told one where the category is homed; elsewhere any site writes it.
func TestOwnerOfAStream(t *testing.T) {
	list := &sitesv1.ListCellsResponse{Homed: []string{"ledger"}, Cells: []*sitesv1.Cell{{Cell: 945, Home: "shard-00@bj"}}}
	for name, owned := range map[string]bool{"ledger/7": true, "order/7": false} {
		var stream streamName
		if err := stream.UnmarshalText([]byte(name)); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		(&globals{out: &out}).cells(list, &stream)
		if got := out.String(); strings.Contains(got, "OWNER") != owned || strings.Contains(got, "any site writes "+stream.Category+" streams") == owned {
			t.Errorf("%s: it is said that\n%s", name, got)
		}
	}
}

// A cell that moves is said to have the epoch under which its new home opens it; one that has been opened meanwhile has that already.
func TestMovedCellHasItsNextEpoch(t *testing.T) {
	f := &fakeSites{}
	var out, errOut strings.Builder
	g := &globals{out: &out, err: &errOut}
	did := words{"move cells", "moves", "move"}
	if err := eachCell(t.Context(), g, f, []uint32{944, 945}, "", 0, did, func(cell uint32) (*sitesv1.Cell, error) {
		if cell == 944 {
			return &sitesv1.Cell{Cell: cell, Home: "shard-00@bj", Epoch: 2, MovingTo: "shard-00@sh"}, nil
		}
		return &sitesv1.Cell{Cell: cell, Home: "shard-00@sh", Epoch: 3}, nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := "cell 944 moves: shard-00@sh, epoch 3\ncell 945 moves: shard-00@sh, epoch 3\n"; out.String() != want {
		t.Errorf("it is said that\n%s, want\n%s", out.String(), want)
	}
}

// A number of cells are those of the site that is asked, where no other shard is named.
func TestCellsThatMoveAreThoseOfTheSiteAsked(t *testing.T) {
	for from, want := range map[shardName]string{"": "shard-00@bj", "shard-01@bj": "shard-01@bj"} {
		f := &fakeSites{cells: []*sitesv1.Cell{{Cell: 1}, {Cell: 2}, {Cell: 3}}}
		move := cellsMoveCmd{Count: 2, From: from, To: "shard-00@sh"}
		if err := move.move(t.Context(), &globals{out: io.Discard, err: io.Discard}, f, askedSite{}); err != nil || f.of != want || !slices.Equal(f.moved, []uint32{1, 2}) {
			t.Errorf("from %q: cells %v of %s move, %v; want 1 and 2 of %s", from, f.moved, f.of, err, want)
		}
	}
}

// A cell that is not moved is named once.
func TestCellIsNamedOnce(t *testing.T) {
	for cell, want := range map[uint32]string{13: "cell 13: no answer", 9999: "move cells: cell 9999; there are 1024"} {
		move := cellsMoveCmd{Cell: []uint32{cell}, To: "shard-00@sh"}
		if err := move.move(t.Context(), &globals{out: io.Discard, err: io.Discard}, &fakeSites{}, askedSite{}); err == nil || inWords(err) != want {
			t.Errorf("cell %d: %v, want %q", cell, err, want)
		}
	}
}

// The site alone names its shard.
func TestShardName(t *testing.T) {
	for given, want := range map[string]shardName{"sh": "shard-00@sh", "shard-02@sh": "shard-02@sh", "": ""} {
		var s shardName
		if err := s.UnmarshalText([]byte(given)); err != nil || s != want {
			t.Errorf("%q is %q, %v; want %q", given, s, err, want)
		}
	}
}

// Of the cells of a shard those that it has taken are given away first, and none that is on its way.
func TestTakenCellsGoFirst(t *testing.T) {
	cells := []*sitesv1.Cell{{Cell: 1}, {Cell: 2, Taken: "it was killed"}, {Cell: 3, MovingTo: "shard-00@sz"}, {Cell: 4, Taken: "it was killed"}, {Cell: 5}}
	for most, want := range map[int][]uint32{0: {2, 4, 1, 5}, 1: {2}, 3: {2, 4, 1}} {
		if got := some(cells, most); !slices.Equal(got, want) {
			t.Errorf("at most %d: %v, want %v", most, got, want)
		}
	}
}
