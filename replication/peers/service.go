package peers

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// Service answers other sites, and operators, for a site.
type Service struct {
	sitesv1.UnimplementedSitesServer
	// Site is nil where there are no other sites; Name is the site's.
	Site *replication.Site
	Name string
	// Peers returns the sites that are answered.
	Peers func() []string
	// Registrar says what has to be the same at all sites and is not; nil: nothing has to be.
	Registrar *replication.Registrar
	// ReadOnly says why the site takes no writes, as when an operator has it so or its disk is full; nil or nothing: it takes them.
	ReadOnly func() string
	// Leaving says whether the site is asked to leave at present; nil: it is not.
	Leaving func() bool
	// Takeovers are those that are on record; nil: there are none.
	Takeovers func() []replication.Takeover
	// Comparer compares stores, Models tells digests of the read models; nil where there are no other sites.
	Comparer *replication.Comparer
	Models   replication.ModelDigester
	// Log returns the site's own log, Mirrored the seq up to which its topic has it; nil: it has no topic.
	Log      func(ctx context.Context) (eventstore.LogState, error)
	Mirrored func() uint64

	listening sync.WaitGroup // what listens to sites that meet
}

// Close returns when nothing of the calls that were answered is under way any more. It comes after the server has stopped.
func (s *Service) Close() error {
	s.listening.Wait()
	return nil
}

// named refuses a site that nobody has named.
func (s *Service) named(site string) error {
	switch {
	case s.Site == nil:
		return status.Error(codes.FailedPrecondition, "site "+s.Name+" has no others: name them with --peer")
	case !slices.Contains(s.Peers(), site) && s.Registrar != nil && slices.Contains(s.Registrar.Roster().Left, site):
		return status.Errorf(codes.PermissionDenied, "site %q has left: have it join again (tributary sites join, asked at site %s)", site, s.Name)
	case !slices.Contains(s.Peers(), site):
		return status.Errorf(codes.PermissionDenied, "site %q is not one of those that site %s was given by --peer, or has on record", site, s.Name)
	}
	return nil
}

// Beat implements sitesv1.SitesServer.
func (s *Service) Beat(stream sitesv1.Sites_BeatServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	site := first.GetHeartbeat().GetSite()
	if err := s.named(site); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	beats := make(chan replication.Heartbeat)
	s.listening.Go(func() { // Recv ends when this method has returned
		defer close(beats)
		for request, err := first, error(nil); ; request, err = stream.Recv() {
			var h replication.Heartbeat
			if err == nil {
				h, err = heartbeatOf(request.GetHeartbeat())
			}
			if err == nil && h.Site != site {
				err = status.Errorf(codes.InvalidArgument, "site %s calls itself %s", site, h.Site)
			}
			if err == nil {
				err = s.named(site) // it may have left since
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					cancel(err)
				}
				return
			}
			select {
			case beats <- h:
			case <-ctx.Done():
				return
			}
		}
	})
	err = s.Site.Meet(ctx, beats, func(_ context.Context, h replication.Heartbeat) error {
		return stream.Send(&sitesv1.BeatResponse{Heartbeat: heartbeatMessage(&h)})
	})
	if cause := context.Cause(ctx); cause != nil && stream.Context().Err() == nil {
		return cause
	}
	switch {
	case errors.Is(err, replication.ErrStopped):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, replication.ErrForeign):
		return status.Error(codes.PermissionDenied, err.Error())
	}
	return err
}

// pieceBytes is about how large the pieces of an answer to a pull are.
const pieceBytes = 256 << 10

// Pull implements sitesv1.SitesServer.
func (s *Service) Pull(r *sitesv1.PullRequest, stream sitesv1.Sites_PullServer) error {
	if err := s.named(r.GetSite()); err != nil {
		return err
	}
	chain, events, err := s.Site.Pull(stream.Context(), replication.Pull{
		Site: s.Name, Log: logOf(r.GetLog()), After: r.GetAfter(), Through: r.GetThrough(),
	})
	if errors.Is(err, replication.ErrStopped) {
		return status.Error(codes.Unavailable, err.Error())
	}
	if err != nil {
		return err
	}
	piece := &sitesv1.PullResponse{Chain: chain[:]}
	var content []byte
	for i := range events {
		content = eventstore.AppendContent(content[:0], &events[i])
		piece.Frames = eventstore.AppendFrame(piece.GetFrames(), &events[i], content)
		if len(piece.GetFrames()) < pieceBytes {
			continue
		}
		if err := stream.Send(piece); err != nil {
			return err
		}
		piece = &sitesv1.PullResponse{}
	}
	if len(piece.GetFrames()) == 0 && len(piece.GetChain()) == 0 {
		return nil
	}
	return stream.Send(piece)
}

// GetSites implements sitesv1.SitesServer.
func (s *Service) GetSites(ctx context.Context, _ *sitesv1.GetSitesRequest) (*sitesv1.SitesStatus, error) {
	own, err := s.Log(ctx)
	if err != nil {
		return nil, err
	}
	out := &sitesv1.SitesStatus{Site: s.Name, Log: own.ID.String(), Mode: "single", Head: own.Seq}
	s.accord(out)
	if s.Site == nil {
		if s.Mirrored != nil {
			out.Mirrored = s.Mirrored()
		}
		return out, nil
	}
	o, err := s.Site.Overview(ctx)
	if err != nil {
		return nil, err
	}
	out.Mode, out.Mirrored = string(replication.ModeOf(o.Mode, len(out.GetBlocked()) > 0, out.GetWritesRefused() != "")), o.Mirrored
	if o.Writable != nil {
		out.WritesRefused = o.Writable.Error()
	}
	out.Clock, out.ClockAheadSeconds, out.ClockJumpSeconds = o.Clock.Problem(), (o.Clock.Ahead - o.Clock.Behind).Seconds(), o.Clock.Jump.Seconds()
	out.FutureSeconds = o.Clock.Future.Seconds()
	out.Lease = LeaseMessage(o.Lease)
	if s.Takeovers != nil {
		out.Takeovers = takeoverMessages(s.Takeovers())
	}
	for _, l := range o.Logs {
		// What is here is known, before anybody was heard as well.
		out.Logs = append(out.Logs, &sitesv1.LogStatus{
			Log: l.Log.String(), Held: l.Held, Known: max(l.Held, l.Known), Waiting: uint64(l.Waiting), LagSeconds: o.Lag[l.Log].Seconds(), Broken: l.Broken, EarlySeconds: l.Early.Seconds(),
		})
	}
	for _, p := range o.Peers {
		other := &sitesv1.PeerStatus{
			Site: p.Site, Up: p.Up, HeardSeconds: p.Heard.Seconds(), AheadSeconds: p.Ahead.Seconds(), Behind: p.Behind, AheadWithinSeconds: p.Within.Seconds(),
		}
		if why := o.Unmet[p.Site]; why != nil {
			other.Problem = why.Error()
		}
		out.Peers = append(out.Peers, other)
	}
	for _, a := range o.Alarms {
		out.Alarms = append(out.Alarms, &sitesv1.Alarm{Kind: string(a.Kind), Log: a.Log.String(), Site: a.Site, Text: a.Text, At: timestamppb.New(a.At)})
	}
	out.Comparison = storeComparison(s.Comparer.State())
	return out, nil
}

// accord says what has to be the same at all sites and is not, and what an operator has said.
func (s *Service) accord(out *sitesv1.SitesStatus) {
	if s.ReadOnly != nil {
		out.WritesRefused = s.ReadOnly()
	}
	out.Leaving = s.Leaving != nil && s.Leaving()
	if s.Registrar == nil {
		return
	}
	out.Cluster = s.Registrar.Roster().Cluster
	differences, blocked := s.Registrar.Differences()
	for _, d := range differences {
		out.Differences = append(out.Differences, &sitesv1.Difference{Site: d.Site, What: d.What, Here: d.Here, There: d.There, Blocks: d.Blocks})
	}
	if s.Site == nil { // alone it is at home everywhere
		return
	}
	out.Blocked = blocked.Reasons()
	if len(s.Registrar.Terms().Homed) == 0 {
		return
	}
	if err := s.Site.AtHome(); err != nil {
		out.Blocked = append(out.Blocked, "nothing homed is written: "+err.Error())
	}
}
