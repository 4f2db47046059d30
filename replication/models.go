package replication

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tributary-es/tributary/eventstore"
)

// ModelDigest is of a part of a read model, without what is each site's own in it.
type ModelDigest struct {
	Model, Part string
	Digest      string
	Count       uint64 // of what it is made of
	// Err says why there is none of the model, which then has no parts; empty when there is.
	Err string
}

// ModelDigests are of all read models of a site, each made of exactly the events of these heads.
type ModelDigests struct {
	At     []eventstore.LogHead
	Models []ModelDigest
}

// of reports whether the digests are of the events of these heads.
func (d *ModelDigests) of(heads []eventstore.LogHead) bool { return SameEvents(d.At, heads) }

// SameEvents reports whether two sites hold the same events, by how far each holds each log.
func SameEvents(a, b []eventstore.LogHead) bool {
	held := func(heads []eventstore.LogHead) map[eventstore.LogID]uint64 {
		out := map[eventstore.LogID]uint64{}
		for _, h := range heads {
			if h.Seq > 0 {
				out[h.Log] = h.Seq
			}
		}
		return out
	}
	x, y := held(a), held(b)
	for log, seq := range x {
		if y[log] != seq {
			return false
		}
	}
	return len(x) == len(y)
}

// ModelDigester tells digests of a site's read models. A Peer may be one.
type ModelDigester interface {
	// ModelDigests returns digests of the read models when they are made of the events of these heads; if that does not come in a
	// moment, of the events that the site has then. No heads: of whatever it has.
	ModelDigests(ctx context.Context, at []eventstore.LogHead) (ModelDigests, error)
}

// ModelComparison holds a part of a read model here against the same at another site.
type ModelComparison struct {
	Site, Model, Part string
	Here, There       string // digests
	// Problem says what is wrong, Away why they could not be compared: both are empty where the two are the same.
	Problem, Away string
}

// modelPatience bounds how long two sites may take to have the same events in their read models.
const modelPatience = 10 * time.Second

// CompareModels compares the read models of this site with those of each other one, at a moment at which both have the same events.
func (s *Site) CompareModels(ctx context.Context, own ModelDigester) ([]ModelComparison, error) {
	o, err := s.Overview(ctx)
	if err != nil {
		return nil, err
	}
	var out []ModelComparison
	for _, p := range o.Peers {
		_, peer := s.other(p.Site)
		there, tells := peer.(ModelDigester)
		if !p.Up || !tells {
			out = append(out, ModelComparison{Site: p.Site, Away: "site " + p.Site + " is not heard: its read models can be compared when it is back"})
			continue
		}
		waiting, cancel := context.WithTimeout(ctx, modelPatience)
		ours, theirs, err := atOneMoment(waiting, own, there)
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			out = append(out, ModelComparison{Site: p.Site, Away: fmt.Sprintf("the read models cannot be compared with those of site %s: %v", p.Site, err)})
			continue
		}
		out = append(out, compareModels(p.Site, ours.Models, theirs.Models)...)
	}
	return out, nil
}

// atOneMoment returns digests of two sites that are of the same events.
func atOneMoment(ctx context.Context, own, there ModelDigester) (ours, theirs ModelDigests, err error) {
	for {
		if ours, err = own.ModelDigests(ctx, theirs.At); err == nil && !ours.of(theirs.At) {
			theirs, err = there.ModelDigests(ctx, ours.At)
		}
		switch {
		case err == nil && ours.of(theirs.At):
			return ours, theirs, nil
		case ctx.Err() != nil:
			return ours, theirs, fmt.Errorf("within %s the two have not had the same events in them; try again when less is written", modelPatience)
		case err != nil:
			return ours, theirs, err
		}
	}
}

// compareModels compares the parts of the models of two sites.
func compareModels(site string, ours, theirs []ModelDigest) (out []ModelComparison) {
	type part struct{ model, part string }
	here, there := map[part]ModelDigest{}, map[part]ModelDigest{}
	var parts []part
	for _, d := range append(slices.Clone(ours), theirs...) {
		if p := (part{d.Model, d.Part}); !slices.Contains(parts, p) {
			parts = append(parts, p)
		}
	}
	for _, d := range ours {
		here[part{d.Model, d.Part}] = d
	}
	for _, d := range theirs {
		there[part{d.Model, d.Part}] = d
	}
	for _, p := range parts {
		a, b := here[p], there[p]
		c := ModelComparison{Site: site, Model: p.model, Part: p.part, Here: a.Digest, There: b.Digest}
		switch away := cmp.Or(unread(p.model, "here", ours), unread(p.model, "at site "+site, theirs)); {
		case away != "":
			c.Away = away
		case a.Digest != b.Digest:
			c.Problem = fmt.Sprintf("it is made of the same events and is another one, of %d here and of %d there: tributary verify at both says which is wrong, "+
				"tributary rebuild %s makes it anew", a.Count, b.Count, p.model)
		}
		out = append(out, c)
	}
	return out
}

// unread says why a model of a site cannot be compared; empty when it can.
func unread(model, where string, digests []ModelDigest) string {
	i := slices.IndexFunc(digests, func(d ModelDigest) bool { return d.Model == model })
	switch {
	case i < 0:
		return "there is no such model " + where
	case digests[i].Err != "":
		return "it cannot be read " + where + ": " + digests[i].Err
	}
	return ""
}
