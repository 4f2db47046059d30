package node

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication/peers"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// A site counts as one that leaves from the first request on, for as long as it is asked again, and not when it has left, or is to stay.
func TestLeavingLastsAsLongAsItIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l leaving
		is := func(want bool, when string) {
			t.Helper()
			if l.now() != want {
				t.Errorf("%s it leaves: %v, want %v", when, !want, want)
			}
		}
		is(false, "never asked")
		end := l.begin()
		time.Sleep(2 * leaveAsked)
		is(true, "while it is answered")
		end()
		time.Sleep(leaveAsked - time.Nanosecond)
		is(true, "a moment after it was answered")
		end = l.begin()
		end()
		time.Sleep(leaveAsked - time.Nanosecond)
		is(true, "asked again")
		time.Sleep(time.Nanosecond)
		is(false, "asked no more")
		end = l.begin()
		l.over()
		is(false, "left while it is answered")
		end()
		is(false, "left")
		l.begin()()
		is(true, "asked to leave again")
		l.over()
		is(false, "to stay")
	})
}

// toldSites answers as another site does.
type toldSites struct {
	sitesv1.UnimplementedSitesServer
	status *sitesv1.SitesStatus
}

func (s *toldSites) GetSites(context.Context, *sitesv1.GetSitesRequest) (*sitesv1.SitesStatus, error) {
	return s.status, nil
}

// A site that is asked to leave is given nothing, and the error says so; it says of itself that it is asked.
func TestWhoLeavesTakesNoCells(t *testing.T) {
	n, stop := runAlone(t, t.TempDir()+"/data")
	defer stop()
	said := &toldSites{}
	server := grpc.NewServer()
	sitesv1.RegisterSitesServer(server, said)
	peer, err := peers.Dial("bj", serveGRPC(t, server))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = peer.Close() }) // the answers are there
	n.sites.mu.Lock()
	n.sites.known["sh"] = joinedPeer{Peer{Site: "sh"}, peer}
	n.sites.mu.Unlock()
	for name, c := range map[string]struct {
		status *sitesv1.SitesStatus
		want   error
		says   string
	}{
		"it takes them":           {&sitesv1.SitesStatus{Mode: "normal"}, nil, ""},
		"it is asked to leave":    {&sitesv1.SitesStatus{Mode: "normal", Leaving: true}, eventstore.ErrInvalid, "is asked to leave"},
		"an operator has said so": {&sitesv1.SitesStatus{Mode: "read-only", WritesRefused: "its disk is changed"}, eventstore.ErrInvalid, "its disk is changed"},
		"it is not ready":         {&sitesv1.SitesStatus{Mode: "unconfirmed", WritesRefused: "it has just started"}, eventstore.ErrUnavailable, "it has just started"},
	} {
		said.status = c.status
		if err := n.sites.takesCells(t.Context(), "sh"); !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: it is given cells: %v", name, err)
		}
	}

	leaves := func(want bool) {
		t.Helper()
		s, err := n.sites.service.GetSites(t.Context(), &sitesv1.GetSitesRequest{})
		if err != nil || s.GetLeaving() != want {
			t.Errorf("the site says that it leaves: %v (%v), want %v", s.GetLeaving(), err, want)
		}
	}
	if _, err := (members{n: n}).LeaveSite(t.Context(), &sitesv1.LeaveSiteRequest{Site: n.config.Site, Reason: "it is not wanted"}); err == nil {
		t.Error("a site without others has left")
	}
	leaves(false) // it cannot
	n.cells.leaving.begin()()
	leaves(true)
	if _, err := (members{n: n}).SetReadOnly(t.Context(), &sitesv1.SetReadOnlyRequest{}); err != nil {
		t.Error(err)
	}
	leaves(false)
}
