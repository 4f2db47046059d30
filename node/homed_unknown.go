package node

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// homedPatience bounds how long a start looks for streams of a category that no domain has.
const homedPatience = time.Second

// warnOfHomed warns of categories that are homed, and are perhaps misspelt: no domain has them, and no stream is in them. It is no more
// than a warning, for programs may append to such streams later.
func (n *Node) warnOfHomed(ctx context.Context) {
	if n.config.Look {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, homedPatience)
	defer cancel()
	known := n.bus.Categories()
	for _, d := range n.domains { // what deciders write has no aggregate
		for _, codec := range d.Codecs {
			for _, t := range codec.Types() {
				category, _, _ := strings.Cut(t, ".")
				known = append(known, category)
			}
		}
	}
	slices.Sort(known)
	known = slices.Compact(known)
	for _, category := range n.config.Homed {
		if slices.Contains(known, category) || n.hasStreams(ctx, category) {
			continue
		}
		n.log.Warn("a category is homed that no domain of this program has and no stream is in: is it misspelt?",
			slog.String("category", category), slog.Any("known", known), slog.String("do", "if it is, start all sites with --homed and the right name"))
	}
}

// hasStreams reports whether there are events of a category, or it cannot be read in time whether there are: whoever needs them tells what
// is wrong.
func (n *Node) hasStreams(ctx context.Context, category string) bool {
	for e, err := range n.local.ReadAll(ctx, eventstore.Position{}, eventstore.Filter{Categories: []string{category}}) {
		return err != nil || e.Stream.Category == category
	}
	return false
}
