package clickview

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"golang.org/x/sync/errgroup"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/projections/internal/rowwrites"
)

// step is one change of a model: rows that are added, and the cursor that stands behind them.
//
// INVARIANT: what a step inserts, and with which tokens, follows from its stored intent alone.
type step struct {
	number   uint64
	version  int
	from, to projections.Cursor
	payload  rowwrites.Payload
	// nonce tells the step from another one of its number, and is part of the tokens of all that it inserts.
	nonce string
}

// parkedTable is written to like the projection's own tables, so that events are parked in the same step.
const parkedTable = "projection_parked"

// fold applies events through a recorder and returns the step that adds what they wrote.
func (m *model) fold(ctx context.Context, lot *projections.Lot, events []eventstore.Recorded) (*step, []projections.ParkedEvent, error) {
	rec := rowwrites.NewRecorder(&m.projection)
	parked, err := projections.Fold[projections.Rows](ctx, &m.projection, rec, rec, lot, events)
	if err != nil {
		return nil, nil, err
	}
	payload, err := rec.Payload()
	if err != nil {
		return nil, nil, err
	}
	for i := range payload {
		if own(payload[i].Name) {
			return nil, nil, fmt.Errorf("%w: table %s is not the projection's", projections.ErrBadWrite, payload[i].Name)
		}
	}
	s := &step{version: m.projection.Version, payload: payload}
	if err := s.park(m.state.step+1, parked); err != nil {
		return nil, nil, err
	}
	return s, parked, nil
}

// park adds rows that say that events are parked.
func (s *step) park(number uint64, parked []projections.ParkedEvent) error {
	if len(parked) == 0 {
		return nil
	}
	return s.note(func(w *rowwrites.Recorder) {
		for i := range parked {
			p := &parked[i]
			frame := eventstore.AppendFrame(nil, p.Event, eventstore.AppendContent(nil, p.Event))
			w.Begin(p.Position)
			w.Insert(parkedTable, number, 0, p.Position.Incarnation, p.Stream.Tenant, p.Stream.Category, p.Stream.ID,
				p.Type, p.Reason, frame)
		}
	})
}

// note adds rows of the sink's own.
func (s *step) note(write func(w *rowwrites.Recorder)) error {
	var rec rowwrites.Recorder
	write(&rec)
	rows, err := rec.Payload()
	if err != nil {
		return err
	}
	s.payload = s.payload.With(rows)
	return nil
}

// intend stores the intent of a step and sees whether it may be carried out. Of several writers that want a step of one
// number, one succeeds; the others get ErrCursorMoved. ErrNoCursor when the model is not whole; it is not read again then.
func (m *model) intend(ctx context.Context, s *step) error {
	blob := s.payload.Append(nil)
	sum := sha256.Sum256(blob)
	columns := "(projection, version, step, from_incarnation, from_lsn, from_seq, to_incarnation, to_lsn, to_seq, nonce, hash, payload)"
	err := m.link.insert(ctx, "store the intent", m.table("projection_intents")+" "+columns, m.intentToken(s.number),
		func(b driver.Batch) error {
			return b.Append(m.projection.Name, uint32(s.version), s.number,
				s.from.Position.Incarnation, s.from.Position.LSN, s.from.Seq,
				s.to.Position.Incarnation, s.to.Position.LSN, s.to.Seq,
				s.nonce, hex.EncodeToString(sum[:]), string(blob))
		})
	if err != nil {
		return err
	}
	nonces, err := m.check(ctx, s.number)
	if err == nil && !slices.Equal(nonces, []string{s.nonce}) {
		err = fmt.Errorf("%w: step %d of %s was taken by another writer", projections.ErrCursorMoved, s.number, m.db)
	}
	return err
}

// readIntent returns the stored step of a number, nil when there is none.
func (m *model) readIntent(ctx context.Context, number uint64) (*step, error) {
	var s *step
	sql := "SELECT version, from_incarnation, from_lsn, from_seq, to_incarnation, to_lsn, to_seq, nonce, hash, payload FROM " +
		m.table("projection_intents") + " WHERE projection = ? AND step = ?"
	err := m.link.rows(ctx, "read the intent", sql, []any{m.projection.Name, number}, func(r driver.Rows) error {
		var version uint32
		var hash, blob string
		s = &step{number: number}
		err := r.Scan(&version, &s.from.Position.Incarnation, &s.from.Position.LSN, &s.from.Seq,
			&s.to.Position.Incarnation, &s.to.Position.LSN, &s.to.Seq, &s.nonce, &hash, &blob)
		if err != nil {
			return err
		}
		s.version = int(version)
		if sum := sha256.Sum256([]byte(blob)); hex.EncodeToString(sum[:]) != hash {
			return errors.New("the stored intent is damaged")
		}
		s.payload, err = rowwrites.ParsePayload([]byte(blob))
		return err
	})
	return s, err
}

// carryOut inserts a step's rows and its commit row, as often as it is called, once. blocks are the step's, not sent yet; nil
// makes them as they are needed. at is the state before the step and becomes the state after it, parked events apart.
func (m *model) carryOut(ctx context.Context, at *state, s *step, blocks []*block) error {
	if err := m.send(ctx, s, blocks); err != nil {
		return err
	}
	rows := maps.Clone(at.rows)
	if err := m.tally(ctx, rows, s); err != nil {
		return err
	}
	columns := "(projection, version, step, incarnation, lsn, seq, rows)"
	err := m.link.insert(ctx, "commit", m.table("projection_commits")+" "+columns, m.token(s, "commit", 0), func(b driver.Batch) error {
		return b.Append(m.projection.Name, uint32(s.version), s.number,
			s.to.Position.Incarnation, s.to.Position.LSN, s.to.Seq, rows)
	})
	if err != nil {
		return err
	}
	at.step, at.version, at.cursor, at.rows = s.number, s.version, s.to, rows
	return nil
}

// send inserts the blocks of a step, those of several tables side by side.
func (m *model) send(ctx context.Context, s *step, blocks []*block) error {
	var g errgroup.Group
	g.SetLimit(2)
	for i, cut := range s.blocks() {
		g.Go(func() (err error) {
			var b *block
			if blocks != nil {
				b = blocks[i]
			} else if b, err = m.prepare(ctx, s, cut); err != nil {
				return err
			}
			return m.link.step(ctx, "insert into "+b.table, func(context.Context) error { return b.batch.Send() })
		})
	}
	return g.Wait()
}

// block is rows that the server has been told of and has not been sent yet.
type block struct {
	table string
	batch driver.Batch
}

// blockCut says which rows of a table are one block.
type blockCut struct {
	table  *rowwrites.Table
	number int
	data   []byte
	rows   int
}

// blocks cuts the rows of each table into blocks of at most maxBlockRows.
func (s *step) blocks() []blockCut {
	var out []blockCut
	for i := range s.payload {
		t := &s.payload[i]
		if t.Rows <= maxBlockRows {
			out = append(out, blockCut{t, 0, t.Data, t.Rows})
			continue
		}
		data := t.Data
		for number, left := 0, t.Rows; left > 0; number++ {
			n := min(left, maxBlockRows)
			r := rowwrites.NewReader(data)
			for range n * t.Columns {
				r.Next()
			}
			end := len(data) - r.Left()
			out = append(out, blockCut{t, number, data[:end], n})
			data, left = data[end:], left-n
		}
	}
	return out
}

// prepareAll makes the blocks of a step, so that every fault of the rows is known before the intent is stored.
func (m *model) prepareAll(ctx context.Context, s *step) (blocks []*block, err error) {
	defer func() {
		if err != nil {
			closeAll(blocks)
		}
	}()
	var g errgroup.Group
	g.SetLimit(4)
	cuts := s.blocks()
	blocks = make([]*block, len(cuts))
	for i, cut := range cuts {
		g.Go(func() (err error) {
			if !m.objects[cut.table.Name].table {
				return fmt.Errorf("%w: %s has no table %s", projections.ErrBadWrite, m.db, cut.table.Name)
			}
			blocks[i], err = m.prepare(ctx, s, cut)
			return err
		})
	}
	return blocks, g.Wait()
}

func (m *model) prepare(ctx context.Context, s *step, cut blockCut) (*block, error) {
	name := cut.table.Name
	batch, err := m.link.prepare(ctx, m.table(name), m.token(s, name, cut.number))
	if err != nil {
		return nil, fmt.Errorf("begin to insert into %s: %w", name, classify(err))
	}
	if got := len(batch.Columns()); got != cut.table.Columns {
		_ = batch.Close()
		return nil, fmt.Errorf("%w: table %s has %d columns, rows of %d were written", projections.ErrBadWrite, name, got, cut.table.Columns)
	}
	if err := fillBlock(batch, rowwrites.NewReader(cut.data), cut.rows); err != nil {
		_ = batch.Close()
		return nil, fmt.Errorf("table %s: %w", name, err)
	}
	return &block{name, batch}, nil
}

// closeAll gives back the connections of blocks that were not sent.
func closeAll(blocks []*block) {
	for _, b := range blocks {
		if b != nil {
			_ = b.batch.Close()
		}
	}
}

// intentToken names the intent of a step, whoever wants it: the server takes one of them.
func (m *model) intentToken(number uint64) string {
	return fmt.Sprintf("%s/%d/intent/0", m.projection.Name, number)
}

// token names one block of a step, and not of another step of its number, which the server may have forgotten.
func (m *model) token(s *step, table string, block int) string {
	return fmt.Sprintf("%s/%d/%s/%s/%d", m.projection.Name, s.number, s.nonce, table, block)
}
