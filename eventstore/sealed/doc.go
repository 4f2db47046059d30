// Package sealed keeps personal data erasable in a log that forgets nothing.
//
//	Append ─► fields marked personal are taken out of the payload ─► sealed with the subject's key ─► the store below
//	Read   ◄─ Recorded.Opened: the payload with the fields back in ◄─ opened, as long as there is the key
//	Erase  ─► subject.erased.v1 is appended ─► the key is destroyed ─► Opened is without the fields, Erased is set
//
// Which fields are personal, and whose, is marked in the event's proto (tributary/api/v1/personal.proto). What the store
// below sees, and with it the hash chain, the mirror, the index, other sites and backups, is ciphertext alone: AES-256-GCM
// under a key of the subject's own, bound to stream, type and id of its event. It stands in the payload as one bytes field
// of number Field, which a plain protobuf reader passes over. Event.KeyRef names the key.
//
// The hash of a request that brings sealed events is keyed with the subject's key before it is recorded: a plain hash of a
// few personal words could be guessed.
//
// A key that cannot be had just now is an error, and transient; only a key that is known to be destroyed is "erased".
// Whoever must not see personal data at all reads the store below instead.
package sealed
