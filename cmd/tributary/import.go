package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/commerce/retail"
	"github.com/tributary-es/tributary/commerce/retail/importer"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// importCmd imports data.
type importCmd struct {
	Retail importRetailCmd `cmd:"" help:"Import retail files: orders, returns and stock, in order of time."`
}

// importRetailCmd imports retail files. The files are read and checked whole before anything is written; importing a file
// twice changes nothing.
type importRetailCmd struct {
	Files []string `arg:"" help:"CSV files, plain or gz." type:"path"`
	target
}

// importAnswer is what an import prints.
type importAnswer struct {
	Lines    int     `json:"lines"`
	Items    int     `json:"items"`
	Repeated int     `json:"repeated"`
	Position string  `json:"position"`
	Seconds  float64 `json:"seconds"`
}

// Run imports the files.
func (c *importRetailCmd) Run(ctx context.Context, g *globals) (err error) {
	set, err := retail.Read(ctx, c.Files...)
	if err != nil {
		return err
	}
	s, err := c.connect(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	answer, err := importSet(ctx, g, s, set)
	if err != nil {
		return err
	}
	if s.node != nil { // the folder was stopped: nobody else would finish the checkouts
		if err := settle(ctx, g, s); err != nil {
			return err
		}
	}
	return g.print(answer, func() {
		fmt.Fprintf(g.out, "%d lines as %d commands (%d of them repeated) in %.1f s, up to position %s\n",
			answer.Lines, answer.Items, answer.Repeated, answer.Seconds, answer.Position)
	})
}

func importSet(ctx context.Context, g *globals, s *session, set *retail.Set) (importAnswer, error) {
	begin := time.Now()
	bar := newProgress(g, "import", "commands")
	result, err := importer.Run(ctx, commerceapiv1.NewCommandServiceClient(s.conn), set.Plan(), importer.Options{
		Progress: func(done, total int) { bar.set(int64(done), int64(total)) },
	})
	bar.end()
	return importAnswer{
		Lines: result.Lines, Items: result.Items, Repeated: result.Repeated, Position: result.Position,
		Seconds: time.Since(begin).Seconds(),
	}, err
}
