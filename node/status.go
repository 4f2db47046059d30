package node

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/internal/server"
	"github.com/tributary-es/tributary/projections"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// status says how the node is.
func (n *Node) status(ctx context.Context) (*apiv1.Status, error) {
	state, err := n.local.Log(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the store: %w", err)
	}
	out := &apiv1.Status{
		Version: n.config.Version, Shard: state.ID.String(), StartedAt: timestamppb.New(n.started),
		DefaultDurability: n.config.Durability,
		Durable:           state.Durable.String(), Events: state.Durable.LSN, Streams: state.Streams,
	}
	out.Disk = n.diskStatus()
	out.Archive = n.archiveStatus()
	if n.kafka.mirror != nil {
		out.Mirror = mirrorStatus(n.kafka.mirror, n.kafka.options.Topic, state.Durable.LSN)
	}
	if n.kafka.feed != nil {
		out.Feed = mirrorStatus(n.kafka.feed, n.kafka.feedOptions.Topic, state.Durable.LSN)
	}
	for _, m := range n.models {
		s := m.runner.Status()
		out.Projections = append(out.Projections, &apiv1.ProjectionStatus{
			Name: m.name, Version: uint32(s.Version), State: string(s.State), Position: s.Position.String(),
			LagEvents: s.LagEvents, LagSeconds: s.LagSeconds, Rate: s.EventsPerSecond, Parked: uint64(s.Parked),
			LastError: currentError(s), Sink: m.sink,
		})
	}
	for _, s := range n.sagas {
		out.Sagas = append(out.Sagas, &apiv1.SagaStatus{
			Name: s.name, Open: uint64(s.Open()), Busy: uint64(s.Busy()), Parked: uint64(len(s.Parked())),
			Position: s.Position().String(), LastError: n.lastError(s),
		})
	}
	out.Syncers = n.syncerStatus(ctx)
	for _, d := range n.health(ctx) {
		out.Dependencies = append(out.Dependencies, &apiv1.Dependency{Name: d.Name, Up: d.Up, Mode: d.Mode, Problem: d.Problem})
	}
	return out, nil
}

func (n *Node) diskStatus() *apiv1.DiskStatus {
	d := n.local.Disk()
	out := &apiv1.DiskStatus{FreeBytes: d.FreeBytes, MinFreeBytes: d.MinFreeBytes, Full: errorText(d.Full), Scrub: scrubStatus(d.Scrub)}
	if !d.StalledSince.IsZero() {
		out.StalledSince = timestamppb.New(d.StalledSince)
	}
	return out
}

// currentError is what is wrong now: a model that is live has got over what went wrong before.
func currentError(s projections.Status) string {
	if s.State == projections.Live {
		return ""
	}
	return s.LastError
}

// mirrorStatus says how a mirror is, of a log that is durable up to an lsn.
func mirrorStatus(m *kafkalog.Mirror, topic string, head uint64) *apiv1.MirrorStatus {
	s := m.Status()
	return &apiv1.MirrorStatus{
		State: string(s.State), Topic: topic, Mirrored: s.Position.String(),
		LagEvents: head - min(head, s.Position.LSN), LastError: errorText(s.Err),
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// healthTimeout bounds how long a dependency may take to say how it is. Each has it to itself: one that hangs must not make
// another look down.
const healthTimeout = time.Second

// health says how each dependency is, and which projections, sagas and syncers are stuck. Only the store is required: the others may be down while commands go on.
func (n *Node) health(ctx context.Context) []server.Dependency {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	out := []server.Dependency{{Name: "store", Required: true, Mode: Embedded, Up: true}}
	if _, err := n.local.Log(ctx); err != nil {
		out[0].Up, out[0].Problem = false, err.Error()
	} else if err := n.local.Writable(); err != nil {
		out[0].Up, out[0].Problem = false, err.Error()
	}
	if n.kafka.mirror != nil {
		out = append(out, kafkaHealth("kafka", n.kafka.mirror.Status(), n.kafka.mode))
	}
	if n.kafka.feed != nil {
		out = append(out, kafkaHealth("feed", n.kafka.feed.Status(), n.kafka.mode))
	}
	var asking sync.WaitGroup
	redis := server.Dependency{Name: "redis", Mode: withoutPassword(n.redis.mode)}
	asking.Go(func() { redis.Up, redis.Problem = answers(n.redis.client.Ping(ctx)) })
	click := server.Dependency{Name: "clickhouse", Mode: withoutPassword(n.click.mode)}
	if n.click.mode != Off {
		asking.Go(func() { click.Up, click.Problem = answers(n.click.ping(ctx, healthTimeout)) })
	}
	asking.Wait()
	if out = append(out, redis); n.click.mode != Off {
		out = append(out, click)
	}
	out = append(append(out, n.archiveHealth()...), n.siteHealth(ctx)...)
	return append(append(out, n.stuckFollowers()...), n.failingSyncers()...)
}

// kafkaHealth says how Kafka is, as far as a mirror knows: it is down, too, when it has not answered for a while, although nothing
// that was asked of it has failed yet.
func kafkaHealth(name string, s kafkalog.Status, mode string) server.Dependency {
	d := server.Dependency{Name: name, Mode: withoutPassword(mode), Up: s.State == kafkalog.StateMirroring && s.Silent.IsZero()}
	if len(s.TopicFaults) > 0 {
		d.Problem = "the topic is weaker than it should be: " + strings.Join(s.TopicFaults, "; ")
	}
	if !d.Up {
		d.Problem = string(s.State) + ": " + cmp.Or(errorText(s.Err), "not connected yet")
	}
	return d
}

// answers says of the outcome of a ping whether a dependency is up, else what is wrong.
func answers(err error) (up bool, problem string) { return err == nil, errorText(err) }

// sample is what /metrics says.
func (n *Node) sample() server.Sample {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	out := server.Sample{SagasOpen: map[string]uint64{}, ArchivedEvents: n.archiveStatus().GetEvents(), Sites: n.siteSample(ctx), Syncers: n.syncerSamples(ctx)}
	if state, err := n.local.Log(ctx); err == nil {
		out.LogEvents, out.LogStreams, out.LogPosition = state.Durable.LSN, state.Streams, state.Durable.LSN
		if n.kafka.mirror != nil {
			out.MirrorLag = out.LogPosition - min(out.LogPosition, n.kafka.mirror.Status().Position.LSN)
		}
		if n.kafka.feed != nil {
			lag := out.LogPosition - min(out.LogPosition, n.kafka.feed.Status().Position.LSN)
			out.FeedLag = &lag
		}
	}
	for _, m := range n.models {
		s := m.runner.Status()
		out.Projections = append(out.Projections, server.ProjectionSample{
			Name: m.name, Sink: m.sink, Lag: s.LagEvents, LagSeconds: s.LagSeconds, Rate: s.EventsPerSecond, Parked: uint64(s.Parked), Live: s.State == "live",
		})
	}
	for _, s := range n.sagas {
		out.SagasOpen[s.name] = uint64(s.Open())
	}
	return out
}

// head returns how far the log is durable.
func (n *Node) head(ctx context.Context) (eventstore.Position, error) {
	state, err := n.local.Log(ctx)
	if err != nil {
		return eventstore.Position{}, fmt.Errorf("ask the store: %w", err)
	}
	return state.Durable, nil
}
