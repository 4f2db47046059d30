package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// Call answers a request of a plain route with a value that is written as JSON.
type Call func(ctx context.Context, r *http.Request) (any, error)

// Handle offers a plain route, a pattern of http.ServeMux such as "GET /v1/points/{id}", which has no gRPC side. Body,
// time and errors are treated as those of services. It must come before Run.
func (s *Server) Handle(pattern string, call Call) {
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		rec := &recorder{ResponseWriter: w}
		defer func() {
			if p := recover(); p != nil {
				s.fail(rec, r, fmt.Errorf("panic in %s: %v\n%s", pattern, p, debug.Stack()))
			}
			s.metrics.requests.WithLabelValues("custom", pattern, fmt.Sprint(rec.code())).Inc()
			s.metrics.latency.WithLabelValues("custom", pattern).Observe(time.Since(begin).Seconds())
		}()
		ctx, cancel := context.WithTimeout(r.Context(), s.options.RequestTimeout)
		defer cancel()
		r.Body = http.MaxBytesReader(rec, r.Body, s.options.MaxBodyBytes)
		answer, err := call(ctx, r)
		if err != nil {
			s.fail(rec, r, err)
			return
		}
		body, err := json.Marshal(answer)
		if err != nil {
			s.fail(rec, r, fmt.Errorf("encode answer: %w", err))
			return
		}
		rec.Header().Set("Content-Type", "application/json")
		_, _ = rec.Write(append(body, '\n')) // the client is gone: nobody to tell
	})
}

// Meta reads a command's Meta from the headers of a plain route's request. The caller sets the Hash.
func Meta(r *http.Request) (commands.Meta, error) {
	m := commands.Meta{
		Tenant: r.Header.Get("X-Tenant"), ID: r.Header.Get("Idempotency-Key"),
		Metadata: eventstore.Metadata{
			Causation: r.Header.Get("X-Causation-Id"), Correlation: r.Header.Get("X-Correlation-Id"),
			TraceParent: r.Header.Get("Traceparent"), TraceState: r.Header.Get("Tracestate"),
		},
	}
	var err error
	if m.Expect, err = eventstore.ParseIfMatch(r.Header.Values("If-Match")); err != nil {
		return m, err
	}
	m.Durability, err = eventstore.ParseDurability(r.Header.Get("X-Durability"))
	return m, err
}
