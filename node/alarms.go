package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/tributary-es/tributary/internal/wholefile"
	"github.com/tributary-es/tributary/replication"
)

// alarmsFile keeps, in the data folder, the last alarms about the sites.
const alarmsFile = "alarms.json"

// lastAlarms returns the alarms that were kept. A file that cannot be read is no reason not to start: it is said, and written anew with
// the next alarm.
func lastAlarms(path string, log *slog.Logger) (all []replication.Alarm) {
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(body, &all)
	}
	if err != nil {
		log.Warn("the alarms of before are not known", slog.String("file", path), slog.Any("error", err))
		return nil
	}
	return all
}

func keepAlarms(path string, all []replication.Alarm) error {
	body, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("encode alarms: %w", err)
	}
	return wholefile.Write(path, append(body, '\n'))
}
