package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/replication"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// maxAnswerBytes is the largest piece of an answer that is taken: an event of the largest payload, with room.
const maxAnswerBytes = 16 << 20

// Peer is another site, reached at its gRPC address. It is safe for concurrent use.
type Peer struct {
	site string // who asks
	conn *grpc.ClientConn
	api  sitesv1.SitesClient
}

var _ replication.Peer = (*Peer)(nil)

// Dial returns a site at an address, host:port, as the given site asks it. It does not wait for it: connections are made, and
// made again, when something is asked. The peer must be closed.
func Dial(site, addr string) (*Peer, error) {
	conn, err := grpc.NewClient(addr,
		grpc.WithStatsHandler(sentNotes{}),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}, MinConnectTimeout: 2 * time.Second,
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to site at %s: %w", addr, err)
	}
	return &Peer{site: site, conn: conn, api: sitesv1.NewSitesClient(conn)}, nil
}

// Close ends the connection. It is safe to call twice.
func (p *Peer) Close() error {
	if err := p.conn.Close(); err != nil && !errors.Is(err, grpc.ErrClientConnClosing) { //nolint:staticcheck // there is no other
		return fmt.Errorf("close connection: %w", err)
	}
	return nil
}

// away has the error of a site that does not answer match eventstore.ErrUnavailable.
func away(err error) error {
	if code := status.Code(err); code == codes.Unavailable || code == codes.DeadlineExceeded {
		return fmt.Errorf("%w: %w", eventstore.ErrUnavailable, err)
	}
	return err
}

// Pull implements replication.Peer.
func (p *Peer) Pull(ctx context.Context, pull replication.Pull) (chain eventstore.Hash, events []eventstore.Recorded, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := p.api.Pull(ctx, &sitesv1.PullRequest{Site: p.site, Log: logMessage(pull.Log), After: pull.After, Through: pull.Through})
	if err != nil {
		return chain, nil, fmt.Errorf("pull %s after seq %d: %w", pull.Log, pull.After, away(err))
	}
	var d eventstore.FrameDecoder
	for first := true; ; first = false {
		piece, err := stream.Recv()
		if errors.Is(err, io.EOF) && !first {
			return chain, events, nil
		}
		if err != nil {
			return chain, nil, fmt.Errorf("pull %s after seq %d: %w", pull.Log, pull.After, away(err))
		}
		if first {
			if chain, err = hashOf(piece.GetChain()); err != nil {
				return chain, nil, fmt.Errorf("pull %s after seq %d: %w", pull.Log, pull.After, err)
			}
		}
		for rest := piece.GetFrames(); len(rest) > 0; {
			var e eventstore.Recorded
			if rest, err = d.Decode(&e, rest); err != nil {
				return chain, nil, fmt.Errorf("pull %s after seq %d: %w", pull.Log, pull.After, err)
			}
			events = append(events, e)
		}
	}
}

// Digests implements replication.Digester.
func (p *Peer) Digests(ctx context.Context, log eventstore.LogID, after, through, every uint64) ([]replication.Digest, error) {
	answer, err := p.api.DigestLog(ctx, &sitesv1.DigestLogRequest{Site: p.site, Log: logMessage(log), After: after, Through: through, Every: every})
	if err != nil {
		return nil, away(err)
	}
	out := make([]replication.Digest, len(answer.GetSpans()))
	for i, s := range answer.GetSpans() {
		out[i] = replication.Digest{After: s.GetAfter(), Through: s.GetThrough(), Err: s.GetProblem(), Dropped: s.GetDropped()}
		copy(out[i].Sum[:], s.GetDigest())
	}
	return out, nil
}

// ModelDigests implements replication.ModelDigester.
func (p *Peer) ModelDigests(ctx context.Context, at []eventstore.LogHead) (d replication.ModelDigests, err error) {
	answer, err := p.api.DigestModels(ctx, &sitesv1.DigestModelsRequest{Site: p.site, At: headMessages(at)})
	if err != nil {
		return d, away(err)
	}
	if d.At, err = headsOf(answer.GetAt()); err != nil {
		return d, err
	}
	for _, m := range answer.GetModels() {
		d.Models = append(d.Models, replication.ModelDigest{Model: m.GetModel(), Part: m.GetPart(), Digest: m.GetDigest(), Count: m.GetCount(), Err: m.GetProblem()})
	}
	return d, nil
}

// Meet implements replication.Peer.
func (p *Peer) Meet(ctx context.Context, beats <-chan replication.Heartbeat, heard func(context.Context, replication.Heartbeat) error) error {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := p.api.Beat(ctx)
	if err != nil {
		cancel()
		return fmt.Errorf("meet the site: %w", away(err))
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel()
	sending.Go(func() {
		for {
			select {
			case h := <-beats:
				if stream.Send(&sitesv1.BeatRequest{Heartbeat: heartbeatMessage(&h)}) != nil {
					return // Recv says why
				}
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		answer, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("meet the site: %w", away(err))
		}
		h, err := heartbeatOf(answer.GetHeartbeat())
		if err != nil {
			return err
		}
		if err := heard(ctx, h); err != nil {
			return err
		}
	}
}

// Join has the site put another one on record, and returns who takes part.
func (p *Peer) Join(ctx context.Context, joins *sitesv1.Member) (*sitesv1.Roster, error) {
	return sitesv1.NewMembersClient(p.conn).JoinSite(ctx, &sitesv1.JoinSiteRequest{Member: joins})
}

// Status asks the site how it is.
func (p *Peer) Status(ctx context.Context) (*sitesv1.SitesStatus, error) {
	return p.api.GetSites(ctx, &sitesv1.GetSitesRequest{})
}
