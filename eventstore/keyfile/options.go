package keyfile

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tributary-es/tributary/eventstore"
)

// masterFile is where a master key is kept that is not given from elsewhere.
const masterFile = "master.key"

// masterBytes is the size of the master key.
const masterBytes = 32

// Options say where the master key is. The zero value keeps it beside the keys, which protects backups of them and what
// the disk has left of destroyed ones, but not from someone who has the folder.
type Options struct {
	// Master is the master key as 64 hexadecimal digits; it is preferred to MasterFile.
	Master string
	// MasterFile holds the master key in the same form. It must be there.
	MasterFile string
}

// master returns the master key. Where none is named it is in the folder; a fresh folder gets a new one.
func (o Options) master(dir string, fresh bool) (master, []byte, error) {
	text, where := o.Master, "the master key that is given"
	if text == "" {
		path := o.MasterFile
		if path == "" {
			path = filepath.Join(dir, masterFile)
			if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) && fresh {
				if err := newMasterFile(path); err != nil {
					return master{}, nil, err
				}
			}
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return master{}, nil, fmt.Errorf("%w: read master key: %w; it was made with the key file and is in no backup: bring it back to %s, or name it by --master-key-file or TRIBUTARY_MASTER_KEY",
				eventstore.ErrUnavailable, err, path)
		}
		text, where = strings.TrimSpace(string(body)), path
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != masterBytes {
		return master{}, nil, fmt.Errorf("%w: %s is not %d hexadecimal digits", eventstore.ErrInvalid, where, 2*masterBytes)
	}
	m, err := newMaster(key)
	return m, key, err
}

func newMasterFile(path string) error {
	key := make([]byte, masterBytes)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("make master key: %w", err)
	}
	return writeWhole(path, []byte(hex.EncodeToString(key)+"\n"))
}
