package pgsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tributary-es/tributary/eventstore"
)

// session is two connections to the database: one for SQL, one for replication.
type session struct {
	*Syncer
	sql  *pgx.Conn
	repl *pgconn.PgConn
}

func (s *Syncer) connect(ctx context.Context) (_ *session, err error) {
	c := &session{Syncer: s}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.sql, err = pgx.Connect(ctx, s.o.URL); err != nil {
		return nil, fmt.Errorf("connect to the database: %w", err)
	}
	c.repl, err = s.dialReplication(ctx)
	return c, err
}

func (s *Syncer) dialReplication(ctx context.Context) (*pgconn.PgConn, error) {
	config, err := pgconn.ParseConfig(s.o.URL)
	if err != nil {
		return nil, fmt.Errorf("%w: URL of the database", eventstore.ErrInvalid)
	}
	config.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the database for replication (the account needs the attribute REPLICATION): %w", err)
	}
	return conn, nil
}

// close ends the connections. Whoever waits for them is gone, and what the server says to it is of no use.
func (c *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if c.sql != nil {
		_ = c.sql.Close(ctx)
	}
	if c.repl != nil {
		_ = c.repl.Close(ctx)
	}
}

// check says what the server and the tables lack.
func (c *session) check(ctx context.Context) error {
	var level string
	if err := c.sql.QueryRow(ctx, "SELECT current_setting('wal_level')").Scan(&level); err != nil {
		return fmt.Errorf("ask for wal_level: %w", err)
	}
	if level != "logical" {
		return fmt.Errorf("%w: the database has wal_level = %s: set wal_level = logical in postgresql.conf and start it again", eventstore.ErrInvalid, level)
	}
	var faults []error
	for _, table := range c.o.Tables {
		var identity string
		var keyed bool
		err := c.sql.QueryRow(ctx, `SELECT relreplident::text, EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident))
			FROM pg_class c WHERE c.oid = to_regclass($1) AND c.relkind IN ('r', 'p')`, quoted(table)).Scan(&identity, &keyed)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			faults = append(faults, fmt.Errorf("%w: there is no table %s", eventstore.ErrInvalid, table))
		case err != nil:
			return fmt.Errorf("look for table %s: %w", table, err)
		case identity == "n" || identity == "d" && !keyed:
			faults = append(faults, fmt.Errorf("%w: table %s has no primary key, by which its rows are told apart: ALTER TABLE %s REPLICA IDENTITY FULL",
				eventstore.ErrInvalid, table, table))
		}
	}
	return errors.Join(faults...)
}

// publish makes the publication, or brings it up to the tables. When one is added, no slot has all rows any more (see markWhole):
// what was in a table before it was published comes through none.
func (c *session) publish(ctx context.Context) error {
	// Of a partitioned table pg_publication_tables has the partitions.
	rows, err := c.sql.Query(ctx, `SELECT n.nspname || '.' || c.relname FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
		JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1
		UNION SELECT t.schemaname || '.' || t.tablename FROM pg_publication p JOIN pg_publication_tables t ON t.pubname = p.pubname
		WHERE p.pubname = $1 AND p.puballtables`, c.o.Publication)
	if err != nil {
		return fmt.Errorf("look for publication %s: %w", c.o.Publication, err)
	}
	published, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look for publication %s: %w", c.o.Publication, err)
	}
	slices.Sort(published)
	if slices.Equal(published, c.o.Tables) {
		return nil
	}
	var there bool
	if err := c.sql.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_publication WHERE pubname = $1)", c.o.Publication).Scan(&there); err != nil {
		return fmt.Errorf("look for publication %s: %w", c.o.Publication, err)
	}
	tables := make([]string, len(c.o.Tables))
	for i, t := range c.o.Tables {
		tables[i] = quoted(t)
	}
	statement := "CREATE PUBLICATION " + c.o.Publication + " FOR TABLE "
	if there {
		statement = "ALTER PUBLICATION " + c.o.Publication + " SET TABLE "
	}
	statement += strings.Join(tables, ", ")
	if slices.ContainsFunc(c.o.Tables, func(table string) bool { return !slices.Contains(published, table) }) {
		statement += "; COMMENT ON PUBLICATION " + c.o.Publication + " IS NULL"
	}
	if _, err := c.sql.Exec(ctx, statement); err != nil { // both or none
		return fmt.Errorf("publish the tables (the account has to own them): %w", err)
	}
	return nil
}

// wholeSlots begins the publication's comment, which goes on with the names of the slots that have all rows.
const wholeSlots = "all rows are brought over for slots:"

// whole returns the slots of the publication for which all rows were brought over that come through no slot.
func whole(ctx context.Context, tx interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, publication string) ([]string, error) {
	var comment string
	if err := tx.QueryRow(ctx, "SELECT coalesce(obj_description(oid, 'pg_publication'), '') FROM pg_publication WHERE pubname = $1", publication).Scan(&comment); err != nil {
		return nil, fmt.Errorf("read the comment of publication %s: %w", publication, err)
	}
	slots, _ := strings.CutPrefix(comment, wholeSlots)
	if slots == comment {
		return nil, nil // it is not ours
	}
	return strings.Fields(slots), nil
}

// markWhole notes in the database whether all rows were brought over for the slot that come through no slot. A slot alone does not
// say so: it is there before the rows are read, and stays when reading them breaks off, however that comes about.
func (c *session) markWhole(ctx context.Context, is bool) error {
	err := pgx.BeginFunc(ctx, c.sql, func(tx pgx.Tx) error {
		// Syncers with slots of their own may share the publication.
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtext($1))", c.o.Publication); err != nil {
			return err
		}
		slots, err := whole(ctx, tx, c.o.Publication)
		if err != nil || slices.Contains(slots, c.o.Slot) == is {
			return err
		}
		slots = slices.DeleteFunc(slots, func(slot string) bool { return slot == c.o.Slot })
		if is {
			slots = append(slots, c.o.Slot)
		}
		_, err = tx.Exec(ctx, "COMMENT ON PUBLICATION "+c.o.Publication+" IS '"+wholeSlots+" "+strings.Join(slots, " ")+"'")
		return err
	})
	if err != nil {
		return fmt.Errorf("note in publication %s which rows are brought over (the account has to own it): %w", c.o.Publication, err)
	}
	return nil
}

// slot reports whether the slot is there, and whether somebody uses it; it refuses one that is not ours, or of no use.
func (c *session) slot(ctx context.Context) (there, active bool, err error) {
	var plugin, database, wal string
	err = c.sql.QueryRow(ctx, "SELECT coalesce(plugin, ''), coalesce(database, ''), coalesce(wal_status, ''), active FROM pg_replication_slots WHERE slot_name = $1",
		c.o.Slot).Scan(&plugin, &database, &wal, &active)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return false, false, nil
	case err != nil:
		return false, false, fmt.Errorf("look for slot %s: %w", c.o.Slot, err)
	case plugin != "pgoutput" || database != c.sql.Config().Database:
		return false, false, fmt.Errorf("%w: slot %s is another's: choose another name", eventstore.ErrInvalid, c.o.Slot)
	case wal == "lost":
		return false, false, fmt.Errorf("%w: the database has thrown away changes that slot %s had not given out yet (max_slot_wal_keep_size): "+
			"drop the slot and bring everything over from 0", eventstore.ErrCorrupt, c.o.Slot)
	}
	return true, active, nil
}

// begin makes the slot and applies the rows that were there when it was made, at that moment exactly: what happens after it
// comes through the slot.
func (c *session) begin(ctx context.Context) error {
	made, err := pglogrepl.CreateReplicationSlot(ctx, c.repl, c.o.Slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{
		SnapshotAction: "EXPORT_SNAPSHOT", Mode: pglogrepl.LogicalReplication,
	})
	if err != nil {
		return fmt.Errorf("make slot %s: %w", c.o.Slot, err)
	}
	tx, err := c.asOf(ctx, made.SnapshotName)
	if err != nil {
		return err
	}
	return c.copyTables(ctx, tx, made.ConsistentPoint)
}

// again applies the rows once more, for it is not known whether all of them were. Of those that were, some may be gone, which
// only the slot knows: so a later moment is chosen, what the slot has up to there is applied first, then the rows as they were
// at that moment, and what happens after it comes through the slot.
func (c *session) again(ctx context.Context) error {
	other, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer other.close()
	made, err := pglogrepl.CreateReplicationSlot(ctx, other.repl, c.o.Slot[:min(len(c.o.Slot), 57)]+"_again", "pgoutput", pglogrepl.CreateReplicationSlotOptions{
		Temporary: true, SnapshotAction: "EXPORT_SNAPSHOT", Mode: pglogrepl.LogicalReplication,
	})
	if err != nil {
		return fmt.Errorf("make a slot for as long as the rows are read: %w", err)
	}
	moment, err := pglogrepl.ParseLSN(made.ConsistentPoint)
	if err != nil {
		return fmt.Errorf("make a slot for as long as the rows are read: %w", err)
	}
	tx, err := other.asOf(ctx, made.SnapshotName)
	if err != nil {
		return err
	}
	if err := c.follow(ctx, moment); err != nil {
		return errors.Join(err, ignoreClosed(tx.Rollback(context.WithoutCancel(ctx))))
	}
	// Reading the rows may take longer than the server waits for somebody who follows.
	if err := c.repl.Close(ctx); err != nil {
		return fmt.Errorf("leave slot %s: %w", c.o.Slot, err)
	}
	if err := other.copyTables(ctx, tx, made.ConsistentPoint); err != nil {
		return err
	}
	c.repl, err = c.dialReplication(ctx)
	return err
}

// asOf begins a transaction that sees the tables as they were at an exported moment.
func (c *session) asOf(ctx context.Context, snapshot string) (pgx.Tx, error) {
	tx, err := c.sql.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("read the tables: %w", err)
	}
	if _, err := tx.Exec(ctx, "SET TRANSACTION SNAPSHOT '"+strings.ReplaceAll(snapshot, "'", "''")+"'"); err != nil {
		return nil, errors.Join(fmt.Errorf("read the tables as they were: %w", err), ignoreClosed(tx.Rollback(ctx)))
	}
	return tx, nil
}

// copyTables applies the rows of all tables as a transaction sees them, and ends it; moment is the LSN as of which that is.
func (c *session) copyTables(ctx context.Context, tx pgx.Tx, moment string) (err error) {
	defer func() { err = errors.Join(err, ignoreClosed(tx.Rollback(context.WithoutCancel(ctx)))) }()
	rows := 0
	for _, table := range c.o.Tables {
		n, err := c.copyTable(ctx, tx, table, func() string {
			rows++
			return fmt.Sprintf("%s/existing/%s/%d", c.o.Slot, moment, rows)
		})
		if err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
		c.o.Logger.Info("the rows of a table are brought over", "table", table, "rows", n)
	}
	return nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, pgx.ErrTxClosed) {
		return nil
	}
	return err
}
