package keyfile

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/google/uuid"

	"github.com/tributary-es/tributary/eventstore"
)

// The header has the size of a slot:
//
//	magic ‖ id of the key file ‖ nonce ‖ known words, sealed with the master key ‖ zeros ‖ CRC-32C
//
// By the known words a master key that is not the file's is told before it is used.
const magic = "TRBKEYS1"

var knownWords = []byte("tributary master")

// header says which key file it is.
type header struct{ id uuid.UUID }

func newHeader(id uuid.UUID, m master) ([]byte, error) {
	nonce := make([]byte, m.gcm.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("make header: %w", err)
	}
	b := append([]byte(magic), id[:]...)
	b = append(b, nonce...)
	b = m.gcm.Seal(b, nonce, knownWords, id[:])
	b = append(b, make([]byte, atSum-len(b))...)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// readHeader reads and checks the header, and that the master key is the file's.
func readHeader(b []byte, m master) (header, error) {
	var h header
	if len(b) < slotBytes || string(b[:len(magic)]) != magic || crc32.Checksum(b[:atSum], castagnoli) != binary.BigEndian.Uint32(b[atSum:slotBytes]) {
		return h, fmt.Errorf("%w: it does not begin as a key file does; bring it back from a backup: tributary keys restore", eventstore.ErrCorrupt)
	}
	at := len(magic)
	at += copy(h.id[:], b[at:])
	nonce := b[at : at+m.gcm.NonceSize()]
	at += len(nonce)
	words, err := m.gcm.Open(nil, nonce, b[at:at+len(knownWords)+m.gcm.Overhead()], h.id[:])
	if err != nil || !bytes.Equal(words, knownWords) {
		return h, fmt.Errorf("%w: the master key is not the one that this key file was made with", eventstore.ErrUnavailable)
	}
	return h, nil
}
