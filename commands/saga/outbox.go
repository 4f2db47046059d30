package saga

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"
)

// Status says how far a message of the outbox is.
type Status string

// The statuses of messages.
const (
	StatusPending Status = "pending" // to be sent, or sent again
	StatusSent    Status = "sent"    // in the log
	StatusFailed  Status = "failed"  // refused, or its instance is parked because of it
)

// Message is a send as the outbox shows it.
type Message struct {
	// ID is the idempotency key of the commands.
	ID       string
	Tenant   string
	Saga     string
	Instance string
	Key      string
	Topic    string
	// Note is the message's payload: enough to compensate. It is shared and must not be changed.
	Note         map[string]string
	Compensation bool
	Status       Status
	// RetryCount is how often sending it was tried again in this process; LastError is what the last try met.
	RetryCount int
	LastError  string
	// At is when it was decided to send it.
	At time.Time
}

func newMessage(saga string, of *instance, s Send, at time.Time) *Message {
	return &Message{
		ID: CommandID(of.category, of.id, s.Key), Tenant: of.tenant, Saga: saga, Instance: of.id, Key: s.Key,
		Topic: s.Topic, Note: s.Note, Compensation: s.Compensation, Status: StatusPending, At: at,
	}
}

// Outbox yields the messages of open instances and of those that ended lately (Options.Recent messages), oldest first; an
// empty status means all. It is a snapshot of the moment at which it is ranged over. It ends early, with ctx's error, when
// ctx does.
func (r *Runner) Outbox(ctx context.Context, status Status) iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		for _, m := range r.messages(status) {
			if err := ctx.Err(); err != nil {
				yield(Message{}, err)
				return
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

func (r *Runner) messages(status Status) []Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Message
	// An instance that had ended, and was opened again, has its messages in both: as it has them now counts.
	seen := map[[2]string]bool{}
	add := func(messages []*Message) {
		for _, m := range slices.Backward(messages) {
			if id := [2]string{m.Tenant, m.ID}; !seen[id] {
				seen[id] = true
				if status == "" || m.Status == status {
					out = append(out, *m)
				}
			}
		}
	}
	for _, i := range r.instances {
		add(i.messages)
	}
	add(r.recent)
	slices.SortStableFunc(out, func(a, b Message) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// remember keeps the messages of an instance that has ended. REQUIRES: mu is held.
func (r *Runner) remember(messages []*Message) {
	r.recent = append(r.recent, messages...)
	// Cut at twice the bound, so that it is not copied for every instance.
	if bound := r.options.Recent; len(r.recent) > 2*bound {
		r.recent = slices.Clone(r.recent[len(r.recent)-bound:])
	}
}
