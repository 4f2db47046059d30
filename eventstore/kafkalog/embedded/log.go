package embedded

import (
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kfake"
)

// logger passes the broker's own log on.
type logger struct{ *slog.Logger }

// Logf implements kfake.Logger. What the broker calls information is of interest only to those who debug it.
func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.Error(fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		l.Warn(fmt.Sprintf(format, args...))
	}
}
