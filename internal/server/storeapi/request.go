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
		switch category := a.Stream.Category; {
		case eventstore.IsSystemCategory(category):
			return server.Kept(hint, "category %q is Tributary's own", category)
		case k.Categories[category]:
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

// request makes a request of a message and of what the call says besides.
func (s *Service) request(m *storev1.AppendRequest, o *origin) (eventstore.Request, error) {
	if m == nil {
		return eventstore.Request{}, fmt.Errorf("%w: there is no request", eventstore.ErrInvalid)
	}
	m.Tenant = cmp.Or(m.GetTenant(), o.tenant)
	m.RequestId = cmp.Or(m.GetRequestId(), o.id)
	m.Durability = cmp.Or(m.GetDurability(), o.durability)
	r, err := wire.DecodeRequest(m)
	if err != nil {
		return r, err
	}
	r.Causation = cmp.Or(r.Causation, o.Causation)
	r.Correlation = cmp.Or(r.Correlation, o.Correlation)
	if r.TraceParent == "" {
		r.TraceParent, r.TraceState = o.TraceParent, cmp.Or(r.TraceState, o.TraceState)
	}
	if o.ifMatch != eventstore.Any {
		if len(r.Appends) != 1 || m.GetAppends()[0].GetExpect() != nil {
			return r, fmt.Errorf("%w: If-Match is for appends to one stream that names no expectation itself", eventstore.ErrInvalid)
		}
		r.Appends[0].Expect = o.ifMatch
	}
	err = s.Kept.check(&r)
	return r, err
}

// origin is what a call's metadata says of its appends.
type origin struct {
	tenant, id, durability string
	ifMatch                eventstore.Expect
	eventstore.Metadata
}

func originOf(ctx context.Context) (o origin, err error) {
	get := func(name string) string { return server.Header(ctx, name) }
	o = origin{
		tenant: get("x-tenant"), id: get("idempotency-key"), durability: get("x-durability"),
		Metadata: eventstore.Metadata{
			Causation: get("x-causation-id"), Correlation: get("x-correlation-id"), TraceParent: get("traceparent"), TraceState: get("tracestate"),
		},
	}
	if v := get("if-match"); v != "" {
		o.ifMatch, err = eventstore.ParseIfMatch([]string{v})
	}
	return o, err
}

// tenantOr returns the tenant that a request or its call names, else another.
func tenantOr(ctx context.Context, named, otherwise string) string {
	return cmp.Or(server.TenantOf(ctx, named), otherwise)
}
