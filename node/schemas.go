package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commands/schema"
	"github.com/tributary-es/tributary/eventstore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
	systemv1 "github.com/tributary-es/tributary/schemas/gen/tributary/system/v1"
)

// Schemas are registered in the log itself: a stream of this category for each domain, with an event for each change.
const (
	schemasCategory = "$schemas"
	schemasType     = "tributary.schemas.v1"
)

// registration is a schema as the log has it.
type registration struct {
	schema.Schema
	domain, program string
	at              eventstore.Position
}

// registrations returns what the log has of a domain's schemas, in order.
func registrations(ctx context.Context, log eventstore.Reader, domain string) ([]registration, error) {
	stream := eventstore.Stream(schemasCategory, domain)
	var out []registration
	for e, err := range log.Read(ctx, stream, 1) {
		if err != nil {
			return nil, fmt.Errorf("read schemas of %s: %w", domain, err)
		}
		var event systemv1.SchemasRegistered
		if err := proto.Unmarshal(e.Payload, &event); err != nil {
			return nil, fmt.Errorf("read schemas of %s at %s: %w", domain, e.Position, err)
		}
		files, err := schema.Decode(event.GetFiles())
		if err != nil {
			return nil, fmt.Errorf("read schemas of %s at %s: %w", domain, e.Position, err)
		}
		for _, r := range event.GetSchemas() {
			m, err := files.Message(r.GetMessage())
			if err != nil {
				return nil, fmt.Errorf("read schema of %s at %s: %w", r.GetName(), e.Position, err)
			}
			out = append(out, registration{schema.Schema{Name: r.GetName(), Message: m}, domain, event.GetProgram(), e.Position})
		}
	}
	return out, nil
}

// schemasOf returns the schemas of wire names, sorted.
func schemasOf(messages map[string]protoreflect.MessageDescriptor) []schema.Schema {
	out := make([]schema.Schema, 0, len(messages))
	for _, name := range slices.Sorted(maps.Keys(messages)) {
		out = append(out, schema.Schema{Name: name, Message: messages[name]})
	}
	return out
}

// checkSchemas holds the schemas of a domain against those that a log was written with.
func checkSchemas(ctx context.Context, log eventstore.Reader, domain string, program []schema.Schema) (schema.Findings, error) {
	history, err := registrations(ctx, log, domain)
	if err != nil {
		return schema.Findings{}, err
	}
	known := make([]schema.Schema, len(history))
	for i := range history {
		known[i] = history[i].Schema
	}
	return schema.Check(known, program, func(name string) (bool, error) {
		for _, err := range log.ReadAllBackwards(ctx, eventstore.Position{}, eventstore.Filter{Types: []string{name}}) {
			return err == nil, err
		}
		return false, nil
	})
}

// registerSchemas checks the schemas of all domains, and registers in the log what is new of them. A program that would
// misread what is recorded is refused before anything of it is written. A site that has others registers when it may write.
func (n *Node) registerSchemas(ctx context.Context) error {
	var faults []string
	for i := range n.domains {
		d := &n.domains[i]
		found, err := checkSchemas(ctx, n.local, d.Name, d.schemas)
		if err != nil {
			return err
		}
		d.changed = found.Changed
		faults = append(faults, found.Faults...)
		if len(found.Older) > 0 {
			n.log.Warn("this program is older than the last that wrote here: it reads what it knows of these events, and does not write them",
				slog.String("domain", d.Name), slog.String("events", strings.Join(found.Older, " ")))
			n.bus.Freeze(found.Older...)
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("%w: this program would misread what is recorded in %s:\n  %s", eventstore.ErrInvalid, n.config.Data, strings.Join(faults, "\n  "))
	}
	if n.sites.site != nil {
		return nil
	}
	return n.recordChangedSchemas(ctx)
}

// recordChangedSchemas registers what is new of the schemas of all domains.
func (n *Node) recordChangedSchemas(ctx context.Context) error {
	for i := range n.domains {
		if err := n.recordSchemas(ctx, n.domains[i].Name, n.domains[i].changed); err != nil {
			return err
		}
	}
	return nil
}

// recordSchemas appends what is new of a domain's schemas. A log that takes no writes does not keep the node from reading.
func (n *Node) recordSchemas(ctx context.Context, domain string, changed []schema.Schema) error {
	if len(changed) == 0 {
		return nil
	}
	files, err := schema.Encode(changed)
	if err != nil {
		return err
	}
	event := &systemv1.SchemasRegistered{Files: files, Program: n.config.Version}
	for _, s := range changed {
		fingerprint := s.Fingerprint()
		event.Schemas = append(event.Schemas, &systemv1.RegisteredSchema{
			Name: s.Name, Message: string(s.Message.FullName()), Fingerprint: fingerprint[:],
		})
	}
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(event)
	if err != nil {
		return fmt.Errorf("encode schemas of %s: %w", domain, err)
	}
	_, err = n.local.Append(ctx, eventstore.Request{Appends: []eventstore.StreamAppend{{
		Stream: eventstore.Stream(schemasCategory, domain),
		Events: []eventstore.Event{{Type: schemasType, Kind: eventstore.KindSystem, Payload: payload}},
	}}})
	switch {
	case errors.Is(err, eventstore.ErrReadOnly), errors.Is(err, eventstore.ErrUnavailable):
		n.log.Warn("schemas cannot be registered now, and are the next time", slog.String("domain", domain), slog.Any("error", err))
	case err != nil:
		return fmt.Errorf("register schemas of %s: %w", domain, err)
	}
	return nil
}

// schemas lists what the log has of the schemas of all domains.
func (n *Node) schemas(ctx context.Context, name string) ([]*apiv1.EventSchema, error) {
	var out []*apiv1.EventSchema
	for _, d := range n.domains {
		list, err := listSchemas(ctx, n.local, d.Name, name, d.schemas)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	slices.SortStableFunc(out, func(a, b *apiv1.EventSchema) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out, nil
}

func listSchemas(ctx context.Context, log eventstore.Reader, domain, name string, program []schema.Schema) ([]*apiv1.EventSchema, error) {
	history, err := registrations(ctx, log, domain)
	if err != nil {
		return nil, err
	}
	current := map[string]eventstore.Hash{}
	for _, s := range program {
		current[s.Name] = s.Fingerprint()
	}
	var out []*apiv1.EventSchema
	revisions := map[string]uint32{}
	type revision struct {
		name        string
		fingerprint eventstore.Hash
	}
	seen := map[revision]bool{}
	for _, r := range history {
		this := revision{r.Name, r.Fingerprint()}
		if seen[this] {
			continue // each site says what it writes
		}
		seen[this] = true
		revisions[r.Name]++
		if name != "" && r.Name != name {
			continue
		}
		fingerprint := r.Fingerprint()
		s := &apiv1.EventSchema{
			Name: r.Name, Version: versionOf(r.Name), Revision: revisions[r.Name], Domain: domain, Message: string(r.Message.FullName()),
			Fingerprint: hex.EncodeToString(fingerprint[:]), FirstPosition: r.at.String(), Program: r.program,
			Current: current[r.Name] == fingerprint,
		}
		if name != "" {
			s.Fields = schema.Fields(r.Message)
			if s.Files, err = schema.Encode([]schema.Schema{r.Schema}); err != nil {
				return nil, err
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// versionOf is the N of a wire name's vN.
func versionOf(name string) uint32 {
	v, err := strconv.ParseUint(name[strings.LastIndex(name, ".v")+2:], 10, 16)
	if err != nil { // INVARIANT: codecs check the names
		return 0
	}
	return uint32(v)
}

// messagesOf returns what a domain's codecs say of its events, with what was registered at the bus meanwhile.
func messagesOf(d Domain, before, after map[string]protoreflect.MessageDescriptor) map[string]protoreflect.MessageDescriptor {
	out := map[string]protoreflect.MessageDescriptor{}
	for name, m := range after {
		if before[name] == nil {
			out[name] = m
		}
	}
	for _, c := range d.Codecs {
		if described, ok := c.(commands.Described); ok {
			maps.Copy(out, described.Messages())
		}
	}
	return out
}
