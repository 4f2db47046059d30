// Command tributary runs a Tributary server and does what its operators ask.
//
// Answers go to stdout, logs and progress to stderr. With --json every command prints JSON objects on stdout, one a line
// where there are many, and the last line of stderr is an object {"error": {…}} when it has failed. Exit codes:
//
//	0  done
//	1  it failed; stderr says why
//	2  the input or the command line is wrong, or names what is not there; nothing was changed
//	3  something that is needed is missing; stderr has the line that gets it
//	4  verify, schemas check or a demo of several sites found faults; each is named
//	5  sites verify could not ask every site, or one lacks what another has: what could be compared is the same
//	70 the disk failed the store, or its folder was removed: it stopped at once rather than promise what it cannot keep
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync/atomic"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/vbauerster/mpb/v8"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tributary-es/tributary/commerce/retail"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/internal/engine"
)

// version is set by the linker.
var version = "dev"

// Exit codes.
const (
	exitDone    = 0
	exitFailed  = 1
	exitInput   = 2
	exitMissing = 3
	exitFaults  = 4
	exitAway    = 5
)

type cli struct {
	globals

	Serve     serveCmd     `cmd:"" help:"Run a server."`
	Dev       devCmd       `cmd:"" help:"Run a server on throwaway data, with the sample shop loaded."`
	Demo      demoCmd      `cmd:"" help:"Import retail files into a fresh folder and show what became of them."`
	Import    importCmd    `cmd:"" help:"Import data into a shop."`
	Events    eventsCmd    `cmd:"" help:"Read the log."`
	Cells     cellsCmd     `cmd:"" help:"See to who writes what is written at one site at a time."`
	Conflicts conflictsCmd `cmd:"" help:"Show what happened at several sites at once, and what came of it."`
	Groups    groupsCmd    `cmd:"" help:"See to consumer groups."`
	Rebuild   rebuildCmd   `cmd:"" help:"Rebuild a read model from the log."`
	Parked    parkedCmd    `cmd:"" help:"See to events and saga instances that could not be applied."`
	Erase     eraseCmd     `cmd:"" help:"Erase a person's data, for good."`
	Keys      keysCmd      `cmd:"" help:"Back up and restore the keys of personal data."`
	Schemas   schemasCmd   `cmd:"" help:"Show and check the schemas of events."`
	Verify    verifyCmd    `cmd:"" help:"Verify the store, the mirror and the read models."`
	Backup    backupCmd    `cmd:"" help:"Back the log up, while a server writes to it or not."`
	Restore   restoreCmd   `cmd:"" help:"Restore a data folder from a backup or from Kafka."`
	Archive   archiveCmd   `cmd:"" help:"Move old events to a folder or a bucket, where they stay readable: archive --to PLACE with --before, --older-than or --keep-last; archive run --help has its flags."`
	Scrub     scrubCmd     `cmd:"" help:"Look for rot in the store's files, and repair it."`
	Sites     sitesCmd     `cmd:"" help:"See how this site stands with the others."`
	Bench     benchCmd     `cmd:"" help:"Measure."`
	Setup     setupCmd     `cmd:"" help:"Fetch the engines that are missing."`
	Doctor    doctorCmd    `cmd:"" help:"Say what is missing, and the line that gets it."`
	Version   versionCmd   `cmd:"" help:"Print the version."`
}

// globals are the flags that every command takes.
type globals struct {
	JSON    bool `help:"Print JSON." short:"j"`
	Verbose bool `help:"Log more, to stderr." short:"v"`

	out io.Writer
	err io.Writer
	log *slog.Logger

	bars atomic.Pointer[mpb.Progress] // what is shown at present; nil: nothing
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go trimMemory(ctx)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: it returns the exit code.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	c := cli{globals: globals{out: out, err: errOut}}
	parsed, exited := -1, false
	parser, err := kong.New(&c, kong.Name("tributary"), kong.Description("An event store with read models, over a write-ahead log."),
		kong.Writers(out, errOut), kong.Exit(func(code int) { parsed, exited = code, true }), kong.UsageOnError(),
		kong.Vars{"stopped": ", else the folder is opened"}, kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	if err != nil {
		return fail(errOut, err, exitFailed, wantsJSON(args))
	}
	kctx, err := parser.Parse(args)
	if exited {
		return parsed // help was asked for
	}
	if err != nil {
		return fail(errOut, fmt.Errorf("%w; try %s --help", err, asked(err)), exitInput, wantsJSON(args))
	}
	c.log = newLogger(errOut, c.Verbose)
	slog.SetDefault(c.log)
	kctx.BindTo(ctx, (*context.Context)(nil))
	kctx.Bind(&c.globals)
	if err := kctx.Run(); err != nil {
		return fail(errOut, err, exitCode(err), c.JSON)
	}
	return exitDone
}

func newLogger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: plainErrors}))
}

// plainErrors keeps errors to their message: some of Pebble's would print their stack.
func plainErrors(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		a.Value = slog.StringValue(err.Error())
	}
	return a
}

// errFaults: verify found faults, which it has printed.
var errFaults = errors.New("verification found faults")

// errAway: a site could not be compared with, which was said, and nothing that could be compared differs.
var errAway = errors.New("not every site could be compared with")

// errBehind: a site does not have yet what another has, and what both have does not differ.
var errBehind = errors.New("not every site has everything yet")

// exitCode returns the code for an error that scripts branch on.
func exitCode(err error) int {
	var missing *engine.MissingError
	var input *retail.InputError
	switch {
	case errors.As(err, &missing):
		return exitMissing
	case errors.Is(err, errFaults), errors.Is(err, eventstore.ErrCorrupt), damage(err):
		return exitFaults
	case errors.Is(err, errAway), errors.Is(err, errBehind):
		return exitAway
	case errors.As(err, &input), slices.ContainsFunc(wrongInput, func(wrong error) bool { return errors.Is(err, wrong) }), slices.Contains(wrongAnswers, status.Code(err)):
		return exitInput
	}
	return exitFailed
}

// wrongInput are the errors of who asks for what cannot be, or is not there; wrongAnswers those that a server says so with.
var (
	wrongInput   = []error{eventstore.ErrInvalid, eventstore.ErrWrongIncarnation, eventstore.ErrNotFound, eventstore.ErrUnsupported}
	wrongAnswers = []codes.Code{codes.InvalidArgument, codes.NotFound, codes.Unimplemented}
)

// damage reports whether a server has said that stored data are damaged.
func damage(err error) bool { return status.Code(err) == codes.DataLoss }

// asked is the command that a line was parsed as, as far as that went.
func asked(err error) string {
	var parsing *kong.ParseError
	if errors.As(err, &parsing) && parsing.Context != nil && parsing.Context.Selected() != nil {
		return parsing.Context.Selected().FullPath()
	}
	return "tributary"
}
