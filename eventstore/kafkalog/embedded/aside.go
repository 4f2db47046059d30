package embedded

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// OpenAnew is Open, but that a folder whose data cannot be loaded is set aside, under a name beside it that it returns, and the
// broker begins without topics. Nothing of the folder is changed or removed. It is for data that can be published again. What is
// no fault of the data is returned as Open would: a folder in use, a port that is taken, a full disk.
func OpenAnew(dir string, o Options) (b *Broker, aside string, err error) {
	b, err = Open(dir, o)
	var damage *loadError
	if !errors.As(err, &damage) || damage.passes() {
		return b, "", err
	}
	aside = dir + "-damaged-" + time.Now().UTC().Format("20060102T150405.000Z")
	if err := os.Rename(dir, aside); err != nil {
		return nil, "", fmt.Errorf("set aside what cannot be loaded (%w): %w", damage, err)
	}
	if b, err = Open(dir, o); err != nil {
		// A broker without any data does not start either, so that the data are not to blame.
		return nil, "", errors.Join(err, os.RemoveAll(dir), os.Rename(aside, dir))
	}
	return b, aside, nil
}

// loadError is why a broker did not start on its folder.
type loadError struct {
	dir   string
	cause error
}

func (e *loadError) Error() string {
	return fmt.Sprintf("open embedded broker in %s: %v", e.dir, e.cause)
}
func (e *loadError) Unwrap() error { return e.cause }

// passes reports whether the cause lies with the machine rather than with the data.
func (e *loadError) passes() bool {
	for _, number := range []syscall.Errno{
		syscall.ENOSPC, syscall.EDQUOT, syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM,
		syscall.EADDRINUSE, syscall.EADDRNOTAVAIL,
	} {
		if errors.Is(e.cause, number) {
			return true
		}
	}
	return false
}
