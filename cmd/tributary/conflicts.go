package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	sitesv1 "github.com/tributary-es/tributary/schemas/gen/tributary/sites/v1"
)

// conflictsCmd shows what happened at several sites at once.
type conflictsCmd struct {
	ID       string        `arg:"" optional:"" help:"Only this conflict, whole: the dot of its event."`
	Stream   streamName    `help:"Only those of a stream." placeholder:"[TENANT/]CATEGORY/ID"`
	Category string        `help:"Only those of a category." placeholder:"NAME"`
	Kind     string        `help:"Only those of a kind: concurrent, duplicate_command." placeholder:"KIND"`
	Verdict  string        `help:"Only those that ended so: merged, winner, voided, needs_review, not_judged." placeholder:"VERDICT"`
	Since    time.Duration `help:"Only those of the last …, such as 1h." placeholder:"DURATION"`
	Limit    uint32        `help:"How many to show at most." default:"100"`
	readAfterFlag
	target `set:"stopped=, else the folder is opened if its site has no others"`
}

// Run lists, the latest first.
func (c *conflictsCmd) Run(ctx context.Context, g *globals) (err error) {
	if c.Since < 0 || c.Limit == 0 {
		return fmt.Errorf("%w: --since and --limit are not negative, and a limit of 0 shows nothing", eventstore.ErrInvalid)
	}
	s, err := c.settled(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	ctx = c.readAfterFlag.context(ctx)
	client := sitesv1.NewConflictsClient(s.conn)
	if c.ID != "" {
		conflict, err := client.GetConflict(ctx, &sitesv1.GetConflictRequest{Id: c.ID})
		if err != nil {
			return fmt.Errorf("conflict %s: %w", c.ID, err)
		}
		return g.print(conflict, func() { g.table(conflictRows(conflict)) })
	}
	request := &sitesv1.ListConflictsRequest{Stream: c.Stream.String(), Category: c.Category, Kind: c.Kind, Verdict: c.Verdict}
	if c.Since > 0 {
		request.Since = time.Now().Add(-c.Since).UTC().Format(time.RFC3339Nano)
	}
	all := &sitesv1.ListConflictsResponse{}
	for {
		request.Limit = min(1000, c.Limit-uint32(len(all.GetConflicts())))
		page, err := client.ListConflicts(ctx, request)
		if err != nil {
			return fmt.Errorf("list conflicts: %w", err)
		}
		all.Conflicts = append(all.Conflicts, page.GetConflicts()...)
		all.Position, all.NextPage = page.GetPosition(), page.GetNextPage()
		if request.Page = page.GetNextPage(); request.GetPage() == "" || uint32(len(all.GetConflicts())) >= c.Limit {
			break
		}
	}
	return g.print(all, func() { g.conflicts(all) })
}

// conflicts lists conflicts, or says that there are none.
func (g *globals) conflicts(all *sitesv1.ListConflictsResponse) {
	if len(all.GetConflicts()) == 0 {
		fmt.Fprintln(g.out, "there are no such conflicts")
		return
	}
	rows := [][]string{{"AT", "STREAM", "EVENT", "KIND", "RESOLVER", "VERDICT", "REASON"}}
	for _, k := range all.GetConflicts() {
		rows = append(rows, []string{
			k.GetAt().AsTime().Format(time.DateTime), k.GetStream(), k.GetType() + " " + k.GetId(), k.GetKind(), k.GetResolver(), k.GetVerdict(), reasonOf(k),
		})
	}
	g.table(rows)
	if all.GetNextPage() != "" {
		fmt.Fprintln(g.out, "there are more: use --limit, or ask for fewer")
	}
}

// reasonOf says in a line what there is to say of a conflict.
func reasonOf(k *sitesv1.Conflict) string {
	if k.GetReason() != "" {
		return k.GetReason()
	}
	var parts []string
	for _, v := range k.GetVoid() {
		parts = append(parts, v.GetReason())
	}
	for _, o := range k.GetOverwritten() {
		parts = append(parts, o.GetField()+" overwritten")
	}
	return strings.Join(parts, "; ")
}

// conflictRows shows a conflict whole.
func conflictRows(k *sitesv1.Conflict) [][]string {
	rows := [][]string{
		{"event", k.GetType() + " " + k.GetId()},
		{"stream", k.GetStream()},
		{"at", k.GetAt().AsTime().Format(time.RFC3339Nano)},
		{"kind", k.GetKind()},
	}
	for _, s := range k.GetWith() {
		last := fmt.Sprintf("to %d", s.GetTo())
		if s.GetTo() == 0 { // the stream is too long to say it
			last = "on, up to its place"
		}
		rows = append(rows, []string{"did not know", fmt.Sprintf("%s, seq %d %s", s.GetLog(), s.GetFrom(), last)})
	}
	rows = append(rows, []string{"resolver, verdict", k.GetResolver() + ", " + k.GetVerdict()})
	if k.GetReason() != "" {
		rows = append(rows, []string{"reason", k.GetReason()})
	}
	for _, v := range k.GetVoid() {
		rows = append(rows, []string{"void", v.GetEvent() + ": " + v.GetReason()})
	}
	for _, o := range k.GetOverwritten() {
		rows = append(rows, []string{"overwritten", o.GetField() + " of " + o.GetEvent()})
	}
	rows = append(rows, []string{"known to both", k.GetBase()})
	for _, b := range k.GetBranches() {
		rows = append(rows, []string{"branch of " + b.GetLog(), b.GetDigest()})
	}
	return append(rows, []string{"counts in the end", k.GetResult()}, []string{"written", "at " + k.GetSeenBy() + ", position " + k.GetSeenAt()})
}
