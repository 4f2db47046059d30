package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// parking is what operators do about events and saga instances that are set aside.
type parking struct{ node *Node }

// ListParked lists what is parked, by model and saga.
func (p parking) ListParked(ctx context.Context) (*apiv1.ListParkedResponse, error) {
	out := &apiv1.ListParkedResponse{}
	for _, m := range p.node.models {
		list, err := m.parking().Parked(ctx)
		if errors.Is(err, projections.ErrNoCursor) {
			continue // a model that is not there yet has parked nothing
		}
		if err != nil {
			return nil, fmt.Errorf("what %s has parked: %w", m.name, err)
		}
		for _, e := range list {
			out.Events = append(out.Events, &apiv1.ParkedEvent{
				Projection: m.name, Stream: e.Stream.String(), Position: e.Position.String(), Type: e.Type, Reason: e.Reason,
			})
		}
	}
	for _, s := range p.node.sagas {
		for _, i := range s.Parked() {
			out.Instances = append(out.Instances, &apiv1.ParkedInstance{
				Saga: s.name, Tenant: i.Tenant, Instance: i.Instance, Reason: errorText(i.Err), Waiting: uint64(i.Waiting),
			})
		}
	}
	return out, nil
}

// RetryEvents applies a projection's parked events again, of one stream or, with the zero StreamID, of all.
func (p parking) RetryEvents(ctx context.Context, name string, stream eventstore.StreamID) (int, error) {
	m, err := p.node.model(name)
	if err != nil {
		return 0, err
	}
	applied, err := m.parking().Retry(ctx, stream)
	if err != nil {
		return applied, fmt.Errorf("retry what %s has parked: %w", name, filling(err))
	}
	return applied, nil
}

// filling has the error of a model that is not there yet say that it is being filled.
func filling(err error) error {
	if errors.Is(err, projections.ErrNoCursor) {
		return projections.ErrRebuilding
	}
	return err
}

// RetryInstances has parked instances of a saga go on: one, or all where none is named. It returns how many are not parked
// again.
func (p parking) RetryInstances(ctx context.Context, name, tenant, instance string) (applied int, err error) {
	for _, s := range p.node.sagas {
		if s.name != name {
			continue
		}
		if why := p.node.followers.waiting(sagaPrefix + name); why != nil {
			return 0, fmt.Errorf("%w: saga %s waits for what it did in an earlier life of the log: %w", eventstore.ErrUnavailable, name, why)
		}
		all := s.Parked()
		if instance != "" {
			all = []saga.Parked{{Tenant: tenant, Instance: instance}}
		}
		for _, i := range all {
			switch err := s.Retry(ctx, i.Tenant, i.Instance); {
			case err == nil:
				applied++
			case instance == "" && errors.Is(err, eventstore.ErrNotFound), errors.Is(err, saga.ErrParkedAgain):
				// Somebody else was faster; or the list says why it is parked now.
			default:
				return applied, err
			}
		}
	}
	return applied, nil
}

// HasSaga reports whether a saga has the name.
func (p parking) HasSaga(name string) bool {
	for _, s := range p.node.sagas {
		if s.name == name {
			return true
		}
	}
	return false
}

// SkipEvent drops a parked event from a projection for good.
func (p parking) SkipEvent(ctx context.Context, name string, at eventstore.Position) error {
	m, err := p.node.model(name)
	if err != nil {
		return err
	}
	if err := m.parking().Skip(ctx, at); err != nil {
		return fmt.Errorf("skip %s in %s: %w", at, name, filling(err))
	}
	return nil
}
