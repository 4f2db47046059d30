package commands

import (
	"context"
	"errors"
	"log/slog"

	"github.com/tributary-es/tributary/eventstore"
)

// Logging logs messages that fail with an error of class Broken: bugs and corruption, which somebody has to look at even
// if the caller does not. Refusals and transient errors are the caller's to report. Place it outside Recovery, so that it
// sees panics too.
func Logging(log *slog.Logger) Middleware {
	return func(next Handler) Handler {
		return func(ctx context.Context, m Message) (eventstore.Receipt, error) {
			receipt, err := next(ctx, m)
			if err == nil || eventstore.ClassOf(err) != eventstore.Broken {
				return receipt, err
			}
			attrs := []slog.Attr{
				slog.String("command", m.Name()), slog.String("tenant", m.Tenant), slog.String("id", m.ID),
				slog.String("correlation", m.Correlation), slog.String("trace", m.TraceParent), slog.Any("error", err),
			}
			var p *PanicError
			if errors.As(err, &p) {
				attrs = append(attrs, slog.String("stack", string(p.Stack)))
			}
			log.LogAttrs(ctx, slog.LevelError, "command is broken", attrs...)
			return receipt, err
		}
	}
}
