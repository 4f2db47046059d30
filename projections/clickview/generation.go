package clickview

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/projections"
)

// next is the database in which a generation is filled.
func (v *View) next() string { return v.opts.Database + "__next" }

func (v *View) dropNext(ctx context.Context) error {
	v.building = nil
	return v.link.exec(ctx, "drop the generation that was not promoted", "DROP DATABASE IF EXISTS "+v.next()+" SYNC")
}

// Beside is part of projections.Generations.
func (v *View) Beside(ctx context.Context) (projections.Generation, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.settle(ctx); err != nil {
		return nil, err
	}
	if err := v.dropNext(ctx); err != nil {
		return nil, err
	}
	m := &model{db: v.next(), projection: v.projection, link: v.link, migrations: v.live.migrations, skipped: v.live.skipped}
	if err := m.migrate(ctx); err != nil {
		return nil, err
	}
	v.building = m
	return &generation{v, m}, nil
}

// generation is a model that is being filled in the next database.
type generation struct {
	view  *View
	model *model
}

// current says whether no later generation was begun. REQUIRES: the view's mutex is held.
func (g *generation) current() error {
	if g.view.building != g.model {
		return fmt.Errorf("%w: another generation was begun, or this one has ended", projections.ErrCursorMoved)
	}
	return nil
}

// Commit is part of projections.Generation.
func (g *generation) Commit(ctx context.Context, from, to projections.Cursor, events []eventstore.Recorded) ([]projections.Parked, error) {
	g.view.mu.Lock()
	defer g.view.mu.Unlock()
	if err := g.current(); err != nil {
		return nil, err
	}
	return g.model.commit(ctx, from, to, events)
}

// Cursor is projections.CursorReader: where the generation stands, ErrNoCursor when nothing was committed to it yet or it
// has lost something, ErrCursorMoved when another one was begun.
func (g *generation) Cursor(ctx context.Context) (projections.Cursor, error) {
	g.view.mu.Lock()
	defer g.view.mu.Unlock()
	if err := g.current(); err != nil {
		return projections.Cursor{}, err
	}
	if err := g.model.load(ctx); err != nil {
		return projections.Cursor{}, err
	}
	return g.model.cursor()
}

// Digest is part of projections.Generation.
func (g *generation) Digest(ctx context.Context) (string, error) {
	g.view.mu.Lock()
	defer g.view.mu.Unlock()
	if err := g.current(); err != nil {
		return "", err
	}
	return g.model.digest(ctx)
}

// Discard is part of projections.Generation.
func (g *generation) Discard(ctx context.Context) error {
	g.view.mu.Lock()
	defer g.view.mu.Unlock()
	if g.current() != nil {
		return nil
	}
	return g.view.dropNext(ctx)
}

// Promote is part of projections.Generation. Each table is switched in one step; all of them are, or the next Open goes on
// with it. Statements of Query see either all old or all new tables; those of other clients may for some milliseconds see
// some old and some new.
func (g *generation) Promote(ctx context.Context, at projections.Cursor) error {
	v := g.view
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := g.current(); err != nil {
		return err
	}
	if err := g.model.load(ctx); err != nil {
		return err
	}
	if g.model.state.step == 0 && at == (projections.Cursor{}) {
		// Nothing was folded: the empty model needs a commit row to be one.
		if err := g.model.make(ctx, &step{version: v.projection.Version}); err != nil {
			return err
		}
	}
	if g.model.state.cursor != at {
		return fmt.Errorf("%w: at %s, to be promoted at %s", projections.ErrCursorMoved, g.model.state.cursor, at)
	}
	if err := v.promote(ctx); err != nil {
		return err
	}
	err := v.loadLive(ctx)
	v.standing.set(err)
	return err
}

// stays names the tables that are not switched: they are the view's and not a generation's.
var stays = []string{"projection_skipped", "projection_promotions"}

// lastSwitched is the table that is switched last: it has the cursor.
const lastSwitched = "projection_commits"

// promote switches every table of the next database with its counterpart in the live one. REQUIRES: v.mu is held.
func (v *View) promote(ctx context.Context) error {
	v.standing.enter() // no statement of ours is under way from here on
	defer v.standing.leave()
	v.live.known, v.loaded = false, false
	if err := v.live.migrate(ctx); err != nil {
		return err
	}
	if err := v.mend(ctx); err != nil {
		return err
	}
	uuids, err := v.uuids(ctx, v.next())
	if err != nil {
		return err
	}
	for _, name := range stays {
		delete(uuids, name)
	}
	note := "INSERT INTO " + v.live.table("projection_promotions") + " (id, tables) SELECT max(id) + 1, ? FROM " + v.live.table("projection_promotions")
	if err := v.link.exec(ctx, "note the promotion", note, uuids); err != nil {
		return err
	}
	// From here on it is promoted, by the next Open if not by us: to discard it would leave half of each model.
	v.building = nil
	return v.switchTables(ctx, uuids)
}

// mend carries all migrations of the live database out again if it lacks a table or view that the next one has: somebody
// dropped it, and views are not switched.
func (v *View) mend(ctx context.Context) error {
	_, _, err := v.live.look(ctx, 0)
	if err != nil && !errors.Is(err, errGone) {
		return err
	}
	missing := err != nil
	for name := range v.building.objects {
		_, ok := v.live.objects[name]
		missing = missing || !ok
	}
	if !missing {
		return nil
	}
	v.opts.Logger.Warn("a table or view was dropped by somebody; what is missing is made again", "database", v.live.db)
	if err := v.link.exec(ctx, "forget migrations", "DROP TABLE IF EXISTS "+v.live.table("schema_migrations")+" SYNC"); err != nil {
		return err
	}
	return v.live.migrate(ctx)
}

// finishPromotion goes on with a switch that was cut off. REQUIRES: v.mu is held.
func (v *View) finishPromotion(ctx context.Context) error {
	var wanted map[string]string
	sql := "SELECT tables FROM " + v.live.table("projection_promotions") + " ORDER BY id DESC LIMIT 1"
	err := v.link.rows(ctx, "read the last promotion", sql, nil, func(r driver.Rows) error { return r.Scan(&wanted) })
	if errors.Is(err, errGone) || err == nil && wanted == nil {
		return nil
	}
	if err != nil {
		return err
	}
	have, err := v.uuids(ctx, v.live.db)
	if err != nil {
		return err
	}
	if have[lastSwitched] == wanted[lastSwitched] {
		return v.dropLeft(ctx)
	}
	next, err := v.uuids(ctx, v.next())
	if err != nil {
		return err
	}
	if next[lastSwitched] != wanted[lastSwitched] {
		// The new model is gone. If nothing was switched yet, the old one is whole; else there is none.
		for name, uuid := range wanted {
			if have[name] == uuid {
				v.opts.Logger.Warn("a switch to a rebuilt model was cut off and the new model is gone; it is rebuilt", "database", v.live.db)
				return v.live.clear(ctx)
			}
		}
		return nil
	}
	v.standing.enter()
	defer v.standing.leave()
	return v.switchTables(ctx, wanted)
}

// dropLeft drops what a switch that died before its last call has left in the next database, or a process that died while it
// filled a generation. A generation of this view stays. REQUIRES: v.mu is held.
func (v *View) dropLeft(ctx context.Context) error {
	if v.building != nil {
		return nil
	}
	left, err := v.uuids(ctx, v.next())
	if err != nil || len(left) == 0 {
		return err
	}
	return v.dropNext(ctx)
}

// switchTables brings each table with a wanted UUID from the next database to the live one, and drops the next database.
func (v *View) switchTables(ctx context.Context, wanted map[string]string) error {
	have, err := v.uuids(ctx, v.live.db)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(wanted))
	names = append(slices.DeleteFunc(names, func(n string) bool { return n == lastSwitched }), lastSwitched)
	for _, name := range names {
		from, to := v.next()+"."+name, v.live.table(name)
		var sql string
		switch have[name] {
		case wanted[name]:
			continue
		case "":
			sql = "RENAME TABLE " + from + " TO " + to
		default:
			sql = "EXCHANGE TABLES " + from + " AND " + to
		}
		if err := v.link.exec(ctx, "switch "+name, sql); err != nil {
			return err
		}
	}
	return v.dropNext(ctx)
}

// uuids returns the identity of each table of a database that holds rows.
func (v *View) uuids(ctx context.Context, db string) (map[string]string, error) {
	out := make(map[string]string)
	sql := "SELECT name, toString(uuid) FROM system.tables WHERE database = ? AND engine LIKE '%MergeTree' AND NOT is_temporary"
	err := v.link.rows(ctx, "list tables", sql, []any{db}, func(r driver.Rows) error {
		var name, uuid string
		err := r.Scan(&name, &uuid)
		out[name] = uuid
		return err
	})
	return out, err
}
