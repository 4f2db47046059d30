package node

import (
	"fmt"
	"unicode/utf8"

	"github.com/tributary-es/tributary/eventstore"
)

// maxReasonBytes bounds why an operator does what goes on record, or what callers are told.
const maxReasonBytes = 500

// checkReason says what is wrong with an operator's reason; what asks for one that is missing.
func checkReason(reason, what string) error {
	switch {
	case reason == "":
		return fmt.Errorf("%w: %s", eventstore.ErrInvalid, what)
	case len(reason) > maxReasonBytes:
		return fmt.Errorf("%w: reason has %d bytes, the limit is %d", eventstore.ErrInvalid, len(reason), maxReasonBytes)
	case !utf8.ValidString(reason):
		return fmt.Errorf("%w: reason is not valid UTF-8", eventstore.ErrInvalid)
	}
	return nil
}
