package commands

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Tracer starts spans. It is the seam to a tracing library.
type Tracer interface {
	// Start begins a span below the trace context of the metadata, or of ctx where the metadata has none.
	Start(ctx context.Context, name string, from eventstore.Metadata) (context.Context, Span)
}

// Span is one piece of work in a trace.
type Span interface {
	// TraceContext returns the span's W3C trace context, which events are recorded with.
	TraceContext() (traceParent, traceState string)
	// End ends the span; err is nil when the work succeeded.
	End(receipt eventstore.Receipt, err error)
}

// Tracing makes a span of each message, named after its first command, and records its trace context with the events.
func Tracing(t Tracer) Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, m Message) (receipt eventstore.Receipt, err error) {
			ctx, span := t.Start(ctx, m.Name(), m.Metadata)
			m.TraceParent, m.TraceState = span.TraceContext()
			defer func() { span.End(receipt, err) }()
			return next(ctx, m)
		}
	}
}

// Name returns the Go type of the message's first command, such as "order.Place", for logs, spans and metrics.
func (m *Message) Name() string {
	if len(m.Commands) == 0 {
		return "none"
	}
	return fmt.Sprintf("%T", m.Commands[0])
}
