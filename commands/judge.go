package commands

import (
	"context"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Judgement is what the resolver of an aggregate makes of a stream. It is a pure function of the stream's events: every site
// that holds the same ones comes to the same.
type Judgement struct {
	// Void are the events that do not count, in canonical order.
	Void []Void
	// Outcomes has an entry for each conflict, in canonical order.
	Outcomes []Outcome
	// Open are the last events of the branches that a person has to choose from, the one that counts meanwhile first; nil
	// when there is nothing to choose.
	Open []eventstore.Dot
}

// Void is an event that stays in its stream and does not count.
type Void struct {
	Event  eventstore.Dot
	Reason string
}

// Outcome is what came of a conflict: of an event that was decided without the knowledge of others that stand before it in
// its stream.
type Outcome struct {
	Event    eventstore.Dot
	Resolver ResolverKind
	Verdict  Verdict
	// Void are the events that do not count because of it: the event itself, or those that it has won over.
	Void []Void
	// Overwritten are the fields that it has set over what others had set unseen.
	Overwritten []Overwritten
	// Reason says what a person should look at, where that is so.
	Reason string

	// Base is what both sides knew, Branches is what each side had: first the event's own with it, then that of each log it did
	// not know all of, with the last such event. Result is what counts, up to the event.
	Base     Digest
	Branches []Side
	Result   Digest
}

// Side is one side of a conflict.
type Side struct {
	Log    eventstore.LogID
	Digest Digest
}

// Overwritten is a field as an event had set it.
type Overwritten struct {
	Event eventstore.Dot
	Field string
}

// Verdict says how a conflict was resolved.
type Verdict string

// The verdicts.
const (
	Merged      Verdict = "merged"       // all count
	Winner      Verdict = "winner"       // the event counts, in whole or in part in place of others
	Voided      Verdict = "voided"       // the event does not count
	NeedsReview Verdict = "needs_review" // a person has to look at it
)

// Judge says what becomes of the events of a stream: all of them, in canonical order. A category of no registered aggregate
// is judged by Home, and its events are not decoded.
func (b *Bus) Judge(category string, events []eventstore.Recorded) (Judgement, error) {
	if a := b.categories[category]; a != nil {
		return a.judge(events)
	}
	return judged(ByHome, events, nil)
}

// Void says which events of a stream do not count, and why: its events that are void, by their dots, as Judge has it. It reads
// the stream, unless its resolver has all events count. Streams of Tributary's own have rules of their own.
func (b *Bus) Void(ctx context.Context, stream eventstore.StreamID) (map[eventstore.Dot]string, error) {
	if a := b.categories[stream.Category]; a != nil && (a.resolver() == ByCRDT || a.resolver() == ByLastWriter || a.resolver() == ByEscrow) ||
		eventstore.IsSystemCategory(stream.Category) {
		return nil, nil
	}
	var events []eventstore.Recorded
	for r, err := range b.store.Read(ctx, stream, 1) {
		if err != nil {
			return nil, fmt.Errorf("read stream %s: %w", stream, err)
		}
		events = append(events, r)
	}
	j, err := b.Judge(stream.Category, events)
	if err != nil {
		return nil, err
	}
	void := make(map[eventstore.Dot]string, len(j.Void))
	for _, v := range j.Void {
		void[v.Event] = v.Reason
	}
	return void, nil
}

// Resolvers names the resolver of each category: sites that do not agree on them would come to different states.
func (b *Bus) Resolvers() map[string]ResolverKind {
	out := make(map[string]ResolverKind, len(b.categories))
	for category, a := range b.categories {
		out[category] = a.resolver()
	}
	return out
}

// AtEverySite says of the categories whose streams are written at every site, and cannot be homed, why that is so.
func (b *Bus) AtEverySite() map[string]string {
	out := map[string]string{}
	for category, a := range b.categories {
		if why := a.atEverySite(); why != "" {
			out[category] = why
		}
	}
	return out
}

// Fold folds all events of a stream, in canonical order, and returns the state together with the judgement on them.
func Fold[S, C, E any](a Aggregate[S, C, E], events []eventstore.Recorded) (S, Judgement, error) {
	i := newInstance(&a)
	j, err := i.judge(events)
	return i.state, j, err
}

func (t *typed[S, C, E]) judging() func(*eventstore.Recorded, *Outcome) (string, error) {
	return newInstance(&t.Aggregate).judging()
}

func (t *typed[S, C, E]) judge(events []eventstore.Recorded) (Judgement, error) {
	return newInstance(&t.Aggregate).judge(events)
}

// judge folds all events of a stream. REQUIRES: nothing is folded.
func (i *typedInstance[S, C, E]) judge(events []eventstore.Recorded) (Judgement, error) {
	return judged(i.rules.kind, events, i.judging())
}

// judging returns what folds events that are judged, as judge.fold has it.
func (i *typedInstance[S, C, E]) judging() func(*eventstore.Recorded, *Outcome) (void string, err error) {
	writers := map[string]eventstore.Dot{} // of each field, the last event that set it
	return func(r *eventstore.Recorded, o *Outcome) (void string, err error) {
		if !settles(&r.Event) && (i.rules.fields != nil || i.rules.review != nil && o != nil) {
			e, err := i.aggregate.Codec.Decode(r)
			if err != nil {
				return "", err
			}
			if i.rules.fields != nil {
				overwrite(writers, r, i.rules.fields(e), o)
			} else {
				i.stand(r.Dot.Log.Site)
				o.review(i.rules.review(i.state, e))
			}
		}
		return i.fold(r, o == nil || i.rules.kind.Branchwise())
	}
}

// overwrite notes that an event sets fields, and in its outcome, if it has one, whose it sets without having known of them.
func overwrite(writers map[string]eventstore.Dot, r *eventstore.Recorded, fields []string, o *Outcome) {
	for _, field := range fields {
		if before, ok := writers[field]; ok && o != nil && !r.Knew(&eventstore.Recorded{Dot: before}) {
			o.Overwritten = append(o.Overwritten, Overwritten{before, field})
			o.Verdict = Winner
		}
		writers[field] = r.Dot
	}
}

func (o *Outcome) review(reason string) {
	if reason != "" {
		o.Verdict, o.Reason = NeedsReview, reason
	}
}

// Judging judges a stream event by event, where what becomes of an event is settled by it and those before it in canonical order.
// It is for those who judge streams again and again as they grow. It is used by one goroutine.
type Judging struct {
	aggregate aggregate
	judge     *judge
	digests   map[eventstore.Dot]Digest
}

// Judging begins to judge a stream of a category; nil where one branch of a stream counts, for there any event may change what
// becomes of all others.
func (b *Bus) Judging(category string) *Judging {
	a := b.categories[category]
	if a == nil || a.resolver().Branchwise() {
		return nil
	}
	j := &Judging{aggregate: a, digests: map[eventstore.Dot]Digest{}}
	j.Restart()
	return j
}

// Restart begins anew with the first event of the stream, because one has come before others that were judged.
func (j *Judging) Restart() {
	j.judge = &judge{kind: j.aggregate.resolver(), fold: j.aggregate.judging(), digests: j.digests}
}

// Next judges the event that comes next in canonical order, and returns what came of its conflict, as Judge would have it in
// Judgement.Outcomes; nil when it has none. After an error, or a panic of the aggregate's, it is of no use.
func (j *Judging) Next(r *eventstore.Recorded) (*Outcome, error) {
	o, _, err := j.judge.next(r, true)
	return o, err
}

// Skip is Next for those who have the outcome already.
func (j *Judging) Skip(r *eventstore.Recorded) error {
	_, _, err := j.judge.next(r, false)
	return err
}

// judge goes through a stream.
type judge struct {
	kind ResolverKind
	// fold, unless it is nil, folds an event that the branches leave standing, and says why it is void after all; the outcome is that
	// of its conflict, nil when it has none.
	fold func(*eventstore.Recorded, *Outcome) (void string, err error)
	// events are all of them, and branches what counts of them, where one branch does; else both are empty.
	events   []eventstore.Recorded
	branches branch

	// done is how many events were judged: known has them, and folded covers them.
	done   int
	known  knowledge
	folded eventstore.Vector
	// digests, unless it is nil, has those of events that were judged, here or before.
	digests map[eventstore.Dot]Digest
}

// judged judges all events of a stream.
func judged(kind ResolverKind, events []eventstore.Recorded, fold func(*eventstore.Recorded, *Outcome) (string, error)) (Judgement, error) {
	var out Judgement
	j := &judge{kind: kind, fold: fold}
	if kind.Branchwise() {
		j.events, j.branches = events, branchOf(kind, events)
		out.Open = j.branches.open
	}
	for n := range events {
		o, void, err := j.next(&events[n], true)
		if err != nil {
			return Judgement{}, err
		}
		if void != "" {
			out.Void = append(out.Void, Void{events[n].Dot, void})
		}
		if o != nil {
			out.Outcomes = append(out.Outcomes, *o)
		}
	}
	return out, nil
}

// digest returns the digest of an event.
func (j *judge) digest(dot eventstore.Dot) Digest {
	if j.digests == nil {
		return digestOf(dot)
	}
	d, ok := j.digests[dot]
	if !ok {
		d = digestOf(dot)
		j.digests[dot] = d
	}
	return d
}

// next judges one more event. The outcome says what both sides had where described asks for it.
func (j *judge) next(r *eventstore.Recorded, described bool) (o *Outcome, void string, err error) {
	n, digest := j.done, j.digest(r.Dot)
	if !knowsAll(r, j.folded, uint64(n)) {
		o = &Outcome{Event: r.Dot, Resolver: j.kind, Verdict: Merged}
		if described {
			j.known.describe(o, r, digest)
		}
	}
	if j.branches.void != nil {
		void = j.branches.void[n]
	}
	if void == "" && j.fold != nil {
		if void, err = j.fold(r, o); err != nil {
			return nil, "", &AggregateError{Stream: r.Stream, Version: uint64(n) + 1, Err: err}
		}
	}
	j.known.add(r, digest, void == "")
	if o != nil {
		j.conclude(o, r, n, void)
		o.Result = j.known.counted
	}
	j.folded = cover(j.folded, r.Dot)
	j.done++
	return o, void, nil
}

// conclude gives a conflict its verdict.
func (j *judge) conclude(o *Outcome, r *eventstore.Recorded, n int, void string) {
	if void != "" {
		o.Verdict, o.Void = Voided, []Void{{r.Dot, void}}
	}
	if !j.kind.Branchwise() {
		return
	}
	branches := &j.branches
	open := branches.unsettled(n)
	for m := range n {
		if e := &j.events[m]; branches.void[m] != "" && !r.Knew(e) {
			open = open || branches.unsettled(m)
			if void == "" {
				o.Verdict = Winner
				o.Void = append(o.Void, Void{e.Dot, branches.void[m]})
			}
		}
	}
	if open {
		o.Verdict, o.Reason = NeedsReview, fmt.Sprintf("one of %d branches has to be picked", len(branches.open))
	}
}
