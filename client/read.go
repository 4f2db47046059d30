package client

import (
	"context"
	"errors"
	"io"
	"iter"

	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// Read implements eventstore.Reader.
func (c *Client) Read(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return c.readStream(ctx, stream, from, false)
}

// ReadBackwards implements eventstore.Reader.
func (c *Client) ReadBackwards(ctx context.Context, stream eventstore.StreamID, from uint64) iter.Seq2[eventstore.Recorded, error] {
	return c.readStream(ctx, stream, from, true)
}

func (c *Client) readStream(ctx context.Context, s eventstore.StreamID, from uint64, back bool) iter.Seq2[eventstore.Recorded, error] {
	if err := s.Validate(); err != nil {
		return failed(err)
	}
	m := &storev1.ReadStreamRequest{Tenant: s.Tenant, Category: s.Category, Id: s.ID, FromVersion: from, Backwards: back, Frames: true}
	return c.read(ctx, false, func(ctx context.Context) (grpc.ServerStreamingClient[storev1.ReadResponse], error) {
		return c.api.ReadStream(ctx, m)
	})
}

// ReadAll implements eventstore.Reader.
func (c *Client) ReadAll(ctx context.Context, after eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	m := readAll(&f)
	m.After = wire.EncodePosition(after)
	return c.read(ctx, f.Lent, func(ctx context.Context) (grpc.ServerStreamingClient[storev1.ReadResponse], error) {
		return c.api.ReadAll(ctx, m)
	})
}

// ReadAllBackwards implements eventstore.Reader.
func (c *Client) ReadAllBackwards(ctx context.Context, before eventstore.Position, f eventstore.Filter) iter.Seq2[eventstore.Recorded, error] {
	m := readAll(&f)
	m.Before, m.Backwards = wire.EncodePosition(before), true
	return c.read(ctx, false, func(ctx context.Context) (grpc.ServerStreamingClient[storev1.ReadResponse], error) {
		return c.api.ReadAll(ctx, m)
	})
}

func readAll(f *eventstore.Filter) *storev1.ReadAllRequest {
	return &storev1.ReadAllRequest{
		Tenant: f.Tenant, Categories: f.Categories, Types: f.Types, Query: wire.EncodeQuery(f.Query), Frames: true, Chain: f.Chain,
		Until: wire.EncodePosition(f.Until),
	}
}

func failed(err error) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) { yield(eventstore.Recorded{}, err) }
}

// read yields what a call gives, whose payloads may be lent. As long as nothing has been yielded, a call that breaks is made again.
func (c *Client) read(
	ctx context.Context, lent bool, call func(context.Context) (grpc.ServerStreamingClient[storev1.ReadResponse], error),
) iter.Seq2[eventstore.Recorded, error] {
	return func(yield func(eventstore.Recorded, error) bool) {
		reading, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(c.life, cancel)()
		pages, err := retry(ctx, c, func(bound context.Context) (*pages, error) {
			p, _, err := begin(bound, reading, func(ctx context.Context) (*pages, error) { return firstPage(ctx, lent, call) })
			return p, err
		})
		var frames wire.FrameReader
		var e eventstore.Recorded
		for err == nil && pages.next != nil {
			err = frames.Reset(pages.next)
			for more := err == nil; more; {
				if more, err = frames.Next(&e); more && !yield(e, nil) {
					return
				}
			}
			if err != nil {
				break
			}
			if err = pages.advance(); err != nil {
				err = c.errorOf(ctx, err)
			}
		}
		if err != nil {
			yield(eventstore.Recorded{}, err)
		}
	}
}

// pages are the answers of a read; next is nil at the end.
type pages struct {
	stream grpc.ServerStreamingClient[storev1.ReadResponse]
	next   *storev1.Frames
	lent   *wire.LentResponse // what every answer is read into; nil: each is kept
}

func firstPage(ctx context.Context, lent bool, call func(context.Context) (grpc.ServerStreamingClient[storev1.ReadResponse], error)) (*pages, error) {
	stream, err := call(ctx)
	if err != nil {
		return nil, err
	}
	p := &pages{stream: stream}
	if lent {
		p.lent = &wire.LentResponse{}
	}
	err = p.advance()
	return p, err
}

func (p *pages) advance() error {
	m, err := p.receive()
	if errors.Is(err, io.EOF) {
		p.next = nil
		return nil
	}
	p.next = m.GetFrames()
	return err
}

func (p *pages) receive() (*storev1.ReadResponse, error) {
	if p.lent == nil {
		return p.stream.Recv()
	}
	return &p.lent.ReadResponse, p.stream.RecvMsg(p.lent)
}
