package sealed

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/eventstore"
)

// What field Field holds:
//
//	sealed = format ‖ nonce ‖ AES-256-GCM of the personal fields, with tag
//
// The nonce is random, which is sound for 2^32 events of a subject. The field is empty where a reader has found that the
// key is destroyed; nothing of that form is ever recorded.
const (
	format    = 1
	nonceSize = 12
)

func aead(key *Key) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// bound is what ties ciphertext to its event: moved to another one, it does not open.
func bound(stream eventstore.StreamID, e *eventstore.Event) []byte {
	var b []byte
	for _, part := range [...]string{stream.Tenant, stream.Category, stream.ID, e.Type} {
		b = protowire.AppendString(b, part)
	}
	return append(b, e.ID[:]...)
}

// seal returns the payload of an event with its personal fields sealed. REQUIRES: the event has its id.
func seal(key *Key, stream eventstore.StreamID, e *eventstore.Event, s *split) ([]byte, error) {
	gcm, err := aead(key)
	if err != nil {
		return nil, fmt.Errorf("seal %s: %w", e.Type, err)
	}
	box := make([]byte, 1+nonceSize, 1+nonceSize+len(s.personal)+gcm.Overhead())
	box[0] = format
	if _, err := rand.Read(box[1:]); err != nil {
		return nil, fmt.Errorf("seal %s: %w", e.Type, err)
	}
	box = gcm.Seal(box, box[1:], s.personal, bound(stream, e))
	return protowire.AppendBytes(protowire.AppendTag(s.open, Field, protowire.BytesType), box), nil
}

// sealedIn returns what is sealed in a payload, nil when nothing is, and the payload around it.
func sealedIn(payload []byte) (box, open []byte, err error) {
	for rest := payload; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return nil, nil, protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(number, kind, rest[n:])
		if size < 0 {
			return nil, nil, protowire.ParseError(size)
		}
		if number == Field && kind == protowire.BytesType {
			box, _ = protowire.ConsumeBytes(rest[n:])
			before := len(payload) - len(rest)
			open = append(append(make([]byte, 0, len(payload)), payload[:before]...), rest[n+size:]...)
			return box, open, nil
		}
		rest = rest[n+size:]
	}
	return nil, payload, nil
}

// unseal puts the personal fields back into what is open of a payload.
func unseal(key *Key, r *eventstore.Recorded, box, open []byte) ([]byte, error) {
	gcm, err := aead(key)
	if err != nil {
		return nil, err
	}
	if len(box) < 1+nonceSize+gcm.Overhead() || box[0] != format {
		return nil, fmt.Errorf("%w: what is sealed in it has a form that this program does not know", eventstore.ErrCorrupt)
	}
	nonce, ciphertext := box[1:1+nonceSize], box[1+nonceSize:]
	opened, err := gcm.Open(open, nonce, ciphertext, bound(r.Stream, &r.Event))
	if err != nil {
		return nil, fmt.Errorf("%w: what is sealed in it was not sealed for it with key %d", eventstore.ErrCorrupt, r.KeyRef)
	}
	return opened, nil
}

// erasedMark is the field of what cannot be opened any more.
var erasedMark = protowire.AppendBytes(protowire.AppendTag(nil, Field, protowire.BytesType), nil)

// Erased reports whether personal fields of a decoded event are missing because their key is destroyed. It is how
// aggregates see what Recorded.Erased says.
func Erased(m proto.Message) bool {
	box, _, err := sealedIn(m.ProtoReflect().GetUnknown())
	return err == nil && box != nil && len(box) == 0
}

// keyed returns the hash of a request as it is recorded when the request brings personal data.
func keyed(key *Key, h eventstore.Hash) (out eventstore.Hash) {
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte("tributary request"))
	mac.Write(h[:])
	mac.Sum(out[:0])
	return out
}
