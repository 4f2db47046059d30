package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/memview"
	"github.com/tributary-es/tributary/queries"
)

// Report is what Verify found: the figures, and every fault, each naming what is wrong and where.
type Report struct {
	Figures
	// NotCompared says of what there is nothing left to compare it with, since events were dropped for good. It is no fault.
	NotCompared []string `json:"not_compared,omitempty"`
	Faults      []string `json:"faults"`
}

// The parts of a verification.
var verifyParts = []string{"log", "kafka", "redis", "clickhouse"}

// maxFaults bounds what is listed of one part; how many more there are is said.
const maxFaults = 100

// Verify checks the store against itself, the topic against the store, and the read models against a fold of the store,
// and reads the figures back. Commands go on meanwhile; a read model stands still while it is compared. No parts means
// all that the node has. What cannot be looked at is a fault. Verifications take turns: one holds the Redis model in memory.
func (n *Node) Verify(ctx context.Context, parts []string, progress func(part string, done, total uint64)) (Report, error) {
	out := Report{Faults: []string{}}
	for _, p := range parts {
		if !slices.Contains(verifyParts, p) {
			return out, fmt.Errorf("%w: part %q is unknown, use %v", eventstore.ErrInvalid, p, verifyParts)
		}
	}
	select {
	case n.verifying <- struct{}{}:
		defer func() { <-n.verifying }()
	case <-ctx.Done():
		return out, fmt.Errorf("wait for another verification: %w", ctx.Err())
	}
	wanted := func(part string) bool { return len(parts) == 0 || slices.Contains(parts, part) }
	for _, part := range verifyParts {
		if !wanted(part) {
			continue
		}
		faults, err := n.verifyPart(ctx, part, &out, func(done, total uint64) { progress(part, done, total) })
		if ctx.Err() != nil {
			return out, ctx.Err()
		}
		if err != nil {
			faults = append(faults, fmt.Sprintf("cannot be verified: %v", err))
		}
		for _, f := range bounded(faults) {
			out.Faults = append(out.Faults, part+": "+strings.TrimPrefix(f, part+": "))
		}
	}
	if wanted("redis") || wanted("clickhouse") {
		n.readFigures(ctx, &out)
	}
	if !wanted("redis") {
		out.Redis = nil
	}
	if !wanted("clickhouse") {
		out.ClickHouse = nil
	}
	return out, nil
}

// readFigures has the domains read back what their models hold.
func (n *Node) readFigures(ctx context.Context, out *Report) {
	for _, d := range n.domains {
		if d.Figures == nil {
			continue
		}
		if err := d.Figures(ctx, d.parts, &out.Figures); err != nil {
			out.Faults = append(out.Faults, fmt.Sprintf("figures of %s: cannot be read back: %v", d.Name, err))
		}
	}
}

// ReadFigures reads the figures back without verifying anything: of Kafka, what the mirror knows to be there.
func (n *Node) ReadFigures(ctx context.Context) (Figures, error) {
	state, err := n.local.Log(ctx)
	if err != nil {
		return Figures{}, err
	}
	out := Report{Figures: Figures{Log: LogFigures{Events: state.Durable.LSN, Streams: state.Streams, Position: state.Durable.LSN}}}
	if n.kafka.mirror != nil {
		out.Kafka = &KafkaFigures{Records: n.kafka.mirror.Status().Position.LSN}
	}
	if n.kafka.feed != nil {
		out.Feed = &KafkaFigures{Records: n.kafka.feed.Status().Position.LSN}
	}
	n.readFigures(ctx, &out)
	if len(out.Faults) > 0 {
		return out.Figures, fmt.Errorf("%w: %s", eventstore.ErrUnavailable, out.Faults[0])
	}
	return out.Figures, nil
}

// Figures verifies everything and returns the figures; any fault is an error.
func (n *Node) Figures(ctx context.Context) (Figures, error) {
	report, err := n.Verify(ctx, nil, func(string, uint64, uint64) {})
	if err != nil {
		return report.Figures, err
	}
	if len(report.Faults) > 0 {
		return report.Figures, fmt.Errorf("%w: %d faults, the first: %s", eventstore.ErrCorrupt, len(report.Faults), report.Faults[0])
	}
	return report.Figures, nil
}

func (n *Node) verifyPart(ctx context.Context, part string, out *Report, progress func(done, total uint64)) ([]string, error) {
	switch part {
	case "log":
		return n.verifyLog(ctx, &out.Figures, progress)
	case "kafka":
		faults, err := n.verifyKafka(ctx, out, progress)
		found, feedErr := n.verifyFeed(ctx, out, progress)
		return append(faults, found...), errors.Join(err, feedErr)
	}
	var faults []string
	for _, m := range n.models {
		if m.sink != part {
			continue
		}
		found, err := n.verifyModel(ctx, m, progress)
		faults = append(faults, found...)
		if dropped, ok := errors.AsType[*eventstore.TruncatedError](err); ok {
			out.notCompared("%s: %s: it is compared with a fold of all events, and those before %s were dropped from the log", part, m.name, dropped.First)
			continue
		}
		if err != nil {
			return faults, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return faults, nil
}

func (n *Node) verifyLog(ctx context.Context, f *Figures, progress func(done, total uint64)) ([]string, error) {
	report, err := n.local.Verify(ctx, progress)
	f.Log = LogFigures{
		Events: report.Events, Streams: report.Streams, Position: report.Position.LSN,
		Verified: err == nil && len(report.Faults) == 0,
	}
	return report.Faults, err
}

func (r *Report) notCompared(format string, args ...any) {
	r.NotCompared = append(r.NotCompared, fmt.Sprintf(format, args...))
}

func (n *Node) verifyKafka(ctx context.Context, out *Report, progress func(done, total uint64)) ([]string, error) {
	if n.kafka.mirror == nil {
		return nil, nil
	}
	if err := n.awaitMirror(ctx, n.kafka.mirror); err != nil {
		return nil, err
	}
	var faults []string
	for attempt := 1; ; attempt++ {
		report, err := kafkalog.Audit(ctx, n.local, n.kafka.options, progress)
		if err != nil {
			return faults, err
		}
		out.Kafka = &KafkaFigures{Records: report.Records, Dropped: report.Dropped, Missing: report.Missing, Duplicates: report.Duplicates}
		if !report.OK() || !out.Log.Verified || report.Records+report.Dropped <= out.Log.Events || attempt == recounts {
			if report.Dropped > 0 {
				out.notCompared("kafka: %d records are of events that were dropped from the log", report.Dropped)
			}
			return append(faults, report.Faults...), nil
		}
		// The log has grown since it was counted, by a saga's checkpoint say: count again, so that both figures are of one
		// moment. On a server under load they never are.
		found, err := n.verifyLog(ctx, &out.Figures, func(uint64, uint64) {})
		faults = append(faults, found...)
		if err != nil {
			return faults, err
		}
	}
}

// recounts is how often log and topic are counted to find both at one moment.
const recounts = 3

// mirrorPatience is how long a verification waits for the mirror to come to the end of the log.
const mirrorPatience = 10 * time.Second

func (n *Node) awaitMirror(ctx context.Context, m *kafkalog.Mirror) error {
	state, err := n.local.Log(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, mirrorPatience)
	defer cancel()
	if err := m.Wait(ctx, state.Durable); err != nil {
		return fmt.Errorf("wait for the mirror: %w", err)
	}
	return nil
}

// verifyFeed compares the feed, where there is one, with the store.
func (n *Node) verifyFeed(ctx context.Context, out *Report, progress func(done, total uint64)) ([]string, error) {
	if n.kafka.feed == nil {
		return nil, nil
	}
	if err := n.awaitMirror(ctx, n.kafka.feed); err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	report, err := kafkalog.Audit(ctx, n.local, n.kafka.feedOptions, progress)
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	out.Feed = &KafkaFigures{Records: report.Records, Dropped: report.Dropped, Missing: report.Missing, Duplicates: report.Duplicates}
	if report.Dropped > 0 {
		out.notCompared("kafka: %d records of the feed are of events that were dropped from the log", report.Dropped)
	}
	faults := make([]string, len(report.Faults))
	for i, f := range report.Faults {
		faults[i] = "feed: " + f
	}
	return faults, nil
}

// pausePatience is how long a verification waits for a read model to stand still.
const pausePatience = 10 * time.Second

// verifyModel compares a read model with a fold of the store up to the model's cursor, while the model stands still. What is
// parked is a fault too: the model lacks it, whether or not a fold would.
func (n *Node) verifyModel(ctx context.Context, m *model, progress func(done, total uint64)) (faults []string, err error) {
	waiting, cancel := context.WithTimeout(ctx, pausePatience)
	defer cancel()
	if m.redis != nil {
		// Before an erasure the model has what the log does not give any more.
		if _, err := queries.Fresh(ctx, m.runner, n.lastErasure(), pausePatience); err != nil {
			return nil, fmt.Errorf("wait for the last erasure: %w", err)
		}
	}
	if err := m.runner.Pause(waiting); err != nil && !errors.Is(err, projections.ErrStopped) {
		return nil, fmt.Errorf("it does not stand still, it is %s: %s: %w", m.runner.Status().State, m.runner.Status().LastError, err)
	}
	defer m.runner.Resume()
	progress(0, 0)
	parked, err := m.parking().Parked(ctx)
	if err != nil {
		return nil, err
	}
	for i := range parked {
		faults = append(faults, "parked by "+parked[i].String())
	}
	if m.click != nil {
		found, err := m.click.Diff(ctx, n.local)
		return append(faults, found...), err
	}
	at, err := m.redis.Cursor(ctx)
	if err != nil {
		return faults, err
	}
	skipped, err := m.redis.Skipped(ctx)
	if err != nil {
		return faults, err
	}
	fold := memview.NewKeys(*m.keys, skipped...)
	if err := projections.Replay(ctx, n.sealed, fold, at); err != nil {
		return faults, fmt.Errorf("fold the store: %w", err)
	}
	found, err := m.redis.Diff(ctx, fold)
	return append(faults, found...), err
}

func bounded(faults []string) []string {
	if len(faults) <= maxFaults {
		return faults
	}
	more := len(faults) - maxFaults
	return append(faults[:maxFaults:maxFaults], fmt.Sprintf("and %d more faults", more))
}
