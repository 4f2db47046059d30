package node

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/tributary-es/tributary/commands/saga"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/sealed"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/internal/server/storeapi"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// registerOwn offers the services that every node has.
func (n *Node) registerOwn() error {
	streams := &server.Streams{Store: n.sealed, Heads: n.local.Heads, PayloadJSON: n.payloadJSON, Void: n.bus.Void}
	if err := n.server.Register(&apiv1.StreamService_ServiceDesc, streams); err != nil {
		return err
	}
	if err := n.server.Register(&apiv1.SubjectService_ServiceDesc, &server.Subjects{Erasures: subjects{n}}); err != nil {
		return err
	}
	store := &storeapi.Service{Store: recorded{n.store, n.sealed}, Frames: n.local, Heads: n.local.Heads, Kept: n.kept(), Failure: n.server.Failure}
	if err := n.server.Register(&storeapi.ServiceDesc, store); err != nil {
		return err
	}
	consumers := &server.Groups{Groups: n.groups}
	if err := n.server.Register(&storev1.ConsumerGroups_ServiceDesc, consumers); err != nil {
		return err
	}
	if err := n.registerSites(); err != nil {
		return err
	}
	return n.server.Register(&apiv1.AdminService_ServiceDesc, &server.Admin{
		Status: n.status, Outbox: n.outbox, Rebuild: n.rebuildStream, BackUp: n.backupStream, VerifyAll: n.verifyStream, ScrubAll: n.scrubStream, Parking: parking{n}, Schemas: n.schemas,
		Archiving: archiving{n},
	})
}

// kept names what is not written by appends through the store API: Tributary's own types of events, and what the domains'
// aggregates, sagas and projections work with, unless the configuration lets that be.
func (n *Node) kept() storeapi.Kept {
	k := storeapi.Kept{Categories: map[string]bool{}, Sagas: map[string]bool{}, Types: map[string]bool{}}
	keepTypes := func(types []string) {
		for _, t := range types {
			k.Types[t] = true
		}
	}
	keepTypes(groups.Types())
	keepTypes(sealed.Types())
	keepTypes([]string{eventstore.ReceiptType, schemasType, saga.CheckpointType})
	if n.config.RawAppends {
		return k
	}
	for _, c := range n.bus.Categories() {
		k.Categories[c] = true
	}
	for _, s := range n.sagas {
		k.Categories[s.name] = true
		k.Sagas[s.name] = true
	}
	for _, d := range n.domains {
		if d.Keys != nil {
			keepTypes(d.Keys.Types)
		}
		if d.Rows != nil {
			keepTypes(d.Rows.Types)
		}
		for _, codec := range d.Codecs {
			keepTypes(codec.Types())
		}
	}
	return k
}

// recorded is the log as it is recorded, with personal fields sealed, for programs that bring their own. What they append is
// sealed on its way where its type has personal fields.
type recorded struct {
	eventstore.Store
	sealing eventstore.Appender
}

// Append implements eventstore.Appender.
func (r recorded) Append(ctx context.Context, request eventstore.Request) (eventstore.Receipt, error) {
	return r.sealing.Append(ctx, request)
}

// Enqueue implements eventstore.Enqueuer.
func (r recorded) Enqueue(ctx context.Context, requests []eventstore.Request, done func(int, eventstore.Answer)) {
	eventstore.Enqueue(ctx, r.sealing, requests, done)
}

// payloadJSON renders payloads that a codec of a domain knows.
func (n *Node) payloadJSON(e *eventstore.Recorded) string {
	for _, d := range n.domains {
		for _, codec := range d.Codecs {
			if !slices.Contains(codec.Types(), e.Type) {
				continue
			}
			m, err := codec.Decode(e)
			if err != nil {
				return ""
			}
			body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
			if err != nil {
				return ""
			}
			return string(body)
		}
	}
	return ""
}

func (n *Node) rebuildStream(ctx context.Context, name string, send func(*apiv1.RebuildProgress) error) error {
	m, err := n.model(name)
	if err != nil {
		return err
	}
	last := &apiv1.RebuildProgress{}
	before, after, err := n.rebuild(ctx, m, func(p *apiv1.RebuildProgress) {
		last = p
		_ = send(p) // a client that is gone ends ctx, and with it the rebuild
	})
	if err != nil {
		return fmt.Errorf("rebuild %s: %w", name, err)
	}
	last.Done, last.DigestBefore, last.DigestAfter = true, before, after
	return send(last)
}

func (n *Node) backupStream(ctx context.Context, folder string, send func(*apiv1.BackupProgress) error) error {
	report, err := n.BackUp(ctx, folder, func(done, total uint64) {
		_ = send(&apiv1.BackupProgress{DoneEvents: done, TotalEvents: total}) // a client that is gone ends ctx
	})
	if err != nil {
		return err
	}
	body, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	return send(&apiv1.BackupProgress{Done: true, DoneEvents: report.Events, TotalEvents: report.Events, ReportJson: string(body)})
}

func (n *Node) verifyStream(ctx context.Context, parts []string, send func(*apiv1.VerifyProgress) error) error {
	report, err := n.Verify(ctx, parts, func(part string, done, total uint64) {
		_ = send(&apiv1.VerifyProgress{Part: part, DoneSteps: done, TotalSteps: total}) // a client that is gone ends ctx
	})
	if err != nil {
		return err
	}
	body, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	return send(&apiv1.VerifyProgress{Done: true, ReportJson: string(body), Faults: report.Faults})
}
