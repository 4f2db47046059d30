package keyfile

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/sealed"
)

// slotBytes is the size of the header and of each slot: several to a sector of the disk, none over two.
const slotBytes = 128

// What a slot holds. It is written as one byte.
type state byte

const (
	live      state = 1
	destroyed state = 2
	damaged   state = 0xff // does not verify; written only to keep the place of one
)

// The places in a slot; what lies between wrappedEnd and the checksum is zero.
const (
	atNumber  = 4
	atWhen    = 8
	atSubject = 16
	atNonce   = 48
	atWrapped = 60
	wrapped   = 32 + 16
	atSum     = slotBytes - 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// digest stands for a subject, whose reference has no fixed size.
type digest [sha256.Size]byte

func digestOf(s sealed.Subject) digest {
	return sha256.Sum256([]byte(s.Tenant + "\x00" + s.ID))
}

// slot is a slot as it was read or is to be written.
type slot struct {
	state   state
	subject digest
	// whenMs is when the key was made or destroyed, in milliseconds since 1970 UTC.
	whenMs int64
	// nonce and key are the wrapped key; zero in a tombstone.
	nonce [atWrapped - atNonce]byte
	key   [wrapped]byte
}

// appendSlot appends the slot of a number.
func appendSlot(dst []byte, number uint32, s *slot) []byte {
	start := len(dst)
	dst = append(dst, byte(s.state), 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, number)
	dst = binary.BigEndian.AppendUint64(dst, uint64(s.whenMs))
	dst = append(dst, s.subject[:]...)
	dst = append(dst, s.nonce[:]...)
	dst = append(dst, s.key[:]...)
	dst = append(dst, make([]byte, start+atSum-len(dst))...)
	return binary.BigEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// readSlot reads the slot of a number. What does not verify is damaged.
func readSlot(b []byte, number uint32) slot {
	if len(b) < slotBytes || crc32.Checksum(b[:atSum], castagnoli) != binary.BigEndian.Uint32(b[atSum:]) ||
		binary.BigEndian.Uint32(b[atNumber:]) != number || state(b[0]) != live && state(b[0]) != destroyed {
		return slot{state: damaged}
	}
	s := slot{state: state(b[0]), whenMs: int64(binary.BigEndian.Uint64(b[atWhen:]))}
	copy(s.subject[:], b[atSubject:])
	copy(s.nonce[:], b[atNonce:])
	copy(s.key[:], b[atWrapped:])
	return s
}

// master wraps keys.
type master struct{ gcm cipher.AEAD }

func newMaster(key []byte) (master, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return master{}, fmt.Errorf("master key: %w", err)
	}
	gcm, err := cipher.NewGCM(block)
	return master{gcm}, err
}

// boundTo ties a wrapped key to its number and subject.
func boundTo(number uint32, subject *digest) []byte {
	return append(binary.BigEndian.AppendUint32(nil, number), subject[:]...)
}

func (m master) wrap(number uint32, s *slot, key *sealed.Key) error {
	if _, err := rand.Read(s.nonce[:]); err != nil {
		return fmt.Errorf("wrap key: %w", err)
	}
	m.gcm.Seal(s.key[:0], s.nonce[:], key[:], boundTo(number, &s.subject))
	return nil
}

func (m master) unwrap(number uint32, s *slot) (key sealed.Key, err error) {
	if _, err := m.gcm.Open(key[:0], s.nonce[:], s.key[:], boundTo(number, &s.subject)); err != nil {
		return sealed.Key{}, fmt.Errorf("%w: key %d does not open with the master key", eventstore.ErrUnavailable, number)
	}
	return key, nil
}
