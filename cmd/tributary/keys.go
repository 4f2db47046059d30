package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/tributary-es/tributary/node"
)

// keyFlags say where the keys of subjects are.
type keyFlags struct {
	Keys          string `help:"Folder of the keys of personal data; default: keys in the data folder." placeholder:"DIR" type:"path"`
	MasterKeyFile string `help:"File with the master key that wraps them, 64 hexadecimal digits; default: master.key beside them. The environment's TRIBUTARY_MASTER_KEY goes before." placeholder:"FILE" type:"path"`
}

// masterKeyVariable is the environment variable that may hold the master key: a flag would show it to every process.
const masterKeyVariable = "TRIBUTARY_MASTER_KEY"

func (f keyFlags) fill(c *node.Config) {
	c.Keys, c.MasterKeyFile, c.MasterKey = f.Keys, f.MasterKeyFile, os.Getenv(masterKeyVariable)
}

// keysCmd sees to the keys of personal data.
type keysCmd struct {
	Backup  keysBackupCmd  `cmd:"" help:"Back up the keys, for 30 days; a server may be running."`
	Restore keysRestoreCmd `cmd:"" help:"Bring back keys that are missing or damaged; erased subjects stay erased."`
}

type keysBackupCmd struct {
	File string `arg:"" help:"File to write; it must not be there yet." type:"path"`
	Data string `help:"Data folder." default:"./data" type:"path"`
	keyFlags
}

// Run backs up.
func (c *keysBackupCmd) Run(_ context.Context, g *globals) error {
	report, err := node.BackupKeys(c.config(), c.File)
	if err != nil {
		return err
	}
	return g.print(map[string]any{
		"file": c.File, "keys": report.Keys, "tombstones": report.Tombstones, "made": report.Made, "expires": report.Expires,
	}, func() {
		fmt.Fprintf(g.out, "%s: %d keys and %d tombstones; it may be restored until %s. The master key is not in it.\n",
			c.File, report.Keys, report.Tombstones, report.Expires.Format(time.RFC3339))
	})
}

func (c *keysBackupCmd) config() node.Config {
	config := node.Config{Data: c.Data}
	c.fill(&config)
	return config
}

type keysRestoreCmd struct {
	File string `arg:"" help:"File that keys backup wrote." type:"path"`
	Data string `help:"Data folder; its server must be stopped." default:"./data" type:"path"`
	keyFlags
}

// Run restores. Erasures that the log has on record are done again at the next start, before anything is served.
func (c *keysRestoreCmd) Run(_ context.Context, g *globals) error {
	f, err := os.Open(c.File)
	if err != nil {
		return fmt.Errorf("restore keys: %w", err)
	}
	config := node.Config{Data: c.Data}
	c.fill(&config)
	report, err := node.RestoreKeys(config, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("restore %s: %w", c.File, err)
	}
	return g.print(map[string]any{"file": c.File, "keys": report.Keys, "restored": report.Restored, "kept_erased": report.Kept}, func() {
		fmt.Fprintf(g.out, "%d of %d keys were missing or damaged and are back; %d stay destroyed\n", report.Restored, report.Keys, report.Kept)
	})
}
