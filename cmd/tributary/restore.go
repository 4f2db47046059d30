package main

import (
	"context"
	"fmt"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/node"
)

// restoreCmd makes a data folder of a backup, or of a log's topic.
type restoreCmd struct {
	From          string `help:"Folder of a backup." placeholder:"DIR" type:"path"`
	FromKafka     string `help:"Restore from the topic of the log: brokers HOST:PORT,…, or embedded for the data folder's own." placeholder:"ADDR"`
	TailFromKafka string `help:"Bring back what the log in the data folder has lost at its end, from its topic: brokers, or embedded." placeholder:"ADDR"`
	Data          string `help:"Data folder to make; it must have no store." default:"./data" type:"path"`
	Site          string `help:"Name of the site; from Kafka it names the topic." placeholder:"NAME"`
	At            string `help:"With --from: the position of the last event to restore, with the rest of its batch." placeholder:"POSITION"`
	Until         string `help:"With --from: restore what happened up to this moment, such as 2026-01-31T23:59:59Z." placeholder:"TIME"`
	Kafka         string `help:"With --from: brokers of the log's topic, which is told that a new life of the log begins." placeholder:"ADDR"`
	Incarnation   uint32 `help:"Incarnation of the log's new life, above any before; the next one if not given." placeholder:"N"`
}

func (c *restoreCmd) config(g *globals) (node.RestoreConfig, error) {
	o := node.RestoreConfig{Data: c.Data, From: c.From, Kafka: c.Kafka, Site: c.Site, Incarnation: c.Incarnation, Logger: g.log}
	invalid := func(format string, args ...any) (node.RestoreConfig, error) {
		return o, fmt.Errorf("%w: %s", eventstore.ErrInvalid, fmt.Sprintf(format, args...))
	}
	switch {
	case c.FromKafka != "" && (c.From != "" || c.TailFromKafka != ""):
		return invalid("--from, --from-kafka and --tail-from-kafka are places to restore from; name one")
	case c.FromKafka != "" && c.Kafka != "":
		return invalid("--kafka goes with --from; --from-kafka names the brokers already")
	case c.FromKafka != "":
		o.Kafka = c.FromKafka
	case c.TailFromKafka != "" && (c.From != "" || c.Kafka != "" || c.At != "" || c.Until != "" || c.Incarnation != 0):
		return invalid("--tail-from-kafka goes with --data and --site alone")
	case c.TailFromKafka != "":
		o.Kafka = c.TailFromKafka
	}
	var err error
	if c.At != "" {
		if o.At, err = eventstore.ParsePosition(c.At); err != nil {
			return o, fmt.Errorf("--at: %w", err)
		}
	}
	if c.Until != "" {
		if o.Until, err = time.Parse(time.RFC3339, c.Until); err != nil {
			return invalid("--until %q is not of the form 2026-01-31T23:59:59Z", c.Until)
		}
	}
	return o, nil
}

// Run restores and prints what was restored.
func (c *restoreCmd) Run(ctx context.Context, g *globals) error {
	o, err := c.config(g)
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	if c.TailFromKafka != "" {
		return c.tail(ctx, g, o)
	}
	what := "events"
	if o.From == "" {
		what = "records"
	}
	bar := newProgress(g, "restore", what)
	o.Progress = func(done, total uint64) { bar.set(int64(done), int64(total)) }
	r, err := node.Restore(ctx, o)
	bar.end()
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return g.print(r, func() {
		fmt.Fprintf(g.out, "restored %d events in %d streams of %s into %s; the log goes on as %s at %s\nchain %s\n",
			r.Events, r.Streams, r.Before, r.Data, r.Log, r.Position, r.Chain)
		if r.LastEvent != nil {
			fmt.Fprintf(g.out, "the last event is of %s\n", r.LastEvent.Format(time.RFC3339Nano))
		}
		for _, left := range []struct {
			n    uint64
			what string
		}{
			{r.LeftOut, "events of the backup are left out, as asked"},
			{r.Torn, "events at the topic's end are left out: their batch is not whole there, and was not acknowledged as mirrored"},
			{r.Foreign, "records of the topic were passed over: no mirror wrote them"},
		} {
			if left.n > 0 {
				fmt.Fprintf(g.out, "%d %s\n", left.n, left.what)
			}
		}
		fmt.Fprintln(g.out, "positions from before are refused from now on")
		if r.KeyFile != "" && !r.KeysThere {
			fmt.Fprintf(g.out, "personal data in it are sealed with key file %s; next: bring its master.key back to %s (no backup has it), then\n"+
				"  tributary keys restore FILE --data %s\nor name the folder that has both: tributary serve --keys DIR\n", r.KeyFile, r.Keys, r.Data)
		}
		fmt.Fprintf(g.out, "next: tributary serve --data %s\n", r.Data)
	})
}

// tail brings back the end of a log, and prints what came back. What is still missing ends with exit code 4.
func (c *restoreCmd) tail(ctx context.Context, g *globals, o node.RestoreConfig) error {
	bar := newProgress(g, "restore", "records")
	o.Progress = func(done, total uint64) { bar.set(int64(done), int64(total)) }
	r, err := node.RestoreTail(ctx, o)
	bar.end()
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	err = g.print(r, func() {
		fmt.Fprintf(g.out, "%d events came back: %s ended at %s, and ends at %s\n", r.Events, r.Log, r.From, r.To)
	})
	if err == nil && r.Missing > 0 {
		err = fmt.Errorf("%w: %d events that were acknowledged are neither here nor in Kafka, so that the store takes no commands; to go on without them, "+
			"begin a new life: tributary backup, then tributary restore --from it into another folder", errFaults, r.Missing)
	}
	return err
}
