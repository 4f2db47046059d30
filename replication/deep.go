package replication

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Digests of what stands in a log, by which sites compare what they hold without sending it.
const (
	// SegmentEvents is how many events have a digest in common at first, FineEvents where those differ.
	SegmentEvents = 4096
	FineEvents    = 64
	// MaxDigests is how many digests are asked for at a time.
	MaxDigests = 64
)

// Digest is of a run of events of one log, after After up to Through.
type Digest struct {
	After, Through uint64
	// Sum is a hash of the events as they stand in the store; Err, when set, says what is wrong with them.
	Sum [16]byte
	Err string
	// Dropped says that the contents of some were dropped by a policy: there is nothing to compare.
	Dropped bool
}

// Digester tells digests of what a site holds. A *Site is one, and so may a Peer be.
type Digester interface {
	// Digests reads the events of a log after After up to Through from the store, and returns a digest of each every of them, at
	// most MaxDigests of SegmentEvents. What is not held, or may not leave the site, has none.
	Digests(ctx context.Context, log eventstore.LogID, after, through, every uint64) ([]Digest, error)
}

// Digests implements Digester.
func (s *Site) Digests(ctx context.Context, log eventstore.LogID, after, through, every uint64) ([]Digest, error) {
	if every == 0 || every > SegmentEvents || through <= after || (through-after-1)/every >= MaxDigests {
		return nil, fmt.Errorf("%w: digests of each %d events after seq %d up to %d; %d of %d can be had at a time", eventstore.ErrInvalid, every, after, through, MaxDigests, SegmentEvents)
	}
	select {
	case <-s.begun:
	default:
		return nil, ErrStopped
	}
	heads, err := s.o.Store.Heads(ctx)
	if err != nil {
		return nil, fmt.Errorf("digests of %s: %w", log, err)
	}
	held := uint64(0)
	for _, h := range heads {
		if h.Log == log {
			held = h.Seq
		}
	}
	var out []Digest
	for through = min(through, held, s.mayLeave(log)); after < through; after = min(after+every, through) {
		d, err := s.digest(ctx, log, after, min(after+every, through))
		if err != nil {
			return nil, fmt.Errorf("digests of %s: %w", log, err)
		}
		out = append(out, d)
	}
	return out, nil
}

// digest reads some events of a log: what is damaged, or is missing, is of this span alone. The error is for what keeps it from reading
// and is no damage.
func (s *Site) digest(ctx context.Context, log eventstore.LogID, after, through uint64) (Digest, error) {
	span, h, next := Digest{After: after, Through: through}, sha256.New(), after+1
	var frame, content []byte
	for e, err := range s.o.Store.ReadLog(ctx, log, after) {
		switch {
		case errors.Is(err, eventstore.ErrTruncated):
			span.Dropped = true
			return span, nil
		case errors.Is(err, eventstore.ErrCorrupt):
			span.Err = fmt.Sprintf("seq %d cannot be read: %v", next, err)
			return span, nil
		case err != nil:
			return span, err
		}
		if e.Dot.Seq != next {
			break
		}
		content = eventstore.AppendContent(content[:0], &e)
		frame = eventstore.AppendFrame(frame[:0], &e, content)
		h.Write(frame)
		if next++; next > through {
			break
		}
	}
	if next <= through {
		span.Err = fmt.Sprintf("seq %d is missing", next)
		return span, nil
	}
	copy(span.Sum[:], h.Sum(nil))
	return span, nil
}

// Deviation is a run of events of a log in which this site and another one differ.
type Deviation struct {
	After, Through uint64
	// Here and There say what is wrong at each; both are empty where both can be read and are not the same.
	Here, There string
}

// String says what is wrong, and at which of the two.
func (d *Deviation) String() string {
	switch {
	case d.Here != "" && d.There != "":
		return "damaged at both: here " + d.Here + ", there " + d.There
	case d.Here != "":
		return "damaged here: " + d.Here
	case d.There != "":
		return "damaged there: " + d.There
	}
	return "the two have other events"
}

// digester returns another site that tells digests.
func (s *Site) digester(site string) (Digester, error) {
	_, peer := s.other(site)
	there, ok := peer.(Digester)
	if !ok {
		return nil, fmt.Errorf("site %s: %w: it is none that can be asked for digests", site, eventstore.ErrNotFound)
	}
	return there, nil
}

// compareDeep compares a log, after a seq, with another site by what stands in both stores: so many segments, MaxDigests at most. It
// returns up to where it has come, which is after where there is nothing more that both hold, and where they differ, to FineEvents.
// What is sent is a digest for each segment, and one for each FineEvents of those that differ.
func (s *Site) compareDeep(ctx context.Context, there Digester, log eventstore.LogID, after, segments uint64) (through uint64, out []Deviation, err error) {
	through, coarse, err := s.compareDigests(ctx, there, log, after, after+segments*SegmentEvents, SegmentEvents)
	if err != nil {
		return after, nil, err
	}
	for _, d := range coarse {
		_, fine, err := s.compareDigests(ctx, there, log, d.After, d.Through, FineEvents)
		if err != nil {
			return after, nil, err
		}
		if len(fine) == 0 { // it has been mended meanwhile, or reads otherwise each time
			fine = []Deviation{d}
		}
		out = append(out, runs(fine)...)
	}
	return through, out, nil
}

// runs makes one of deviations that follow each other and are of a kind, such as those of a damaged table, with what is said of the first.
func runs(fine []Deviation) (out []Deviation) {
	for _, d := range fine {
		if n := len(out); n > 0 && out[n-1].Through == d.After && (out[n-1].Here == "") == (d.Here == "") && (out[n-1].There == "") == (d.There == "") {
			out[n-1].Through = d.Through
			continue
		}
		out = append(out, d)
	}
	return out
}

var errHoldsLess = errors.New("the site holds less than it has said")

// compareDigests compares some spans, as far as both have them; those of which something was dropped are passed over.
func (s *Site) compareDigests(ctx context.Context, there Digester, log eventstore.LogID, after, through, every uint64) (uint64, []Deviation, error) {
	theirs, err := there.Digests(ctx, log, after, through, every)
	if err != nil || len(theirs) == 0 {
		return after, nil, err
	}
	ours, err := s.Digests(ctx, log, after, theirs[len(theirs)-1].Through, every)
	if err != nil || len(ours) == 0 {
		return after, nil, err
	}
	if last := ours[len(ours)-1]; last.Through != theirs[len(ours)-1].Through { // this site has less of the last one
		again, err := there.Digests(ctx, log, last.After, last.Through, every)
		if err != nil {
			return after, nil, err
		}
		if len(again) != 1 {
			return after, nil, errHoldsLess
		}
		theirs[len(ours)-1] = again[0]
	}
	var out []Deviation
	for i := range ours {
		if ours[i] != theirs[i] && !ours[i].Dropped && !theirs[i].Dropped {
			out = append(out, Deviation{ours[i].After, ours[i].Through, ours[i].Err, theirs[i].Err})
		}
	}
	return ours[len(ours)-1].Through, out, nil
}
