package storeapi

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/wire"
	"github.com/tributary-es/tributary/internal/server"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// Kept names what appends must leave alone, because others rely on who writes it: an event in an aggregate's stream that
// its codec cannot read stops every command of that stream, and one of a type that a projection folds is set aside by it
// or, worse, counted. Categories and tenants that begin with $ are kept always, and so are request ids of sagas.
type Kept struct {
	Categories, Types map[string]bool
	// Sagas are those whose categories are kept with the name of whatever site behind a dot: sites come and go.
	Sagas map[string]bool
}

// sagaPrefix begins the request ids that sagas use.
const sagaPrefix = "saga/"

// check returns an error when the request adds to what is kept.
func (k *Kept) check(r *eventstore.Request) error {
	const hint = "append to a category and with event types of your own; what belongs to the server's aggregates is written by their commands"
	if strings.HasPrefix(r.Tenant, "$") {
		return server.Kept(hint, "tenant %q is Tributary's own", r.Tenant)
	}
	if strings.HasPrefix(r.ID, sagaPrefix) {
		return fmt.Errorf("%w: a request id must not begin with %s, which sagas use", eventstore.ErrInvalid, sagaPrefix)
	}
	for i := range r.Appends {
		a := &r.Appends[i]
		category := a.Stream.Category
		saga, _, ofSite := strings.Cut(category, ".")
		switch {
		case eventstore.IsSystemCategory(category):
			return server.Kept(hint, "category %q is Tributary's own", category)
		case k.Categories[category], ofSite && k.Sagas[saga]:
			return server.Kept(hint, "category %q belongs to an aggregate or saga of this server", category)
		}
		for j := range a.Events {
			switch e := &a.Events[j]; {
			case k.Types[e.Type]:
				return server.Kept(hint, "event type %q belongs to this server's aggregates and projections", e.Type)
			case e.Kind == eventstore.KindSystem:
				return server.Kept(hint, "events of kind %s are Tributary's own", e.Kind)
			}
		}
	}
	return nil
}

// message returns the request of a message, with what the call says besides.
func (s *Service) message(ctx context.Context, m *storev1.AppendRequest, o *origin) (r eventstore.Request, err error) {
	o.Fill(m)
	if r, err = wire.DecodeRequest(m); err != nil {
		return r, err
	}
	err = s.complete(ctx, &r, len(m.GetAppends()) > 0 && m.GetAppends()[0].GetExpect() != nil, o)
	return r, err
}

// read reads a request off its wire form, with what the call says besides; b belongs to it from then on.
func (s *Service) read(ctx context.Context, d *wire.RequestReader, r *eventstore.Request, b []byte, o *origin) error {
	if b == nil {
		return fmt.Errorf("%w: there is no request", eventstore.ErrInvalid)
	}
	expects, err := d.Read(r, b, &o.Defaults)
	if err != nil {
		return err
	}
	return s.complete(ctx, r, expects, o)
}

// complete adds to a request what the call says of it, and refuses what is kept, or claims to know what is not here. expects says
// that its first stream names an expectation.
func (s *Service) complete(ctx context.Context, r *eventstore.Request, expects bool, o *origin) error {
	r.Causation = cmp.Or(r.Causation, o.Causation)
	r.Correlation = cmp.Or(r.Correlation, o.Correlation)
	if r.TraceParent == "" {
		r.TraceParent, r.TraceState = o.TraceParent, cmp.Or(r.TraceState, o.TraceState)
	}
	if o.ifMatch != eventstore.Any {
		if len(r.Appends) != 1 || expects {
			return fmt.Errorf("%w: If-Match is for appends to one stream that names no expectation itself", eventstore.ErrInvalid)
		}
		r.Appends[0].Expect = o.ifMatch
	}
	if err := s.Kept.check(r); err != nil {
		return err
	}
	return s.checkContexts(ctx, r)
}

// origin is what a call's metadata says of its appends.
type origin struct {
	wire.Defaults
	ifMatch eventstore.Expect
	eventstore.Metadata
}

func originOf(ctx context.Context) (o origin, err error) {
	h := server.HeadersOf(ctx)
	if len(h) == 0 {
		return o, nil
	}
	o = origin{
		Defaults: wire.Defaults{Tenant: h.Get("x-tenant"), ID: h.Get("idempotency-key"), Durability: h.Get("x-durability")},
		Metadata: eventstore.Metadata{
			Causation: h.Get("x-causation-id"), Correlation: h.Get("x-correlation-id"), TraceParent: h.Get("traceparent"), TraceState: h.Get("tracestate"),
		},
	}
	if v := h.Get("if-match"); v != "" {
		o.ifMatch, err = eventstore.ParseIfMatch([]string{v})
	}
	return o, err
}

// tenantOr returns the tenant that a request or its call names, else another.
func tenantOr(ctx context.Context, named, otherwise string) string {
	return cmp.Or(server.TenantOf(ctx, named), otherwise)
}
