package server

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// Call answers a request of a plain route with a value that is written as JSON. A value that comes together with
// eventstore.ErrDurabilityTimeout is an answer all the same, with the status 202.
type Call func(ctx context.Context, r *http.Request) (any, error)

// Positioned is an answer together with the position it stands at, which goes into the header X-Position.
type Positioned struct {
	Answer   any
	Position string
	// Session, when not empty, goes into the header X-Session.
	Session string
}

// Handle offers a plain route, a pattern of http.ServeMux such as "GET /v1/points/{id}", which has no gRPC side. Body,
// time, metadata and errors are treated as those of services. It must come before Run.
func (s *Server) Handle(pattern string, call Call) {
	s.plain = append(s.plain, pattern)
	s.mux.HandleFunc(pattern, s.observed("plain", pattern, true, func(w *recorder, r *http.Request) error {
		ctx, err := s.checkMetadata(metadata.NewIncomingContext(r.Context(), incoming(r.Header)))
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, s.options.RequestTimeout)
		defer cancel()
		if token := cmp.Or(r.Header.Get("X-Read-After"), r.URL.Query().Get(readAfterParam)); token != "" {
			at, err := s.locate(ctx, token)
			if err != nil {
				return err
			}
			r.Header.Set("X-Read-After", at)
		}
		if class := HeadersOf(ctx).Get("x-durability"); class != "" {
			r.Header.Set("X-Durability", class)
		}
		body, err := s.readBody(w, r)
		if err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer, err := call(ctx, r)
		if p, ok := answer.(Positioned); ok {
			answer = p.Answer
			w.Header().Set("X-Position", p.Position)
			if p.Session != "" {
				w.Header().Set("X-Session", p.Session)
			}
		}
		status := http.StatusOK
		if errors.Is(err, eventstore.ErrDurabilityTimeout) && answer != nil {
			status, err = http.StatusAccepted, nil
		}
		if err != nil {
			return err
		}
		out, err := json.Marshal(answer)
		if err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		w.answer(status, append(out, '\n'))
		return nil
	}))
}

// Meta reads a command's Meta from the headers of a plain route's request. The caller sets the Hash. Tenants other than the
// default one are refused, for read models do not keep them apart, and so are keys of the form that sagas use.
func Meta(r *http.Request) (commands.Meta, error) {
	if t := r.Header.Get("X-Tenant"); t != "" && t != eventstore.DefaultTenant {
		return commands.Meta{}, fmt.Errorf("%w: the read models hold tenant %q, not %q", eventstore.ErrUnsupported, eventstore.DefaultTenant, t)
	}
	m := commands.Meta{
		ID: r.Header.Get("Idempotency-Key"),
		Metadata: eventstore.Metadata{
			Causation: r.Header.Get("X-Causation-Id"), Correlation: r.Header.Get("X-Correlation-Id"),
			TraceParent: r.Header.Get("Traceparent"), TraceState: r.Header.Get("Tracestate"),
		},
	}
	if strings.HasPrefix(m.ID, "saga/") {
		return m, fmt.Errorf("%w: an Idempotency-Key must not begin with saga/, which sagas use", eventstore.ErrInvalid)
	}
	var err error
	if m.Expect, err = eventstore.ParseIfMatch(r.Header.Values("If-Match")); err != nil {
		return m, err
	}
	m.Durability, err = eventstore.ParseDurability(r.Header.Get("X-Durability"))
	return m, err
}
