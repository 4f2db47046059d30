package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/node"
	apiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)

// backupCmd makes a backup.
type backupCmd struct {
	Addr string `help:"gRPC address of a running server." placeholder:"HOST:PORT"`
	Data string `help:"Data folder; the server that runs on it makes the backup, else the folder's store is opened." default:"./data" type:"path"`
	To   string `required:"" help:"Folder for the backup, new or empty; on the server's machine, where a server makes it." placeholder:"DIR" type:"path"`
}

// Run makes a backup and prints what it holds.
func (c *backupCmd) Run(ctx context.Context, g *globals) error {
	report, err := c.backUp(ctx, g)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return g.print(report, func() {
		fmt.Fprintf(g.out, "backup in %s: %s up to %s, %d events in %d streams, %d bytes\nchain %s\n",
			report.Folder, report.Log, report.Position, report.Events, report.Streams, report.Bytes, report.Chain)
		if report.ReadOnly != "" {
			fmt.Fprintf(g.out, "THE STORE TAKES NO COMMANDS, and its backup may lack what the log has lost: %s\n", report.ReadOnly)
		}
		fmt.Fprintln(g.out, "keys of sealed fields are not in it: tributary keys backup")
	})
}

func (c *backupCmd) backUp(ctx context.Context, g *globals) (report node.BackupReport, err error) {
	bar := newProgress(g, "back up", "events")
	defer bar.end()
	addr := c.Addr
	if addr == "" {
		b, ok, err := node.FindServer(ctx, c.Data)
		if err != nil {
			return report, err
		}
		if ok {
			addr = b.GRPC
		}
	}
	if addr != "" {
		return c.byServer(ctx, addr, bar)
	}
	if !node.HasData(c.Data) {
		return report, fmt.Errorf("%w: there is no data in %s and no server is named", eventstore.ErrInvalid, c.Data)
	}
	return node.BackUpFolder(ctx, c.Data, c.To, g.log, func(done, total uint64) { bar.set(int64(done), int64(total)) })
}

func (c *backupCmd) byServer(ctx context.Context, addr string, bar *progress) (report node.BackupReport, err error) {
	s, err := dial(addr)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	stream, err := apiv1.NewAdminServiceClient(s.conn).Backup(ctx, &apiv1.BackupRequest{Folder: c.To})
	if err != nil {
		return report, err
	}
	for {
		p, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return report, errors.New("the server ended without a report")
		}
		if err != nil {
			return report, err
		}
		bar.set(int64(p.GetDoneEvents()), int64(p.GetTotalEvents()))
		if p.GetDone() {
			err := json.Unmarshal([]byte(p.GetReportJson()), &report)
			return report, err
		}
	}
}
