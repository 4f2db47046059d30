package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	storev1 "github.com/tributary-es/tributary/schemas/gen/tributary/store/v1"
)

// groupsCmd sees to consumer groups.
type groupsCmd struct {
	List     groupsListCmd     `cmd:"" help:"List the groups, with where they stand."`
	Create   groupsCreateCmd   `cmd:"" help:"Make a group; again with the same settings changes nothing."`
	Describe groupsDescribeCmd `cmd:"" help:"Show a group: cursor, lag, members, what is in flight and parked."`
	Reset    groupsResetCmd    `cmd:"" help:"Have a group begin again elsewhere; what it had parked or settled is forgotten."`
	Delete   groupsDeleteCmd   `cmd:"" help:"End a group and its members."`
	Parked   groupsParkedCmd   `cmd:"" help:"See to the events that a group has set aside."`
}

// groups runs do with a client of the consumer groups of a session: t.connect, or t.look.
func (t *target) groups(ctx context.Context, g *globals, open func(context.Context, *globals) (*session, error), do func(storev1.ConsumerGroupsClient) error) (err error) {
	s, err := open(ctx, g)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	return do(storev1.NewConsumerGroupsClient(s.conn))
}

type groupsListCmd struct {
	target `set:"stopped=, else the folder is shown as it is"`
}

// Run lists.
func (c *groupsListCmd) Run(ctx context.Context, g *globals) error {
	return c.groups(ctx, g, c.look, func(client storev1.ConsumerGroupsClient) error {
		list, err := client.ListGroups(ctx, &storev1.ListGroupsRequest{})
		if err != nil {
			return fmt.Errorf("list groups: %w", err)
		}
		return g.print(list, func() {
			rows := [][]string{{"GROUP", "CURSOR", "LAG", "IN FLIGHT", "PARKED", "MEMBERS", "PROBLEM"}}
			for _, i := range list.GetGroups() {
				rows = append(rows, []string{
					i.GetName(), i.GetCursor(), fmt.Sprint(i.GetLag()), fmt.Sprint(i.GetInFlight()), fmt.Sprint(i.GetParked()),
					fmt.Sprint(len(i.GetMembers())), i.GetProblem(),
				})
			}
			g.table(rows)
		})
	})
}

type groupsCreateCmd struct {
	Name     string        `arg:"" help:"Name of the group."`
	Category []string      `help:"Only these categories." placeholder:"NAME"`
	Type     []string      `help:"Only these event types." placeholder:"NAME"`
	Tag      []string      `help:"Only events that carry all of these tags." placeholder:"KEY:VALUE"`
	Tenant   string        `help:"Only this tenant." placeholder:"NAME"`
	Start    string        `help:"Where to begin: beginning, end, after a position, or at a time." default:"beginning" placeholder:"WHERE"`
	Lease    time.Duration `help:"How long a member has for an event." default:"30s"`
	MaxTries uint32        `help:"After how many tries an event is parked." default:"10"`
	PassOver bool          `help:"Have a stream go on past a parked event, out of order."`
	target
}

// Run makes the group.
func (c *groupsCreateCmd) Run(ctx context.Context, g *globals) error {
	if c.Lease <= 0 || c.Lease > 24*time.Hour || c.MaxTries == 0 {
		return fmt.Errorf("%w: --lease is up to 24h, --max-tries is at least 1", eventstore.ErrInvalid)
	}
	settings := &storev1.GroupSettings{
		Tenant: c.Tenant, Categories: c.Category, Types: c.Type, Start: c.Start,
		LeaseMs: uint32(c.Lease / time.Millisecond), MaxTries: c.MaxTries, PassOver: c.PassOver,
	}
	if len(c.Tag) > 0 {
		settings.Query = []*storev1.QueryItem{{Tags: c.Tag}}
	}
	return c.groups(ctx, g, c.connect, func(client storev1.ConsumerGroupsClient) error {
		done, err := client.CreateGroup(ctx, &storev1.CreateGroupRequest{Name: c.Name, Settings: settings})
		if err != nil {
			return fmt.Errorf("create group: %w", err)
		}
		return g.print(map[string]any{"name": c.Name, "made": done.GetMade()}, func() {
			what := "is there already, with these settings"
			if done.GetMade() {
				what = "is made"
			}
			fmt.Fprintf(g.out, "group %s %s\n", c.Name, what)
		})
	})
}

type groupsDescribeCmd struct {
	Name   string `arg:"" help:"Name of the group."`
	target `set:"stopped=, else the folder is shown as it is"`
}

// Run describes.
func (c *groupsDescribeCmd) Run(ctx context.Context, g *globals) error {
	return c.groups(ctx, g, c.look, func(client storev1.ConsumerGroupsClient) error {
		i, err := client.DescribeGroup(ctx, &storev1.DescribeGroupRequest{Name: c.Name})
		if err != nil {
			return fmt.Errorf("describe group: %w", err)
		}
		return g.print(i, func() {
			s := i.GetSettings()
			rows := [][]string{
				{"group", i.GetName()},
				{"gets", wants(s)},
				{"began at", s.GetStart()},
				{"lease, tries", fmt.Sprintf("%s, %d", time.Duration(s.GetLeaseMs())*time.Millisecond, s.GetMaxTries())},
				{"cursor", fmt.Sprintf("%s, checkpointed %s, the log ends at %s", i.GetCursor(), i.GetCheckpointed(), i.GetHead())},
				{"lag", fmt.Sprint(i.GetLag())},
				{"waiting", fmt.Sprint(i.GetWaiting())},
				{"in flight", fmt.Sprint(i.GetInFlight())},
				{"parked", fmt.Sprint(i.GetParked())},
			}
			for _, m := range i.GetMembers() {
				rows = append(rows, []string{"member", fmt.Sprintf("%s has %d of %d", m.GetName(), m.GetInFlight(), m.GetCapacity())})
			}
			if i.GetProblem() != "" {
				rows = append(rows, []string{"problem", i.GetProblem()})
			}
			g.table(rows)
		})
	})
}

// wants says what events a group gets.
func wants(s *storev1.GroupSettings) string {
	var parts []string
	for _, p := range []struct {
		what   string
		values []string
	}{{"category", s.GetCategories()}, {"type", s.GetTypes()}} {
		if len(p.values) > 0 {
			parts = append(parts, p.what+" "+strings.Join(p.values, " or "))
		}
	}
	var query eventstore.Query
	for _, q := range s.GetQuery() {
		query = append(query, eventstore.QueryItem{Types: q.GetTypes(), Tags: q.GetTags()})
	}
	if len(query) > 0 {
		parts = append(parts, query.String())
	}
	if s.GetTenant() != "" {
		parts = append(parts, "tenant "+s.GetTenant())
	}
	if len(parts) == 0 {
		return "all events"
	}
	return strings.Join(parts, ", ")
}

type groupsResetCmd struct {
	Name  string `arg:"" help:"Name of the group."`
	To    string `required:"" help:"Where to begin: beginning, end, after a position, or at a time." placeholder:"WHERE"`
	Actor string `help:"Who asks, as a reference; it is recorded." placeholder:"NAME"`
	target
}

// Run resets.
func (c *groupsResetCmd) Run(ctx context.Context, g *globals) error {
	return c.groups(ctx, g, c.connect, func(client storev1.ConsumerGroupsClient) error {
		done, err := client.ResetGroup(ctx, &storev1.ResetGroupRequest{Name: c.Name, To: c.To, Actor: c.Actor})
		if err != nil {
			return fmt.Errorf("reset group: %w", err)
		}
		return g.print(map[string]any{"name": c.Name, "cursor": done.GetCursor()}, func() {
			fmt.Fprintf(g.out, "group %s goes on after %s\n", c.Name, done.GetCursor())
		})
	})
}

type groupsDeleteCmd struct {
	Name  string `arg:"" help:"Name of the group."`
	Actor string `help:"Who asks, as a reference; it is recorded." placeholder:"NAME"`
	target
}

// Run deletes.
func (c *groupsDeleteCmd) Run(ctx context.Context, g *globals) error {
	return c.groups(ctx, g, c.connect, func(client storev1.ConsumerGroupsClient) error {
		if _, err := client.DeleteGroup(ctx, &storev1.DeleteGroupRequest{Name: c.Name, Actor: c.Actor}); err != nil {
			return fmt.Errorf("delete group: %w", err)
		}
		return g.print(map[string]any{"name": c.Name, "deleted": true}, func() {
			fmt.Fprintf(g.out, "group %s is deleted\n", c.Name)
		})
	})
}

// groupsParkedCmd sees to what a group has set aside.
type groupsParkedCmd struct {
	List  groupsParkedListCmd  `cmd:"" help:"List the events that are parked, with reasons."`
	Retry groupsParkedRetryCmd `cmd:"" help:"Have them handed out again, and those behind them."`
	Skip  groupsParkedSkipCmd  `cmd:"" help:"Leave an event out for good, and have those behind it handed out."`
}

type groupsParkedListCmd struct {
	Name   string `arg:"" help:"Name of the group."`
	target `set:"stopped=, else the folder is shown as it is"`
}

// Run lists.
func (c *groupsParkedListCmd) Run(ctx context.Context, g *globals) error {
	return c.groups(ctx, g, c.look, func(client storev1.ConsumerGroupsClient) error {
		list, err := client.ListGroupParked(ctx, &storev1.ListGroupParkedRequest{Name: c.Name})
		if err != nil {
			return fmt.Errorf("list parked: %w", err)
		}
		return g.print(list, func() {
			for _, p := range list.GetParked() {
				again := ""
				if p.GetRetrying() {
					again = " (is handed out again)"
				}
				fmt.Fprintf(g.out, "%-10s %s of %s@%d, %d tries, %d behind it: %s%s\n", p.GetPosition(), p.GetType(), p.GetStream(),
					p.GetVersion(), p.GetTries(), p.GetBehind(), p.GetReason(), again)
			}
			if len(list.GetParked()) == 0 {
				fmt.Fprintln(g.out, "nothing is parked")
			}
		})
	})
}

type groupsParkedRetryCmd struct {
	Name     string `arg:"" help:"Name of the group."`
	Position string `arg:"" optional:"" help:"Position of the event, as the list has it; all without."`
	target
}

// Run retries.
func (c *groupsParkedRetryCmd) Run(ctx context.Context, g *globals) error {
	return c.groups(ctx, g, c.connect, func(client storev1.ConsumerGroupsClient) error {
		done, err := client.RetryGroupParked(ctx, &storev1.RetryGroupParkedRequest{Name: c.Name, Position: c.Position})
		if err != nil {
			return fmt.Errorf("retry parked: %w", err)
		}
		return g.print(map[string]any{"name": c.Name, "retried": done.GetRetried()}, func() {
			fmt.Fprintf(g.out, "group %s: %d are handed out again\n", c.Name, done.GetRetried())
		})
	})
}

type groupsParkedSkipCmd struct {
	Name     string `arg:"" help:"Name of the group."`
	Position string `arg:"" help:"Position of the event, as the list has it."`
	target
}

// Run skips.
func (c *groupsParkedSkipCmd) Run(ctx context.Context, g *globals) error {
	return c.groups(ctx, g, c.connect, func(client storev1.ConsumerGroupsClient) error {
		if _, err := client.SkipGroupParked(ctx, &storev1.SkipGroupParkedRequest{Name: c.Name, Position: c.Position}); err != nil {
			return fmt.Errorf("skip parked: %w", err)
		}
		return g.print(map[string]any{"name": c.Name, "skipped": c.Position}, func() {
			fmt.Fprintf(g.out, "group %s: %s is left out for good\n", c.Name, c.Position)
		})
	})
}
