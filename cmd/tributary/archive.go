package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/node"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// archiveCmd moves old events to an archive, and sees to it.
type archiveCmd struct {
	Run    archiveRunCmd    `cmd:"" default:"withargs" help:"Move old events to an archive, where they stay readable."`
	Drop   archiveDropCmd   `cmd:"" help:"Drop archived events for good, as far as everything that follows the log has read them."`
	List   archiveListCmd   `cmd:"" help:"List what is archived, and where."`
	Verify archiveVerifyCmd `cmd:"" help:"Verify what is archived: checksums, events, hash chain."`
}

// archiveTarget is the server or the stopped folder whose log is meant.
type archiveTarget struct {
	Addr string `help:"gRPC address of a running server." placeholder:"HOST:PORT"`
	Data string `help:"Data folder; the server that runs on it does the work, else the folder's store is opened." default:"./data" type:"path"`
}

// use calls remote with the server, or local with the store of the stopped folder.
func (t *archiveTarget) use(ctx context.Context, g *globals, remote func(apiv1.AdminServiceClient) error, local func(*node.Archive) error) (err error) {
	addr := t.Addr
	if addr == "" {
		b, ok, err := node.FindServer(ctx, t.Data)
		if err != nil {
			return err
		}
		if ok {
			addr = b.GRPC
		}
	}
	if addr != "" {
		s, err := dial(addr)
		if err != nil {
			return err
		}
		return errors.Join(remote(apiv1.NewAdminServiceClient(s.conn)), s.stop())
	}
	if !node.HasData(t.Data) {
		return fmt.Errorf("%w: there is no data in %s and no server is named", eventstore.ErrInvalid, t.Data)
	}
	a, err := node.OpenArchive(t.Data, g.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	return local(a)
}

type archiveRunCmd struct {
	To        string `required:"" help:"Where to: a folder (on the server's machine, where a server does it), or s3://BUCKET/PREFIX." placeholder:"FOLDER|URL"`
	Before    string `help:"Archive what stands before this position." placeholder:"POSITION"`
	OlderThan age    `help:"Archive what happened longer ago than this, such as 90d or 12h." placeholder:"AGE"`
	KeepLast  uint64 `help:"Keep at least so many events in the log." placeholder:"N"`
	DryRun    bool   `help:"Only say what would be archived."`
	archiveTarget
}

// Run archives and prints what was.
func (c *archiveRunCmd) Run(ctx context.Context, g *globals) error {
	r := &apiv1.ArchiveRequest{
		To: c.To, Before: c.Before, OlderThanSeconds: int64(time.Duration(c.OlderThan) / time.Second), KeepLast: c.KeepLast, DryRun: c.DryRun,
	}
	if r.GetTo() != "" && !strings.Contains(r.GetTo(), "://") {
		path, err := filepath.Abs(r.GetTo())
		if err != nil {
			return fmt.Errorf("archive: %w", err)
		}
		r.To = path
	}
	var report node.ArchiveReport
	bar := newProgress(g, "archive", "events")
	err := c.use(ctx, g, func(admin apiv1.AdminServiceClient) error {
		stream, err := admin.Archive(ctx, r)
		if err != nil {
			return err
		}
		_, err = receiveArchive(stream, bar, &report)
		return err
	}, func(a *node.Archive) (err error) {
		report, err = a.Archive(ctx, r, func(done, total uint64) { bar.set(int64(done), int64(total)) })
		return err
	})
	bar.end()
	if err != nil {
		return fmt.Errorf("archive: %w", err)
	}
	return g.print(report, func() {
		switch {
		case report.Events == 0:
			fmt.Fprintf(g.out, "nothing to archive; the log is archived up to %s\n", report.Archived)
		case report.DryRun:
			fmt.Fprintf(g.out, "would archive %d events, %s to %s, as %s of %d bytes in %s\n",
				report.Events, report.First, report.Last, counted(report.Segments, "segment"), report.Bytes, report.To)
		default:
			fmt.Fprintf(g.out, "archived %d events, %s to %s, as %s of %d bytes in %s\n",
				report.Events, report.First, report.Last, counted(report.Segments, "segment"), report.Bytes, report.To)
		}
	})
}

// receiveArchive receives progress, and the report of the last message.
func receiveArchive(stream grpc.ServerStreamingClient[apiv1.ArchiveProgress], bar *progress, report any) (*apiv1.ArchiveProgress, error) {
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the server ended without a report")
		}
		if err != nil {
			return nil, err
		}
		bar.set(int64(p.GetDoneEvents()), int64(p.GetTotalEvents()))
		if p.GetDone() {
			return p, json.Unmarshal([]byte(p.GetReportJson()), report)
		}
	}
}

type archiveDropCmd struct {
	Before    string `help:"Drop what stands before this position." placeholder:"POSITION"`
	OlderThan age    `help:"Drop what happened longer ago than this, such as 3650d." placeholder:"AGE"`
	DryRun    bool   `help:"Only say what would be dropped."`
	target
}

// Run drops and prints what was. It needs the server, which knows who still reads the log.
func (c *archiveDropCmd) Run(ctx context.Context, g *globals) (err error) {
	s, err := c.connect(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if s.node != nil { // what follows the log has to say first how far it is
		if err := settle(ctx, g, s); err != nil {
			return fmt.Errorf("drop archived events: %w", err)
		}
	}
	var report node.DropReport
	bar := newProgress(g, "drop", "events")
	stream, err := apiv1.NewAdminServiceClient(s.conn).DropArchived(ctx, &apiv1.DropArchivedRequest{
		Before: c.Before, OlderThanSeconds: int64(time.Duration(c.OlderThan) / time.Second), DryRun: c.DryRun,
	})
	if err == nil {
		_, err = receiveArchive(stream, bar, &report)
	}
	bar.end()
	if err != nil {
		return fmt.Errorf("drop archived events: %w", err)
	}
	return g.print(report, func() { g.dropped(&report) })
}

// dropped says what was dropped, and where nothing was, how that may be.
func (g *globals) dropped(report *node.DropReport) {
	did := "dropped"
	switch {
	case report.Events == 0:
		fmt.Fprintf(g.out, "nothing to drop: a segment goes only whole, when its last event may go (archive list names them); the first event that is left is %s\n", report.First)
		return
	case report.DryRun:
		did = "would drop"
	}
	fmt.Fprintf(g.out, "%s %d events in %s, %d bytes less; the first that is left is %s\n", did, report.Events, counted(report.Segments, "segment"), report.Freed, report.First)
}

type archiveListCmd struct{ archiveTarget }

// Run prints what is archived.
func (c *archiveListCmd) Run(ctx context.Context, g *globals) error {
	var list *apiv1.ListArchiveResponse
	err := c.use(ctx, g, func(admin apiv1.AdminServiceClient) (err error) {
		list, err = admin.ListArchive(ctx, &apiv1.ListArchiveRequest{})
		return err
	}, func(a *node.Archive) error {
		list = a.List()
		return nil
	})
	if err != nil {
		return fmt.Errorf("list archive: %w", err)
	}
	return g.print(list, func() {
		if len(list.GetSegments()) == 0 {
			fmt.Fprintln(g.out, "nothing is archived")
		}
		if first := list.GetFirst(); len(list.GetSegments()) > 0 && first != list.GetSegments()[0].GetFirst() {
			fmt.Fprintf(g.out, "dropped: what stands before %s\n", first)
		}
		at := ""
		for _, s := range list.GetSegments() {
			if s.GetLocation() != at {
				at = s.GetLocation()
				fmt.Fprintln(g.out, at)
			}
			fmt.Fprintf(g.out, "  %s to %s  %s  %d events, %d bytes  %s\n", s.GetFirst(), s.GetLast(), s.GetLastEvent().AsTime().Format(time.RFC3339),
				s.GetEvents(), s.GetBytes(), s.GetName())
		}
	})
}

type archiveVerifyCmd struct {
	Repair bool `help:"Write anew what the log knows of: the descriptions that stand beside segments."`
	archiveTarget
}

// Run verifies what is archived and prints what was found. Faults that are left end with exit code 4.
func (c *archiveVerifyCmd) Run(ctx context.Context, g *globals) error {
	var found node.ArchiveFindings
	bar := newProgress(g, "verify archive", "events")
	err := c.use(ctx, g, func(admin apiv1.AdminServiceClient) error {
		stream, err := admin.VerifyArchive(ctx, &apiv1.VerifyArchiveRequest{Repair: c.Repair})
		if err != nil {
			return err
		}
		_, err = receiveArchive(stream, bar, &found)
		return err
	}, func(a *node.Archive) (err error) {
		found, err = a.Verify(ctx, c.Repair, func(done, total uint64) { bar.set(int64(done), int64(total)) })
		return err
	})
	bar.end()
	if err != nil {
		return fmt.Errorf("verify archive: %w", err)
	}
	err = g.print(found, func() {
		fmt.Fprintf(g.out, "%s, %d events, %d bytes\n", counted(found.Segments, "segment"), found.Events, found.Bytes)
		for _, name := range found.Unused {
			fmt.Fprintln(g.out, "not of this log:", name)
		}
		for _, f := range found.Repaired {
			fmt.Fprintln(g.out, "repaired:", f)
		}
		for _, f := range found.Faults {
			fmt.Fprintln(g.out, "FAULT", f)
		}
		if len(found.Faults) == 0 {
			fmt.Fprintln(g.out, "no faults")
		}
	})
	if n := len(found.Faults); err == nil && n > 0 {
		err = fmt.Errorf("%w: %d", errFaults, n)
	}
	return err
}

// age is a time that has passed, in days too.
type age time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *age) UnmarshalText(text []byte) error {
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		if err == nil && (n <= 0 || n > 36_500) {
			err = errors.New("out of range")
		}
		if err != nil {
			return fmt.Errorf("age %q: %w; write it as 90d or 12h", text, err)
		}
		*a = age(n * 24 * float64(time.Hour))
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err == nil && d < time.Second {
		err = errors.New("out of range")
	}
	if err != nil {
		return fmt.Errorf("age %q: %w; write it as 90d or 12h", text, err)
	}
	*a = age(d)
	return nil
}
