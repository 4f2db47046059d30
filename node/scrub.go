package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

const (
	scrubAfter = time.Minute    // of the start, so that a node that serves a moment does not begin a pass
	scrubEvery = 24 * time.Hour // from one pass to the next
	scrubSay   = 200 * time.Millisecond
)

// scrub reads the store's files now and then until ctx ends, and repairs what it can.
func (n *Node) scrub(ctx context.Context) error {
	if n.config.ScrubBytesPerSecond < 0 {
		return nil
	}
	for wait := scrubAfter; ; wait = scrubEvery {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		o, err := n.scrubOptions()
		if err != nil {
			return err
		}
		report, err := n.local.Scrub(ctx, o)
		switch {
		case ctx.Err() != nil || errors.Is(err, eventstore.ErrClosed):
			return nil
		case err != nil:
			n.log.Error("the scrub could not look at everything", slog.Any("error", err))
		default:
			n.log.Info("scrubbed", slog.Int("tables", report.Tables), slog.Int64("bytes", report.Bytes),
				slog.Int("faults", len(report.Faults)), slog.Int("unrepaired", report.Unrepaired()))
		}
	}
}

// scrubOptions are those of a pass that repairs what it can, from Kafka where there is a mirror.
func (n *Node) scrubOptions() (pebblestore.ScrubOptions, error) {
	o := pebblestore.ScrubOptions{BytesPerSecond: n.config.ScrubBytesPerSecond, Repair: true}
	if n.kafka.mirror == nil {
		return o, nil
	}
	topic, err := kafkalog.NewReader(n.kafka.options)
	if err != nil {
		return o, fmt.Errorf("read the topic: %w", err)
	}
	o.Source = topic
	return o, nil
}

func (n *Node) scrubStream(ctx context.Context, r *apiv1.ScrubRequest, send func(*apiv1.ScrubProgress) error) error {
	o, err := n.scrubOptions()
	if err != nil {
		return err
	}
	o.Repair = r.GetRepair()
	o.BytesPerSecond = -1
	if r.GetBytesPerSecond() > 0 {
		o.BytesPerSecond = r.GetBytesPerSecond()
	}
	said := time.Now()
	o.Progress = func(done, total int64) {
		if time.Since(said) >= scrubSay {
			said = time.Now()
			_ = send(&apiv1.ScrubProgress{DoneBytes: done, TotalBytes: total}) // a client that is gone ends ctx
		}
	}
	report, err := n.local.Scrub(ctx, o)
	if err != nil {
		return err
	}
	if report.Faults == nil {
		report.Faults = []pebblestore.ScrubFault{}
	}
	body, err := json.Marshal(report)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	last := &apiv1.ScrubProgress{DoneBytes: report.Bytes, TotalBytes: report.Bytes, Done: true, ReportJson: string(body), Unrepaired: uint32(report.Unrepaired())}
	for i := range report.Faults {
		last.Faults = append(last.Faults, report.Faults[i].String())
	}
	return send(last)
}

// scrubStatus says how the pass is that is under way, else how the last one ended; nil when there was none.
func scrubStatus(s pebblestore.ScrubState) *apiv1.ScrubStatus {
	if !s.Running && s.Ended.IsZero() {
		return nil
	}
	out := &apiv1.ScrubStatus{
		Running: s.Running, DoneBytes: s.Done, TotalBytes: s.Total, Faults: uint32(s.Faults), Unrepaired: uint32(s.Unrepaired), LastError: s.Err,
	}
	if !s.Ended.IsZero() {
		out.EndedAt = timestamppb.New(s.Ended)
	}
	return out
}
