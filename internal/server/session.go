package server

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
)

// maxTokenBytes bounds a session token: it names a log for each site, and for each life that a site's log has had, since what an
// earlier life has lost may come back when the later one has begun. It is enough for 250 lives, and half
// of what headers may have.
const maxTokenBytes = 16 << 10

// isSession reports whether what a call is to be answered after is a session token, and not a position of this site's log.
func isSession(readAfter string) bool { return strings.Contains(readAfter, "@") }

// located puts the position of this site's log in the place of a session token that a call is to be answered after, once the log
// holds what it names, and refuses a position that the log does not have: not all methods wait for a read model, which would say so.
// Methods know positions alone; those that read the log itself need no more.
func (s *Server) located(ctx context.Context) (context.Context, error) {
	token := HeadersOf(ctx).Get("x-read-after")
	if token == "" {
		return ctx, nil
	}
	at, err := s.locate(ctx, token)
	if err != nil || at == token {
		return ctx, err
	}
	md, _ := metadata.FromIncomingContext(ctx)
	md.Set("x-read-after", at)
	return context.WithValue(metadata.NewIncomingContext(ctx, md), checkedKey{}, Headers(md)), nil
}

// locate returns the position of a session token, once this site's log holds what it names, or the position itself that was given.
func (s *Server) locate(ctx context.Context, token string) (string, error) {
	at, err := s.place(ctx, token)
	if err != nil {
		return "", fmt.Errorf("X-Read-After: %w", err)
	}
	return at.String(), nil
}

func (s *Server) place(ctx context.Context, token string) (at eventstore.Position, err error) {
	if !isSession(token) {
		if at, err = eventstore.ParsePosition(token); err != nil || s.options.Head == nil {
			return at, err
		}
		head, err := s.options.Head(ctx)
		if err != nil {
			return at, err
		}
		return at, at.Check(head)
	}
	if s.options.Locate == nil {
		return at, fmt.Errorf("%w: session tokens", eventstore.ErrUnsupported)
	}
	v, err := eventstore.ParseVector(token)
	if err != nil {
		return at, err
	}
	return s.options.Locate(ctx, v)
}

// addSession adds the header X-Session to an answer that stands at a position: what the answer says itself, where it is of what
// was recorded, else all that it may rest on.
func (s *Server) addSession(ctx context.Context, h metadata.MD, m proto.Message) error {
	if token := sessionOf(m); token != "" {
		h.Set("x-session", token)
		return nil
	}
	if s.options.Session == nil || len(h.Get("x-position")) == 0 {
		return nil
	}
	v, err := s.options.Session(ctx)
	if err != nil {
		return err
	}
	if len(v) > 0 {
		h.Set("x-session", v.String())
	}
	return nil
}
