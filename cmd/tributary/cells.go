package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// cellsCmd sees to who writes what is written at one site at a time.
type cellsCmd struct {
	List cellsListCmd `cmd:"" help:"Show which shard owns how many cells, and which of them move."`
	Move cellsMoveCmd `cmd:"" help:"Give cells of this site to another; nothing is lost, and for a moment nobody writes them."`
	Take cellsTakeCmd `cmd:"" help:"Take cells whose owner is gone for good. What it still wrote loses where both have written."`
}

// shardName is a shard as a flag names it: shard-00@SITE, or the SITE alone, which has that one.
type shardName string

// UnmarshalText reads what was given. Whether there is such a shard is for a server to say.
func (s *shardName) UnmarshalText(text []byte) error {
	*s = shardName(text)
	if len(text) > 0 && !strings.Contains(string(text), "@") {
		*s = "shard-00@" + *s
	}
	return nil
}

// cells runs do with a client of the cells of a session: t.connect, or t.look.
func (t *target) cells(ctx context.Context, g *globals, open func(context.Context, *globals) (*session, error), do func(sitesv1.CellsClient) error) (err error) {
	s, err := open(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	return do(sitesv1.NewCellsClient(s.conn))
}

type cellsListCmd struct {
	Home   shardName  `help:"Only those of a shard." placeholder:"[shard-00@]SITE"`
	Stream streamName `help:"Only that of a stream." placeholder:"[TENANT/]CATEGORY/ID"`
	target `set:"stopped=, else the folder is shown as it is"`
}

// Run lists.
func (c *cellsListCmd) Run(ctx context.Context, g *globals) error {
	return c.cells(ctx, g, c.look, func(client sitesv1.CellsClient) error {
		list, err := client.ListCells(ctx, &sitesv1.ListCellsRequest{Home: string(c.Home), Stream: c.Stream.String()})
		if err != nil {
			return fmt.Errorf("list cells: %w", err)
		}
		return g.print(list, func() { g.cells(list, &c.Stream) })
	})
}

// cells shows who owns the cells: all of them, or that of a stream. Of a stream whose category is not homed nobody does.
func (g *globals) cells(list *sitesv1.ListCellsResponse, stream *streamName) {
	rows := [][]string{{"SHARD", "CELLS"}}
	for _, s := range list.GetShares() {
		rows = append(rows, []string{s.GetHome(), fmt.Sprint(s.GetCells())})
	}
	g.table(rows)
	if stream.given() && !slices.Contains(list.GetHomed(), stream.Category) {
		fmt.Fprintf(g.out, "any site writes %s streams: the category is not homed here\n", stream.Category)
	} else {
		g.owners(list.GetCells(), stream.given())
	}
	g.lease(list.GetLease())
	fmt.Fprintf(g.out, "digest %s\n", list.GetDigest())
}

// owners shows the cells that have changed hands, or are about to; or all of them.
func (g *globals) owners(cells []*sitesv1.Cell, all bool) {
	rows := [][]string{{"CELLS", "OWNER", "EPOCH", "MOVING TO", "TAKEN"}}
	for _, s := range cellShares(cells) {
		if s.epoch > 0 || s.movingTo != "" || all {
			rows = append(rows, []string{ranges(s.cells), s.home, fmt.Sprint(s.epoch), s.movingTo, s.taken})
		}
	}
	if len(rows) > 1 {
		g.table(rows)
	}
}

type cellsMoveCmd struct {
	Cell  []uint32  `arg:"" optional:"" help:"Numbers of cells."`
	To    shardName `help:"The shard that gets them." required:"" placeholder:"[shard-00@]SITE"`
	Count int       `help:"In place of numbers: so many of those that this site owns." placeholder:"N"`
	From  shardName `help:"With --count: the shard of this site, where it has several." placeholder:"[shard-00@]SITE"`
	target
}

// Run moves.
func (c *cellsMoveCmd) Run(ctx context.Context, g *globals) (err error) {
	if (len(c.Cell) > 0) == (c.Count > 0) || c.Count == 0 && c.From != "" {
		return fmt.Errorf("%w: name cells, or say how many with --count", eventstore.ErrInvalid)
	}
	s, err := c.connect(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	return c.move(ctx, g, sitesv1.NewCellsClient(s.conn), sitesv1.NewSitesClient(s.conn))
}

// move moves: of a number of cells that are not named, those of the site that is asked.
func (c *cellsMoveCmd) move(ctx context.Context, g *globals, client sitesv1.CellsClient, sites sitesv1.SitesClient) error {
	if c.Count > 0 && c.From == "" {
		asked, err := sites.GetSites(ctx, &sitesv1.GetSitesRequest{})
		if err != nil {
			return fmt.Errorf("ask whose cells these are: %w", err)
		}
		c.From = shardName("shard-00@" + asked.GetSite())
	}
	return eachCell(ctx, g, client, once(c.Cell), string(c.From), c.Count, words{"move cells", "moves", "move"}, func(cell uint32) (*sitesv1.Cell, error) {
		return client.MoveCell(ctx, &sitesv1.MoveCellRequest{Cell: cell, To: string(c.To)})
	})
}

// once returns cells without those that are named twice, in order.
func once(cells []uint32) []uint32 { return slices.Compact(slices.Sorted(slices.Values(cells))) }

type cellsTakeCmd struct {
	Cell   []uint32  `arg:"" optional:"" help:"Numbers of cells."`
	From   shardName `help:"In place of numbers: all cells of a shard." placeholder:"[shard-00@]SITE"`
	Reason string    `help:"Why, for the record." required:"" placeholder:"TEXT"`
	target
}

// Run takes.
func (c *cellsTakeCmd) Run(ctx context.Context, g *globals) error {
	if (len(c.Cell) > 0) == (c.From != "") {
		return fmt.Errorf("%w: name cells, or the shard whose cells are taken with --from", eventstore.ErrInvalid)
	}
	return c.cells(ctx, g, c.connect, func(client sitesv1.CellsClient) error {
		return eachCell(ctx, g, client, once(c.Cell), string(c.From), 0, words{"take cells", "is taken", "are taken"}, func(cell uint32) (*sitesv1.Cell, error) {
			return client.TakeCell(ctx, &sitesv1.TakeCellRequest{Cell: cell, Reason: c.Reason})
		})
	})
}

// words say what is done with cells, and what was done with one of them, or several.
type words struct{ doing, one, several string }

// eachCell does something with cells: those that are named, or some of a shard's, 0 for all.
func eachCell(ctx context.Context, g *globals, client sitesv1.CellsClient, named []uint32, of string, most int, did words,
	do func(cell uint32) (*sitesv1.Cell, error),
) error {
	if of != "" {
		list, err := client.ListCells(ctx, &sitesv1.ListCellsRequest{Home: of})
		if err != nil {
			return fmt.Errorf("list cells: %w", err)
		}
		named = some(list.GetCells(), most)
		if len(named) == 0 {
			return fmt.Errorf("%w: %s owns no cells", eventstore.ErrNotFound, of)
		}
	}
	out := &sitesv1.ListCellsResponse{}
	bar := newProgress(g, did.doing, "cells")
	for i, number := range named {
		cell, err := do(number)
		if err != nil {
			bar.end()
			what := fmt.Sprintf("cell %d", number)
			if strings.Contains(err.Error(), what) { // it says so itself
				what = did.doing
			}
			if i > 0 {
				return fmt.Errorf("%s, when %s %s: %w", what, counted(i, "other"), did.several, err)
			}
			return fmt.Errorf("%s: %w", what, err)
		}
		out.Cells = append(out.Cells, cell)
		bar.set(int64(i)+1, int64(len(named)))
	}
	bar.end()
	return g.print(out, func() {
		for _, s := range cellShares(out.GetCells()) {
			home, epoch := s.home, s.epoch
			if s.movingTo != "" { // who gets it opens it under the next epoch
				home, epoch = s.movingTo, s.epoch+1
			}
			if len(s.cells) == 1 {
				fmt.Fprintf(g.out, "cell %d %s: %s, epoch %d\n", s.cells[0], did.one, home, epoch)
				continue
			}
			fmt.Fprintf(g.out, "%d cells %s: %s, epoch %d (%s)\n", len(s.cells), did.several, home, epoch, ranges(s.cells))
		}
	})
}

// some returns the numbers of some cells, 0 for all, of those that do not move: first of those that were taken, for they are to be given back.
func some(cells []*sitesv1.Cell, most int) (numbers []uint32) {
	for _, taken := range []bool{true, false} {
		for _, cell := range cells {
			if cell.GetMovingTo() == "" && (cell.GetTaken() != "") == taken && (most == 0 || len(numbers) < most) {
				numbers = append(numbers, cell.GetCell())
			}
		}
	}
	return numbers
}

// cellShare is what is alike of some cells, by which they are summed up for people.
type cellShare struct {
	home, movingTo, taken string
	epoch                 uint32
	cells                 []uint32 // in order
}

// cellShares sums cells up, those of the lowest number first.
func cellShares(cells []*sitesv1.Cell) (out []*cellShare) {
	type key struct {
		home, movingTo, taken string
		epoch                 uint32
	}
	known := map[key]*cellShare{}
	for _, cell := range slices.SortedFunc(slices.Values(cells), func(a, b *sitesv1.Cell) int { return cmp.Compare(a.GetCell(), b.GetCell()) }) {
		k := key{cell.GetHome(), cell.GetMovingTo(), cell.GetTaken(), cell.GetEpoch()}
		if known[k] == nil {
			known[k] = &cellShare{home: k.home, movingTo: k.movingTo, taken: k.taken, epoch: k.epoch}
			out = append(out, known[k])
		}
		known[k].cells = append(known[k].cells, cell.GetCell())
	}
	return out
}

// mostRanges is how many runs of cells are written out; --json has all.
const mostRanges = 12

// ranges writes numbers, which are in order, as the runs that they come in: 0-12, 15.
func ranges(numbers []uint32) string {
	var out []string
	for first := 0; first < len(numbers); {
		end := first + 1
		for end < len(numbers) && numbers[end] == numbers[end-1]+1 {
			end++
		}
		if len(out) == mostRanges {
			out = append(out, fmt.Sprintf("and %d more (--json has all)", len(numbers)-first))
			break
		}
		run := fmt.Sprint(numbers[first])
		if end > first+1 {
			run += fmt.Sprintf("-%d", numbers[end-1])
		}
		out = append(out, run)
		first = end
	}
	return strings.Join(out, ", ")
}
