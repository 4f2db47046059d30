package pgsync

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/tributary-es/tributary/eventstore"
)

// follower applies what comes through the slot.
type follower struct {
	outbox
	tables map[uint32]*pglogrepl.RelationMessage

	begun     pglogrepl.BeginMessage // the transaction at hand
	inside    bool                   // there is one
	count     int                    // changes of it
	committed pglogrepl.LSN          // the end of the last transaction that has come as a whole
	confirmed pglogrepl.LSN          // what the server was told
	until     pglogrepl.LSN          // where to stop; 0: nowhere
	// heard is the server's time at committed, or when it last said that there was no more.
	heard time.Time
}

// gather is how long changes wait for others to be applied together with them.
const gather = 2 * time.Millisecond

// follow applies what comes: until ctx ends, or all transactions that were committed before an LSN.
func (c *session) follow(ctx context.Context, until pglogrepl.LSN) error {
	err := pglogrepl.StartReplication(ctx, c.repl, c.o.Slot, 0, pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication, PluginArgs: []string{"proto_version '1'", "publication_names '" + c.o.Publication + "'"},
	})
	if err != nil {
		return fmt.Errorf("follow slot %s: %w", c.o.Slot, err)
	}
	f := &follower{outbox: outbox{session: c}, tables: map[uint32]*pglogrepl.RelationMessage{}, until: until}
	status := time.Now()
	for {
		if time.Now().After(status) {
			if err := f.confirm(ctx); err != nil {
				return err
			}
			status = time.Now().Add(c.o.StatusInterval)
		}
		until := status
		if len(f.changes) > 0 {
			until = time.Now().Add(gather)
		}
		waiting, cancel := context.WithDeadline(ctx, until)
		message, err := c.repl.ReceiveMessage(waiting)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && pgconn.Timeout(err):
			if err := f.settle(ctx); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("follow slot %s: %w", c.o.Slot, err)
		default:
			asked, err := f.take(ctx, message)
			if err != nil {
				return err
			}
			if f.until > 0 && !f.inside && f.committed >= f.until {
				return f.confirm(ctx)
			}
			if asked {
				status = time.Time{}
			}
		}
	}
}

// settle applies what has come, if that ends with a whole transaction; what is the beginning of one waits for the rest.
func (f *follower) settle(ctx context.Context) error {
	if f.inside {
		return nil
	}
	if err := f.flush(ctx); err != nil {
		return err
	}
	if f.until == 0 {
		f.reached(f.heard)
	}
	return nil
}

// confirm applies what has come and tells the server how far that is: it needs to keep nothing before. Its answer says
// whether there is more.
func (f *follower) confirm(ctx context.Context) error {
	if err := f.flush(ctx); err != nil {
		return err
	}
	f.confirmed = max(f.confirmed, f.committed)
	err := pglogrepl.SendStandbyStatusUpdate(ctx, f.repl, pglogrepl.StandbyStatusUpdate{
		WALWritePosition: f.confirmed, WALFlushPosition: f.confirmed, WALApplyPosition: f.confirmed, ReplyRequested: true,
	})
	if err != nil {
		return fmt.Errorf("tell the database how far its changes are applied: %w", err)
	}
	return nil
}

// take takes a message; asked says that the server wants to hear how far it is.
func (f *follower) take(ctx context.Context, message pgproto3.BackendMessage) (asked bool, err error) {
	if failure, ok := message.(*pgproto3.ErrorResponse); ok {
		return false, fmt.Errorf("follow slot %s: %w", f.o.Slot, pgconn.ErrorResponseToPgError(failure))
	}
	data, ok := message.(*pgproto3.CopyData)
	if !ok || len(data.Data) == 0 {
		return false, nil
	}
	switch data.Data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		alive, err := pglogrepl.ParsePrimaryKeepaliveMessage(data.Data[1:])
		if err != nil {
			return false, fmt.Errorf("follow slot %s: %w", f.o.Slot, err)
		}
		if !f.inside {
			// All before it that concerns the tables has come.
			f.committed, f.heard = max(f.committed, alive.ServerWALEnd), alive.ServerTime
			if len(f.changes) == 0 && f.until == 0 {
				f.reached(f.heard)
			}
		}
		return alive.ReplyRequested, nil
	case pglogrepl.XLogDataByteID:
		log, err := pglogrepl.ParseXLogData(data.Data[1:])
		if err != nil {
			return false, fmt.Errorf("follow slot %s: %w", f.o.Slot, err)
		}
		m, err := pglogrepl.Parse(log.WALData)
		if err != nil {
			return false, fmt.Errorf("follow slot %s at %s: %w", f.o.Slot, log.WALStart, err)
		}
		return false, f.message(ctx, m)
	}
	return false, nil
}

func (f *follower) message(ctx context.Context, m pglogrepl.Message) error {
	switch m := m.(type) {
	case *pglogrepl.RelationMessage:
		f.tables[m.RelationID] = m
	case *pglogrepl.BeginMessage:
		if f.until > 0 && m.FinalLSN >= f.until {
			f.committed = f.until // it comes again
			return nil
		}
		f.begun, f.inside, f.count = *m, true, 0
	case *pglogrepl.CommitMessage:
		f.inside = false
		f.committed, f.heard = m.TransactionEndLSN, m.CommitTime
	case *pglogrepl.InsertMessage:
		return f.change(ctx, m.RelationID, Insert, nil, 0, m.Tuple)
	case *pglogrepl.UpdateMessage:
		return f.change(ctx, m.RelationID, Update, m.OldTuple, m.OldTupleType, m.NewTuple)
	case *pglogrepl.DeleteMessage:
		return f.change(ctx, m.RelationID, Delete, m.OldTuple, m.OldTupleType, nil)
	case *pglogrepl.TruncateMessage:
		for _, id := range m.RelationIDs {
			if err := f.change(ctx, id, Truncate, nil, 0, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *follower) change(ctx context.Context, table uint32, kind Kind, before *pglogrepl.TupleData, whole uint8, after *pglogrepl.TupleData) error {
	t := f.tables[table]
	if t == nil {
		return errors.New("the database speaks of a table that it has not described")
	}
	f.count++
	change := Change{
		ID:   fmt.Sprintf("%s/%s/%d", f.o.Slot, f.begun.FinalLSN, f.count),
		Kind: kind, Schema: t.Namespace, Table: t.RelationName, At: f.begun.CommitTime,
	}
	for _, c := range t.Columns {
		if c.Flags&1 != 0 {
			change.Key = append(change.Key, c.Name)
		}
	}
	var err error
	if change.New, err = rowOf(t, after, false); err != nil {
		return err
	}
	if change.Old, err = rowOf(t, before, whole == pglogrepl.UpdateMessageTupleTypeKey); err != nil {
		return err
	}
	return f.put(ctx, change)
}

// rowOf returns the columns of a row, or only those of its key.
func rowOf(t *pglogrepl.RelationMessage, tuple *pglogrepl.TupleData, onlyKey bool) (Row, error) {
	if tuple == nil {
		return nil, nil
	}
	if len(tuple.Columns) != len(t.Columns) {
		return nil, fmt.Errorf("%w: a row of %s.%s has %d columns, and the table %d", eventstore.ErrCorrupt,
			t.Namespace, t.RelationName, len(tuple.Columns), len(t.Columns))
	}
	row := make(Row, 0, len(tuple.Columns))
	for i, c := range tuple.Columns {
		d := t.Columns[i]
		if onlyKey && d.Flags&1 == 0 {
			continue
		}
		row = append(row, Column{
			Name: d.Name, Type: d.DataType, Value: string(c.Data),
			Null: c.DataType == pglogrepl.TupleDataTypeNull, Unchanged: c.DataType == pglogrepl.TupleDataTypeToast,
		})
	}
	return row, nil
}
