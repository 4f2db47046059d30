package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
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

// scrub reads the store's files now and then until ctx ends, and repairs what it can: also when a read has come upon damage, but then
// no sooner than a pass may follow another.
func (n *Node) scrub(ctx context.Context) error {
	if n.config.ScrubBytesPerSecond < 0 {
		return nil
	}
	for wait, least := scrubAfter, time.Duration(0); ; wait, least = scrubEvery, scrubAfter {
		after := time.NewTimer(least)
		next := time.NewTimer(wait)
		select {
		case <-after.C:
		case <-ctx.Done():
			return nil
		}
		select {
		case <-next.C:
		case <-n.local.Doubted():
		case <-ctx.Done():
			return nil
		}
		next.Stop()
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

// scrubOptions are those of a pass that repairs what it can, from Kafka where there is a mirror, and from the other sites.
func (n *Node) scrubOptions() (pebblestore.ScrubOptions, error) {
	o := pebblestore.ScrubOptions{BytesPerSecond: n.config.ScrubBytesPerSecond, Repair: true, Holders: n.sites.holders()}
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

// StandIn has the store in a data folder, on which no server runs, open again where tables of its log are gone: a server that is started
// then refills them with what Kafka and the other sites have. It returns the names of the files (pebblestore.StandIn).
func StandIn(dir string, logger *slog.Logger) ([]string, error) {
	store := filepath.Join(dir, storeFolder)
	names, err := pebblestore.StandIn(store, &pebblestore.Options{Logger: logger})
	if err != nil || len(names) == 0 {
		return names, err
	}
	s, err := pebblestore.Open(store, &pebblestore.Options{Logger: logger, OpenArchive: openBucket})
	if err != nil {
		return names, fmt.Errorf("%w; the log has lost its beginning or its end with that: with other sites, move %s away and start the server, which gets back all "+
			"that has left the site, in another life of its log (docs/sites.md)", err, store)
	}
	return names, s.Close()
}
