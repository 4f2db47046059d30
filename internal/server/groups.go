package server

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/groups"
	"github.com/tributary-es/tributary/eventstore/wire"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// Groups implements the ConsumerGroups service.
type Groups struct {
	storev1.UnimplementedConsumerGroupsServer

	Groups *groups.Groups
}

// CreateGroup makes a group.
func (s *Groups) CreateGroup(ctx context.Context, r *storev1.CreateGroupRequest) (*storev1.CreateGroupResponse, error) {
	in := r.GetSettings()
	start, err := startOf(in.GetStart())
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	settings := groups.Settings{
		Tenant: TenantOf(ctx, in.GetTenant()), Categories: in.GetCategories(), Types: in.GetTypes(),
		Query: wire.DecodeQuery(in.GetQuery()), Start: start,
		Lease: time.Duration(in.GetLeaseMs()) * time.Millisecond, MaxTries: int(in.GetMaxTries()), PassOver: in.GetPassOver(),
	}
	made, err := s.Groups.Create(ctx, r.GetName(), settings)
	if err != nil {
		return nil, err
	}
	return &storev1.CreateGroupResponse{Made: made}, nil
}

// startOf reads where a group begins.
func startOf(text string) (groups.Start, error) {
	switch text {
	case "", "beginning":
		return groups.Start{}, nil
	case "end":
		return groups.Start{End: true}, nil
	}
	p, at, err := positionOrTime(text)
	return groups.Start{Position: p, Time: at}, err
}

// startText writes what startOf reads.
func startText(s groups.Start) string {
	switch {
	case s.End:
		return "end"
	case !s.Time.IsZero():
		return s.Time.Format(time.RFC3339Nano)
	case s.Position != eventstore.Position{}:
		return s.Position.String()
	}
	return "beginning"
}

// DeleteGroup ends a group.
func (s *Groups) DeleteGroup(ctx context.Context, r *storev1.DeleteGroupRequest) (*storev1.DeleteGroupResponse, error) {
	if err := s.Groups.Delete(ctx, r.GetName(), r.GetActor()); err != nil {
		return nil, err
	}
	return &storev1.DeleteGroupResponse{}, nil
}

// DescribeGroup says how a group is.
func (s *Groups) DescribeGroup(ctx context.Context, r *storev1.DescribeGroupRequest) (*storev1.GroupInfo, error) {
	info, err := s.Groups.Describe(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	return infoOf(&info), nil
}

// ListGroups says how all groups are.
func (s *Groups) ListGroups(ctx context.Context, _ *storev1.ListGroupsRequest) (*storev1.ListGroupsResponse, error) {
	list, err := s.Groups.List(ctx)
	if err != nil {
		return nil, err
	}
	out := &storev1.ListGroupsResponse{}
	for i := range list {
		out.Groups = append(out.Groups, infoOf(&list[i]))
	}
	return out, nil
}

func infoOf(i *groups.Info) *storev1.GroupInfo {
	settings := &storev1.GroupSettings{
		Tenant: i.Settings.Tenant, Categories: i.Settings.Categories, Types: i.Settings.Types,
		Query: wire.EncodeQuery(i.Settings.Query), Start: startText(i.Settings.Start),
		LeaseMs: uint32(i.Settings.Lease / time.Millisecond), MaxTries: uint32(i.Settings.MaxTries), PassOver: i.Settings.PassOver,
	}
	out := &storev1.GroupInfo{
		Name: i.Name, Settings: settings, Cursor: i.Cursor.String(), Checkpointed: i.Checkpointed.String(), Head: i.Head.String(),
		Lag: i.Lag, Waiting: uint64(i.Waiting), InFlight: uint64(i.InFlight), Parked: uint64(i.Parked), Problem: i.Problem,
	}
	for _, m := range i.Members {
		out.Members = append(out.Members, &storev1.GroupMember{Name: m.Name, Capacity: uint32(m.Capacity), InFlight: uint32(m.InFlight)})
	}
	return out
}

// ResetGroup has a group begin again elsewhere.
func (s *Groups) ResetGroup(ctx context.Context, r *storev1.ResetGroupRequest) (*storev1.ResetGroupResponse, error) {
	if r.GetTo() == "" {
		return nil, problemf(kindInvalid, "use beginning, end, a position or a time", "to: it is not said where the group is to begin")
	}
	to, err := startOf(r.GetTo())
	if err != nil {
		return nil, fmt.Errorf("to: %w", err)
	}
	cursor, err := s.Groups.Reset(ctx, r.GetName(), to, r.GetActor())
	if err != nil {
		return nil, err
	}
	return &storev1.ResetGroupResponse{Cursor: cursor.String()}, nil
}

// ListGroupParked lists what a group has set aside.
func (s *Groups) ListGroupParked(ctx context.Context, r *storev1.ListGroupParkedRequest) (*storev1.ListGroupParkedResponse, error) {
	list, err := s.Groups.ListParked(ctx, r.GetName())
	if err != nil {
		return nil, err
	}
	out := &storev1.ListGroupParkedResponse{}
	for _, p := range list {
		out.Parked = append(out.Parked, &storev1.GroupParked{
			Stream: p.Stream.String(), Version: p.Version, Position: p.Position.String(), Type: p.Type, Reason: p.Reason,
			Tries: uint32(p.Tries), ParkedAt: timestamppb.New(p.At), Behind: p.Behind, Retrying: p.Retrying,
		})
	}
	return out, nil
}

// RetryGroupParked has parked events handed out again.
func (s *Groups) RetryGroupParked(ctx context.Context, r *storev1.RetryGroupParkedRequest) (*storev1.RetryGroupParkedResponse, error) {
	var at eventstore.Position
	if r.GetPosition() != "" {
		var err error
		if at, err = eventstore.ParsePosition(r.GetPosition()); err != nil {
			return nil, err
		}
	}
	n, err := s.Groups.RetryParked(ctx, r.GetName(), at)
	if err != nil {
		return nil, err
	}
	return &storev1.RetryGroupParkedResponse{Retried: uint64(n)}, nil
}

// SkipGroupParked leaves a parked event out.
func (s *Groups) SkipGroupParked(ctx context.Context, r *storev1.SkipGroupParkedRequest) (*storev1.SkipGroupParkedResponse, error) {
	at, err := eventstore.ParsePosition(r.GetPosition())
	if err != nil {
		return nil, err
	}
	if err := s.Groups.SkipParked(ctx, r.GetName(), at); err != nil {
		return nil, err
	}
	return &storev1.SkipGroupParkedResponse{}, nil
}
