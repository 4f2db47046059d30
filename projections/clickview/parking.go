package clickview

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/internal/rowwrites"
)

// stillParked chooses, of the rows of each parked event, the last one, unless that says that it is gone.
const stillParked = `
	SELECT incarnation, position, tenant, category, stream, type, reason, event
	FROM (SELECT * FROM %s ORDER BY step DESC, gone DESC LIMIT 1 BY incarnation, position)
	WHERE gone = 0
	ORDER BY incarnation, position`

// readParked calls each for every parked event in the order of the log.
func (m *model) readParked(ctx context.Context, each func(p projections.Parked, frame string) error) error {
	sql := fmt.Sprintf(stillParked, m.table(parkedTable))
	return m.link.rows(ctx, "read parked events", sql, nil, func(r driver.Rows) error {
		p := projections.Parked{Projection: m.projection.Name}
		var frame string
		err := r.Scan(&p.Position.Incarnation, &p.Position.LSN, &p.Stream.Tenant, &p.Stream.Category, &p.Stream.ID, &p.Type, &p.Reason, &frame)
		if err != nil {
			return err
		}
		return each(p, frame)
	})
}

// readLot reads which streams wait. The skipped events are the view's, for all generations.
func (m *model) readLot(ctx context.Context) (projections.Lot, error) {
	lot := projections.Lot{Waiting: make(map[eventstore.StreamID]bool), Skipped: m.skipped}
	err := m.readParked(ctx, func(p projections.Parked, _ string) error {
		lot.Waiting[p.Stream] = true
		return nil
	})
	return lot, err
}

// Parked is part of projections.Parking.
func (v *View) Parked(ctx context.Context) ([]projections.Parked, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.loadLive(ctx); errors.Is(err, projections.ErrNoCursor) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var list []projections.Parked
	err := v.live.readParked(ctx, func(p projections.Parked, _ string) error {
		list = append(list, p)
		return nil
	})
	return list, err
}

// Retry is part of projections.Parking.
func (v *View) Retry(ctx context.Context, stream eventstore.StreamID) (applied int, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.retry(ctx, stream)
}

// Skip is part of projections.Parking.
func (v *View) Skip(ctx context.Context, at eventstore.Position) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.loadLive(ctx); err != nil {
		return err
	}
	var stream eventstore.StreamID
	err := v.live.readParked(ctx, func(p projections.Parked, _ string) error {
		if p.Position == at {
			stream = p.Stream
		}
		return nil
	})
	if err != nil {
		return err
	}
	if stream.IsZero() {
		return fmt.Errorf("parked event at %s: %w", at, projections.ErrNotFound)
	}
	note := "INSERT INTO " + v.live.table("projection_skipped") + " (incarnation, lsn) VALUES (?, ?)"
	if err := v.link.exec(ctx, "note the skipped event", note, at.Incarnation, at.LSN); err != nil {
		return err
	}
	v.live.skipped[at] = true // shared with the generation that is being filled
	_, err = v.retry(ctx, stream)
	return err
}

// retry folds parked events again. REQUIRES: v.mu is held.
func (v *View) retry(ctx context.Context, stream eventstore.StreamID) (applied int, err error) {
	if err := v.loadLive(ctx); err != nil {
		return 0, err
	}
	m := v.live
	var events []eventstore.Recorded
	err = m.readParked(ctx, func(p projections.Parked, frame string) error {
		if !stream.IsZero() && p.Stream != stream {
			return nil
		}
		e, _, err := eventstore.DecodeFrame([]byte(frame))
		e.Position = p.Position
		events = append(events, e)
		return err
	})
	if err != nil || len(events) == 0 {
		return 0, err
	}
	lot := projections.Lot{Skipped: m.skipped}
	s, parked, err := m.fold(ctx, &lot, events)
	if err != nil {
		return 0, err
	}
	still := make(map[eventstore.Position]bool, len(parked))
	for i := range parked {
		still[parked[i].Position] = true
	}
	err = s.note(func(w *rowwrites.Recorder) {
		for i := range events {
			if e := &events[i]; !still[e.Position] {
				w.Begin(e.Position)
				w.Insert(parkedTable, m.state.step+1, 1, e.Position.Incarnation, "", "", "", "", "", "")
				if !m.skipped[e.Position] {
					applied++
				}
			}
		}
	})
	if err != nil {
		return 0, err
	}
	s.from, s.to = m.state.cursor, m.state.cursor
	waiting := maps.Clone(m.state.lot.Waiting)
	if err := m.make(ctx, s); err != nil {
		return 0, err
	}
	for i := range events {
		delete(waiting, events[i].Stream)
	}
	maps.Copy(waiting, lot.Waiting)
	m.state.lot.Waiting = waiting
	return applied, nil
}

// readSkipped makes known what an operator said to skip.
func (v *View) readSkipped(ctx context.Context) error {
	clear(v.live.skipped)
	sql := "SELECT DISTINCT incarnation, lsn FROM " + v.live.table("projection_skipped")
	err := v.link.rows(ctx, "read skipped events", sql, nil, func(r driver.Rows) error {
		var at eventstore.Position
		err := r.Scan(&at.Incarnation, &at.LSN)
		v.live.skipped[at] = true
		return err
	})
	if errors.Is(err, errGone) {
		return nil
	}
	return err
}
