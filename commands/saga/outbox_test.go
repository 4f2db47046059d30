package saga

import (
	"testing"
	"time"
)

// The messages of an instance that had ended and was opened again are listed once, as they are now; so are those of one that has ended
// twice.
func TestOutboxListsAMessageOnce(t *testing.T) {
	at := time.UnixMilli(1)
	message := func(id string, status Status, at time.Time) *Message {
		return &Message{ID: id, Tenant: "t", Status: status, At: at}
	}
	r := &Runner{instances: map[instanceKey]*instance{{"t", "open"}: {messages: []*Message{message("b", StatusPending, at)}}}}
	r.recent = []*Message{message("a", StatusPending, at), message("b", StatusSent, at), message("a", StatusSent, at)}
	for status, want := range map[Status]string{"": "a sent b pending ", StatusSent: "a sent ", StatusPending: "b pending "} {
		got := ""
		for _, m := range r.messages(status) {
			got += m.ID + " " + string(m.Status) + " "
		}
		if got != want {
			t.Errorf("of status %q: %s, want %s", status, got, want)
		}
	}
}
