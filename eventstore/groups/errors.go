package groups

import (
	"errors"
	"fmt"

	"github.com/tributary-es/tributary/eventstore"
)

// Errors that callers branch on.
var (
	// ErrExists: there is a group of this name with other settings.
	ErrExists = errors.New("there is a group of this name with other settings")
	// ErrLeaseLost: the delivery is not the member's any more: its lease ended, the member left or was replaced, or the
	// group was reset. The event is handed out again.
	ErrLeaseLost = errors.New("the event was taken back from the member")
	// ErrReplaced: another member has joined under the same name.
	ErrReplaced = errors.New("another member has joined under this name")
	// ErrLeft: the member has left.
	ErrLeft = errors.New("the member has left the group")
)

func notFound(name string) error {
	return fmt.Errorf("group %s: %w", name, eventstore.ErrNotFound)
}
