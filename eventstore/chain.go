package eventstore

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/tributary-es/tributary/internal/hlc"
)

// NextChain returns the hash chain of a log after one more of its own events:
//
//	H_n = SHA-256(H_{n-1} ‖ seq ‖ hlc ‖ version ‖ contentHash)
//
// with big-endian 8-byte numbers. H_0 is ChainStart of the log. Two logs with the same seq and chain hold the same
// events.
func NextChain(prev Hash, seq uint64, at hlc.Timestamp, version uint64, content Hash) Hash {
	var b [32 + 24 + 32]byte
	copy(b[:], prev[:])
	binary.BigEndian.PutUint64(b[32:], seq)
	binary.BigEndian.PutUint64(b[40:], uint64(at))
	binary.BigEndian.PutUint64(b[48:], version)
	copy(b[56:], content[:])
	return sha256.Sum256(b[:])
}

// ChainStart returns H_0 of a log: a hash of its name, so that the chains of two logs never meet.
func ChainStart(log LogID) Hash {
	return sha256.Sum256([]byte("tributary log " + log.String()))
}

// Cells is the number of hash slots that streams are spread over.
const Cells = 1024

// CellOf returns the hash slot of a stream: FNV-1a over "tenant/category/id", modulo Cells.
func CellOf(s StreamID) uint16 {
	h := cellHash(cellStart)
	h.mix(s.Tenant)
	h.mix("/")
	h.mix(s.Category)
	h.mix("/")
	h.mix(s.ID)
	return h.cell()
}

// CellOfKey returns the hash slot of any key; that of a stream's String is the stream's.
func CellOfKey(key string) uint16 {
	h := cellHash(cellStart)
	h.mix(key)
	return h.cell()
}

// cellHash is a running FNV-1a.
type cellHash uint64

const cellStart, cellPrime = 14695981039346656037, 1099511628211

func (h *cellHash) mix(part string) {
	for i := range len(part) {
		*h = (*h ^ cellHash(part[i])) * cellPrime
	}
}

func (h cellHash) cell() uint16 { return uint16((h ^ h>>32) % Cells) }
