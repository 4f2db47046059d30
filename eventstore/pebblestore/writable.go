package pebblestore

// Writable returns nil when the store takes writes, else why it does not and what to do; the error matches
// eventstore.ErrReadOnly.
func (s *Store) Writable() error { return s.writable() }
