package keyfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/tributary-es/tributary/eventstore"
)

// FuzzKeyFile feeds headers, slots and backups whose checksums are right, so that the fuzzer gets past them.
func FuzzKeyFile(f *testing.F) {
	key := bytes.Repeat([]byte{7}, 32)
	m, err := newMaster(key)
	if err != nil {
		f.Fatal(err)
	}
	header, err := newHeader(uuid.UUID{1}, m)
	if err != nil {
		f.Fatal(err)
	}
	s := slot{state: live, whenMs: 1, subject: digest{2}}
	one := appendSlot(nil, 1, &s)
	backup := append([]byte(backupMagic), make([]byte, backupHeader-len(backupMagic))...)
	binary.BigEndian.PutUint32(backup[32:], 1)
	f.Add(header)
	f.Add(one)
	f.Add(append(backup, one...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if summed := append(slices.Clone(b), backupSum(key, b)...); len(b) >= backupHeader {
			read, err := readBackup(summed, key)
			if err != nil && !errors.Is(err, eventstore.ErrInvalid) {
				t.Fatalf("read backup: %v, want %v", err, eventstore.ErrInvalid)
			}
			if len(read.slots)*slotBytes > len(b) {
				t.Fatalf("%d slots in %d bytes", len(read.slots), len(b))
			}
		}
		if len(b) < slotBytes {
			b = append(slices.Clone(b), make([]byte, slotBytes-len(b))...)
		}
		b = slices.Clone(b[:slotBytes])
		binary.BigEndian.PutUint32(b[atSum:], crc32.Checksum(b[:atSum], castagnoli))
		if _, err := readHeader(b, m); err != nil && !errors.Is(err, eventstore.ErrCorrupt) && !errors.Is(err, eventstore.ErrUnavailable) {
			t.Fatalf("read header: %v", err)
		}
		number := binary.BigEndian.Uint32(b[atNumber:])
		if s := readSlot(b, number); s.state != damaged {
			again := appendSlot(nil, number, &s)
			if back := readSlot(again, number); back != s {
				t.Fatalf("a slot is read as %+v and then as %+v", s, back)
			}
			_, _ = m.unwrap(number, &s) // an error or a key, no panic
		}
	})
}
