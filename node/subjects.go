package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/sealed"
	"github.com/tributary-es/tributary/projections"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// subjects erases the personal data of subjects.
type subjects struct{ node *Node }

// erasePatience is how long an erasure waits for the read models before it answers that they are still to come.
const erasePatience = 5 * time.Second

// EraseSubject destroys the subject's key and drops what is kept of it in memory, then gives the read models a while.
func (s subjects) EraseSubject(ctx context.Context, tenant, id, reason, actor string, inAdvance bool) (*apiv1.Erasure, error) {
	if err := sealed.ValidateReason(reason); err != nil { // before the subject is looked up: a request that lacks one is wrong whoever it is about
		return nil, err
	}
	of := subjectOf(tenant, id)
	known, err := s.node.sealed.Erasure(ctx, of)
	if err != nil {
		return nil, err
	}
	if !inAdvance && !known.Requested() && known.Key == 0 {
		all, err := s.node.keys.knowsAll(ctx, s.node.store)
		if err != nil {
			return nil, err
		}
		if all {
			return nil, unknownSubject(of)
		}
		// Its key may be one that is missing: the erasure holds when a backup brings that back.
	}
	erasure, err := s.node.sealed.Erase(ctx, of, reason, eventstore.Metadata{Actor: actor})
	if err != nil {
		return nil, err
	}
	s.node.bus.Forget()
	s.node.erased(erasure.Event)
	deadline := time.Now().Add(erasePatience)
	for {
		out := s.describe(ctx, &erasure)
		if out.GetState() != statePending || time.Now().After(deadline) {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return out, nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func unknownSubject(of sealed.Subject) error {
	return fmt.Errorf("%w: no personal data of subject %s were ever recorded, so there is nothing to erase; is the reference right? "+
		"To have none recorded later either, erase it in advance (--in-advance)", eventstore.ErrNotFound, of)
}

// Subject says how far a subject's erasure is.
func (s subjects) Subject(ctx context.Context, tenant, id string) (*apiv1.Erasure, error) {
	erasure, err := s.node.sealed.Erasure(ctx, subjectOf(tenant, id))
	if err != nil {
		return nil, err
	}
	return s.describe(ctx, &erasure), nil
}

func subjectOf(tenant, id string) sealed.Subject {
	return sealed.Subject{Tenant: cmp.Or(tenant, eventstore.DefaultTenant), ID: id}
}

// The states of an erasure.
const (
	stateNone    = "none"
	statePending = "pending"
	stateDone    = "done"
)

func (s subjects) describe(ctx context.Context, e *sealed.Erasure) *apiv1.Erasure {
	out := &apiv1.Erasure{
		Id: e.Subject.ID, Tenant: e.Subject.Tenant, State: stateNone, Reason: e.Reason, Actor: e.Actor, KeyDestroyed: e.Destroyed,
	}
	if !e.Requested() {
		return out
	}
	if !e.Event.IsZero() {
		out.Event, out.RequestedAt = e.Event.String(), timestamppb.New(e.At)
	}
	out.State = stateDone
	if !e.Destroyed {
		out.State = statePending
	}
	for _, m := range s.node.models {
		c := m.confirm(ctx, e.Event)
		if !c.GetConfirmed() {
			out.State = statePending
		}
		out.Models = append(out.Models, c)
	}
	return out
}

// confirm says whether a read model has nothing of a subject any more whose erasure is at a position.
func (m *model) confirm(ctx context.Context, at eventstore.Position) *apiv1.ErasureModel {
	status := m.runner.Status()
	out := &apiv1.ErasureModel{Name: m.name, Position: status.Position.String()}
	alone := true
	var err error
	if m.redis != nil {
		var c projections.Cursor
		if c, err = m.redis.Cursor(ctx); err == nil {
			out.Position = c.Position.String()
			status.Position = c.Position
			alone, err = m.redis.Alone(ctx)
		}
	}
	switch {
	case errors.Is(err, projections.ErrNoCursor):
		out.WaitsFor = "the model, which is being filled"
	case err != nil:
		out.WaitsFor = err.Error()
	case status.Position.Incarnation == at.Incarnation && status.Position.LSN < at.LSN:
		out.WaitsFor = fmt.Sprintf("the erasure at %s", at)
	case !alone:
		out.WaitsFor = "another generation to go, which a rebuild is filling or has left; the next rebuild drops what was given up"
	default:
		out.Confirmed = true
	}
	return out
}

// erased notes that the log has an erasure at a position.
func (n *Node) erased(at eventstore.Position) {
	n.erasures.Lock()
	defer n.erasures.Unlock()
	if n.keys.last.Incarnation != at.Incarnation || n.keys.last.LSN < at.LSN {
		n.keys.last = at
	}
}

// lastErasure returns the position of the last erasure on record.
func (n *Node) lastErasure() eventstore.Position {
	n.erasures.Lock()
	defer n.erasures.Unlock()
	return n.keys.last
}
