package node

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/tributary-es/tributary/eventstore"
)

// placeError classes an error of writing to a place that somebody named by what the system said of the place, so that he is told:
// eventstore.ErrInvalid where another place has to be named or this one has to be opened to the server, eventstore.ErrUnavailable
// where the same call may go well later.
func placeError(err error) error {
	if eventstore.ClassOf(err) != eventstore.Broken || errors.Is(err, eventstore.ErrCorrupt) {
		return err // it is said already, or it is of the log and not of the place
	}
	for _, number := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, number) {
			return fmt.Errorf("%w: %w; make room there, or name another place", eventstore.ErrUnavailable, err)
		}
	}
	for _, number := range []syscall.Errno{
		syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.ENOTDIR, syscall.EISDIR, syscall.ENOENT, syscall.EINVAL, syscall.ENAMETOOLONG,
		syscall.ELOOP,
	} {
		if errors.Is(err, number) {
			return fmt.Errorf("%w: %w; name a folder that can be made or written to", eventstore.ErrInvalid, err)
		}
	}
	return err
}
