package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// Options of a Client. Nil and zero values mean the defaults.
type Options struct {
	// Patience is how long calls whose context allows more time wait for a server that is not there; default 30 s. Then
	// they end with eventstore.ErrUnavailable, or with eventstore.ErrOutcomeUnknown when it is an append that a server may
	// have recorded. Subscriptions wait for ever.
	Patience time.Duration
	// NoRequestIDs leaves requests without an id as they are, which saves the server a look-up and an entry of its index. When
	// the connection breaks, what has become of such an append is not known: it ends with eventstore.ErrOutcomeUnknown.
	NoRequestIDs bool
	// Dial adds to how the connection is made: credentials, say. The default is a connection without TLS.
	Dial []grpc.DialOption
}

const (
	defaultPatience = 30 * time.Second
	// maxAnswerBytes is the largest answer that is taken: an event of the largest payload, with room.
	maxAnswerBytes = 64 << 20
	// streamWindow and connWindow let a read flow without waiting for the client's word at each step.
	streamWindow = 4 << 20
	connWindow   = 8 << 20
)

// Client is a store that is kept by a server. It is safe for concurrent use.
type Client struct {
	conn     *grpc.ClientConn
	api      storev1.EventStoreClient
	patience time.Duration
	appends  *appender

	life context.Context // ends when the client is closed
	end  context.CancelFunc
	work sync.WaitGroup // subscriptions and the appender

	closing  sync.Once
	closeErr error
}

var _ eventstore.Store = (*Client)(nil)

// Dial connects to a server's gRPC address, host:port, and returns when it has answered. It waits for that as long as
// Options.Patience says and ctx allows. The client must be closed.
func Dial(ctx context.Context, addr string, o *Options) (*Client, error) {
	if o == nil {
		o = &Options{}
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes), grpc.WaitForReady(true), grpc.ForceCodecV2(wire.NewCodec())),
		grpc.WithInitialWindowSize(streamWindow), grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 15 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}, MinConnectTimeout: 5 * time.Second,
		}),
	}
	conn, err := grpc.NewClient(addr, append(dial, o.Dial...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	c := &Client{conn: conn, api: storev1.NewEventStoreClient(conn), patience: o.Patience}
	if c.patience <= 0 {
		c.patience = defaultPatience
	}
	c.life, c.end = context.WithCancel(context.Background())
	c.appends = newAppender(c, !o.NoRequestIDs)
	if _, err := c.Log(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to %s: no server has answered there: %w", addr, err), c.conn.Close())
	}
	c.work.Go(c.appends.run)
	return c, nil
}

// Close waits for the appends under way, then ends everything else. It is safe to call twice.
func (c *Client) Close() error {
	c.closing.Do(func() {
		c.appends.drain()
		c.end()
		c.work.Wait()
		if err := c.conn.Close(); err != nil {
			c.closeErr = fmt.Errorf("close connection: %w", err)
		}
	})
	return c.closeErr
}

// Append implements eventstore.Appender.
func (c *Client) Append(ctx context.Context, r eventstore.Request) (eventstore.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return eventstore.Receipt{}, err
	}
	if err := r.Normalize(); err != nil {
		return eventstore.Receipt{}, err
	}
	return c.appends.append(ctx, &r)
}

// Receipt implements eventstore.Appender.
func (c *Client) Receipt(ctx context.Context, tenant, id string) (receipt eventstore.Receipt, hash eventstore.Hash, err error) {
	if tenant == "" {
		tenant = eventstore.DefaultTenant
	}
	m, err := retry(ctx, c, func(ctx context.Context) (*storev1.GetReceiptResponse, error) {
		return c.api.GetReceipt(ctx, &storev1.GetReceiptRequest{Tenant: tenant, RequestId: id})
	})
	if err != nil {
		return receipt, hash, err
	}
	copy(hash[:], m.GetRequestHash())
	receipt, err = wire.DecodeReceipt(tenant, m.GetReceipt())
	return receipt, hash, err
}

// Log implements eventstore.Reader.
func (c *Client) Log(ctx context.Context) (state eventstore.LogState, err error) {
	m, err := retry(ctx, c, func(ctx context.Context) (*storev1.LogState, error) {
		return c.api.GetLog(ctx, &storev1.GetLogRequest{})
	})
	if err != nil {
		return state, err
	}
	state = eventstore.LogState{
		ID:  eventstore.LogID{Site: m.GetSite(), Incarnation: m.GetIncarnation(), Shard: uint16(m.GetShard())},
		Seq: m.GetSeq(), Streams: m.GetStreams(),
	}
	copy(state.Chain[:], m.GetChain())
	state.Durable, err = wire.DecodePosition(m.GetDurable())
	return state, err
}

// Version implements eventstore.Reader.
func (c *Client) Version(ctx context.Context, stream eventstore.StreamID) (uint64, error) {
	if err := stream.Validate(); err != nil {
		return 0, err
	}
	m, err := retry(ctx, c, func(ctx context.Context) (*storev1.GetVersionResponse, error) {
		return c.api.GetVersion(ctx, &storev1.GetVersionRequest{Tenant: stream.Tenant, Category: stream.Category, Id: stream.ID})
	})
	if err != nil {
		return 0, err
	}
	return m.GetVersion(), nil
}

// VersionAt implements eventstore.Reader.
func (c *Client) VersionAt(ctx context.Context, stream eventstore.StreamID, at eventstore.Position) (uint64, error) {
	if err := stream.Validate(); err != nil {
		return 0, err
	}
	if at == (eventstore.Position{}) { // before the first event, of whatever log
		return 0, nil
	}
	m, err := retry(ctx, c, func(ctx context.Context) (*storev1.GetVersionResponse, error) {
		return c.api.GetVersion(ctx, &storev1.GetVersionRequest{Tenant: stream.Tenant, Category: stream.Category, Id: stream.ID, Until: at.String()})
	})
	if err != nil {
		return 0, err
	}
	return m.GetVersion(), nil
}

// PositionAt implements eventstore.Reader.
func (c *Client) PositionAt(ctx context.Context, at time.Time) (eventstore.Position, error) {
	m, err := retry(ctx, c, func(ctx context.Context) (*storev1.GetPositionResponse, error) {
		return c.api.GetPosition(ctx, &storev1.GetPositionRequest{Time: timestamppb.New(at)})
	})
	if err != nil {
		return eventstore.Position{}, err
	}
	return wire.DecodePosition(m.GetPosition())
}

// bound returns a context for a call: it ends with the client too, and after its patience.
func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	stop := context.AfterFunc(c.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// begin starts a stream, which may take as long as bound allows and then lives as long as life. cancel ends it.
func begin[S any](bound, life context.Context, start func(context.Context) (S, error)) (s S, cancel context.CancelFunc, err error) {
	ctx, cancel := context.WithCancel(life)
	stop := context.AfterFunc(bound, cancel)
	s, err = start(ctx)
	if !stop() && err == nil {
		err = status.FromContextError(bound.Err()).Err()
	}
	if err != nil {
		cancel()
	}
	return s, cancel, err
}

// retry makes a call that changes nothing until it is answered, as long as the client is patient.
func retry[M any](ctx context.Context, c *Client, call func(context.Context) (M, error)) (m M, err error) {
	bound, cancel := c.bound(ctx)
	defer cancel()
	for attempt := 0; ; attempt++ {
		if m, err = call(bound); err == nil {
			return m, nil
		}
		err = c.errorOf(ctx, err)
		if !errors.Is(err, eventstore.ErrUnavailable) || !pause(bound, attempt) {
			return m, err
		}
	}
}

// pause waits before another attempt, and reports whether there is time for one.
func pause(ctx context.Context, attempt int) bool {
	t := time.NewTimer(10 * time.Millisecond << min(attempt, 6))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
