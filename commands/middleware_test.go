package commands_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
)

// handle runs a middleware over a handler that does as told.
func handle(m commands.Middleware, h commands.Handler, msg commands.Message) (eventstore.Receipt, error) {
	return m(h)(context.Background(), msg)
}

type fussy struct{ err error }

func (f fussy) Validate() error { return f.err }

func TestValidation(t *testing.T) {
	called := false
	h := func(context.Context, commands.Message) (eventstore.Receipt, error) {
		called = true
		return eventstore.Receipt{}, nil
	}
	_, err := handle(commands.Validation(), h, commands.Message{Commands: []any{
		fussy{errors.New("no name")}, touch{"a"}, fussy{}, fussy{errors.New("no date")},
	}})
	if called || !errors.Is(err, eventstore.ErrInvalid) {
		t.Errorf("error is %v, handled: %v; want ErrInvalid before anything is handled", err, called)
	}
	for _, fault := range []string{"no name", "no date"} {
		if !strings.Contains(err.Error(), fault) {
			t.Errorf("error %q does not mention %q", err, fault)
		}
	}
	if _, err := handle(commands.Validation(), h, commands.Message{Commands: []any{fussy{}}}); err != nil || !called {
		t.Errorf("a valid command gives %v, handled: %v", err, called)
	}
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		_, err := handle(commands.Timeout(time.Second), func(ctx context.Context, _ commands.Message) (eventstore.Receipt, error) {
			<-ctx.Done()
			return eventstore.Receipt{}, ctx.Err()
		}, commands.Message{})
		if took := time.Since(start); took != time.Second || eventstore.ClassOf(err) != eventstore.Transient {
			t.Errorf("ended after %v with %v, want 1 s and a transient error", took, err)
		}
	})
}

func TestIdempotency(t *testing.T) {
	m := commands.Idempotency(func(m commands.Message) string {
		if d, ok := m.Commands[0].(deposit); ok {
			return "deposit/" + d.Account
		}
		return ""
	})
	for _, c := range []struct{ given, want string }{{"", "deposit/a"}, {"mine", "mine"}} {
		_, err := handle(m, func(_ context.Context, m commands.Message) (eventstore.Receipt, error) {
			if m.ID != c.want {
				t.Errorf("id is %q, want %q", m.ID, c.want)
			}
			return eventstore.Receipt{}, nil
		}, commands.Message{Meta: commands.Meta{ID: c.given}, Commands: []any{deposit{"a", 1}}})
		must(t, err)
	}
}

type traces struct{ log []string }

type span struct{ t *traces }

func (t *traces) Start(ctx context.Context, name string, from eventstore.Metadata) (context.Context, commands.Span) {
	t.log = append(t.log, "start "+name+" under "+from.TraceParent)
	return ctx, span{t}
}
func (s span) TraceContext() (string, string) { return "child", "state" }
func (s span) End(_ eventstore.Receipt, err error) {
	s.t.log = append(s.t.log, "end "+errorText(err))
}

func errorText(err error) string {
	if err == nil {
		return "well"
	}
	return err.Error()
}

func (t *traces) Dispatched(m *commands.Message, took time.Duration, r eventstore.Receipt, err error) {
	t.log = append(t.log, m.Name()+" took "+took.String()+", "+errorText(err))
}

func TestTracingAndMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := &traces{}
		m := func(next commands.Handler) commands.Handler { return commands.Metrics(tr)(commands.Tracing(tr)(next)) }
		_, err := handle(m, func(_ context.Context, m commands.Message) (eventstore.Receipt, error) {
			if m.TraceParent != "child" || m.TraceState != "state" {
				t.Errorf("events are recorded under %q, want the span's context", m.TraceParent)
			}
			time.Sleep(time.Second)
			return eventstore.Receipt{}, commands.Reject("no", "because")
		}, commands.Message{Meta: commands.Meta{Metadata: eventstore.Metadata{TraceParent: "parent"}}, Commands: []any{touch{"a"}}})
		if err == nil {
			t.Error("the error got lost")
		}
		want := []string{"start commands_test.touch under parent", "end no: because", "commands_test.touch took 1s, no: because"}
		if diff := cmp.Diff(want, tr.log); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

func TestLogging(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		says string // empty: nothing is logged
	}{
		"well":      {nil, ""},
		"refused":   {commands.Reject("no", "because"), ""},
		"transient": {eventstore.ErrUnavailable, ""},
		"broken":    {errors.New("a bug"), "a bug"},
	} {
		var out bytes.Buffer
		_, err := handle(commands.Logging(slog.New(slog.NewTextHandler(&out, nil))), func(context.Context, commands.Message) (eventstore.Receipt, error) {
			return eventstore.Receipt{}, c.err
		}, commands.Message{Commands: []any{touch{"a"}}})
		if !errors.Is(err, c.err) {
			t.Errorf("%s: error is %v", name, err)
		}
		if (c.says == "") != (out.Len() == 0) || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s: logged %q, want %q mentioned", name, out.String(), c.says)
		}
	}
	var out bytes.Buffer
	m := func(next commands.Handler) commands.Handler {
		return commands.Logging(slog.New(slog.NewTextHandler(&out, nil)))(commands.Recovery()(next))
	}
	_, err := handle(m, func(context.Context, commands.Message) (eventstore.Receipt, error) { panic("boom") }, commands.Message{})
	var p *commands.PanicError
	if !errors.As(err, &p) || !strings.Contains(out.String(), "middleware_test.go") {
		t.Errorf("a panic gives %v and logs %q, want a *PanicError and its stack", err, out.String())
	}
}

func TestMiddlewareOrder(t *testing.T) {
	var log []string
	named := func(name string) commands.Middleware {
		return func(next commands.Handler) commands.Handler {
			return func(ctx context.Context, m commands.Message) (eventstore.Receipt, error) {
				log = append(log, name)
				return next(ctx, m)
			}
		}
	}
	b := newBank(t, newStore(t), commands.Options{Middleware: []commands.Middleware{named("outer"), named("inner")}})
	dispatch(t, b, commands.Meta{}, touch{"a"})
	if diff := cmp.Diff([]string{"outer", "inner"}, log); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}
