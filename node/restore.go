package node

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/kafkalog"
	"github.com/tributary-es/tributary/eventstore/kafkalog/embedded"
	"github.com/tributary-es/tributary/eventstore/keyfile"
	"github.com/tributary-es/tributary/eventstore/pebblestore"
	"github.com/tributary-es/tributary/eventstore/sealed"
)

// RestoreConfig says what to restore a data folder from, and into what.
type RestoreConfig struct {
	// Data is the folder to restore; it must have no store.
	Data string
	// From is the folder of a backup; empty restores from Kafka.
	From string
	// Kafka names brokers, or is "embedded" for the topic that the data folder has itself. With From, the topic is only
	// asked which lives of the log it has seen, and told of the new one; empty leaves it alone.
	Kafka string
	// Site is the log's; required without From, where nothing else tells it.
	Site string
	// At and Until end what is restored from a backup; see pebblestore.RestoreOptions.
	At    eventstore.Position
	Until time.Time
	// Incarnation is the new life's; zero takes the next.
	Incarnation uint32
	Logger      *slog.Logger
	// Progress, when not nil, is called with events of a backup, or records of a topic.
	Progress func(done, total uint64)
}

// RestoreReport says what was restored.
type RestoreReport struct {
	Data string `json:"data"`
	// Log is the log in its new life, Before the life of its last event.
	Log       string     `json:"log"`
	Before    string     `json:"before"`
	Position  string     `json:"position"`
	Events    uint64     `json:"events"`
	Streams   uint64     `json:"streams"`
	Chain     string     `json:"chain"`
	LastEvent *time.Time `json:"last_event,omitempty"`
	// LeftOut are events of the backup beyond the place that was asked for, Torn those of batches that the topic does not
	// have whole.
	LeftOut uint64 `json:"left_out"`
	Torn    uint64 `json:"torn"`
	// Foreign are records of the topic that no mirror wrote, and that were passed over.
	Foreign uint64 `json:"foreign"`
	// KeyFile is the id of the keys that personal data of the log are sealed with, empty when it has none; Keys is the folder
	// in which a server will look for them, and KeysThere whether there are some.
	KeyFile   string `json:"key_file,omitempty"`
	Keys      string `json:"keys,omitempty"`
	KeysThere bool   `json:"keys_there,omitempty"`
}

// Restore makes the store of a data folder from a backup or from the log's topic. No server may run on the folder.
func Restore(ctx context.Context, c RestoreConfig) (report RestoreReport, err error) {
	if err := c.validate(); err != nil {
		return report, err
	}
	if err := makeDataFolder(c.Data); err != nil {
		return report, err
	}
	o := pebblestore.RestoreOptions{
		Store: &pebblestore.Options{Site: c.Site, Logger: c.Logger}, At: c.At, Until: c.Until, Incarnation: c.Incarnation, Progress: c.Progress,
	}
	store := filepath.Join(c.Data, storeFolder)
	var restored pebblestore.Restored
	var topic *kafkalog.Recovery
	if c.Kafka != "" {
		var leave func() error
		if topic, leave, err = c.topic(ctx); err != nil {
			return report, err
		}
		defer func() { err = errors.Join(err, leave()) }()
		if topic != nil {
			o.Claim = topic.Claim
		}
	}
	if c.From != "" {
		restored, err = pebblestore.Restore(ctx, c.From, store, o)
	} else {
		restored, err = pebblestore.RestoreEvents(ctx, topic.Batches(ctx, c.Progress), store, o)
	}
	if err != nil {
		return report, err
	}
	if err := rememberSite(c.Data, restored.Log.Site); err != nil {
		return report, err
	}
	report = RestoreReport{
		Data: c.Data, Log: restored.Log.String(), Before: restored.Before.String(), Position: restored.Position.String(),
		Events: restored.Position.LSN, Streams: restored.Streams, Chain: hex.EncodeToString(restored.Chain[:]), LeftOut: restored.Dropped,
	}
	if report.Events > 0 {
		report.LastEvent = &restored.LastEvent
	}
	if c.From == "" {
		report.Torn, report.Foreign = topic.Torn, topic.Foreign
	}
	err = c.findKeys(ctx, o.Store, &report)
	return report, err
}

// findKeys says of a restored log which keys it needs.
func (c *RestoreConfig) findKeys(ctx context.Context, o *pebblestore.Options, report *RestoreReport) (err error) {
	s, err := pebblestore.Open(filepath.Join(c.Data, storeFolder), o)
	if err != nil {
		return fmt.Errorf("open the restored log: %w", err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if report.KeyFile, err = sealed.KeysOf(ctx, s); err != nil || report.KeyFile == "" {
		return err
	}
	report.Keys = (&Config{Data: c.Data}).keysDir()
	report.KeysThere = keyfile.Exists(report.Keys)
	return nil
}

// rememberSite keeps the site of a restored log for the next time, where the folder has no configuration yet.
func rememberSite(data, site string) error {
	if _, err := os.Stat(filepath.Join(data, configFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c := Config{Data: data, Site: site}
	return c.save()
}

func (c *RestoreConfig) validate() error {
	if c.Data == "" {
		return fmt.Errorf("%w: no data folder is named (--data DIR)", eventstore.ErrInvalid)
	}
	if err := refuseBackup(c.Data); err != nil {
		return err
	}
	if c.From == "" && c.Kafka == "" {
		return fmt.Errorf("%w: name a backup (--from DIR) or brokers (--from-kafka HOST:PORT)", eventstore.ErrInvalid)
	}
	if c.From == "" && (c.At != (eventstore.Position{}) || !c.Until.IsZero()) {
		return fmt.Errorf("%w: a topic is restored whole: what it holds beyond the place would stand there against the log; restore to a place from a backup", eventstore.ErrInvalid)
	}
	last, err := lastConfig(c.Data)
	if err != nil {
		return err
	}
	if c.From != "" {
		b, err := pebblestore.ReadBackup(nil, c.From)
		if err != nil {
			return err
		}
		last.Site = cmp.Or(last.Site, b.Log.Site)
	}
	c.Site = cmp.Or(c.Site, last.Site, "local")
	if last.Site != "" && c.Site != last.Site {
		return fmt.Errorf("%w: the log is of site %q, not of %q (--site)", eventstore.ErrInvalid, last.Site, c.Site)
	}
	return eventstore.ValidateSite(c.Site)
}

// topic takes over the log's topic. It is nil for a backup's restore when there is none that could tell of anything.
func (c *RestoreConfig) topic(ctx context.Context) (topic *kafkalog.Recovery, leave func() error, err error) {
	leave = func() error { return nil }
	o := kafkalog.Options{Logger: c.Logger, Topic: kafkalog.TopicOf(c.Site)}
	if c.Kafka == Embedded {
		broker, err := embedded.Open(filepath.Join(c.Data, "kafka"), embedded.Options{Logger: c.Logger})
		if err != nil {
			return nil, nil, fmt.Errorf("start embedded kafka: %w", err)
		}
		o.Brokers, leave = []string{broker.Addr()}, broker.Close
	} else {
		if o.Brokers, err = brokers(c.Kafka); err != nil {
			return nil, nil, fmt.Errorf("%w: brokers %s: %w; use embedded, or HOST:PORT, separated by commas", eventstore.ErrInvalid, c.Kafka, err)
		}
	}
	topic, err = kafkalog.Recover(ctx, eventstore.LogID{Site: c.Site}, o)
	if c.From != "" && errors.Is(err, eventstore.ErrNotFound) {
		return nil, leave, nil
	}
	if err != nil {
		return nil, nil, errors.Join(err, leave())
	}
	return topic, leave, nil
}

// TailReport says what RestoreTail brought back.
type TailReport struct {
	Data string `json:"data"`
	Log  string `json:"log"`
	From string `json:"from"`
	To   string `json:"to"`
	// Events came back; Missing are lost still, so that the store takes no commands.
	Events  uint64 `json:"events"`
	Missing uint64 `json:"missing"`
}

// RestoreTail brings back what the log of a stopped data folder has lost at its end, from its topic. The life of the log
// goes on.
func RestoreTail(ctx context.Context, c RestoreConfig) (report TailReport, err error) {
	last, err := lastConfig(c.Data)
	if err != nil {
		return report, err
	}
	c.Site = cmp.Or(c.Site, last.Site, "local")
	if !HasData(c.Data) {
		return report, fmt.Errorf("%w: there is no log in %s; restore all of it: tributary restore --from-kafka", eventstore.ErrInvalid, c.Data)
	}
	topic, leave, err := c.topic(ctx)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, leave()) }()
	r, err := pebblestore.RecoverTail(ctx, topic.Batches(ctx, c.Progress), filepath.Join(c.Data, storeFolder), &pebblestore.Options{Site: c.Site, Logger: c.Logger})
	if err != nil {
		return report, err
	}
	return TailReport{
		Data: c.Data, Log: r.Log.String(), From: r.From.String(), To: r.To.String(), Events: r.To.LSN - r.From.LSN, Missing: r.Missing,
	}, nil
}
