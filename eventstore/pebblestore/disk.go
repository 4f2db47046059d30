package pebblestore

import "time"

// DiskState says how the disk is that a store is on.
type DiskState struct {
	// FreeBytes are left on it, -1 when the file system does not say; below MinFreeBytes no appends are taken.
	FreeBytes, MinFreeBytes int64
	// Full is why no appends are taken for want of room, nil when they are. It matches eventstore.ErrReadOnly.
	Full error
	// StalledSince is since when the disk does not answer; zero when it does.
	StalledSince time.Time
	// Scrub says how the scrub is that is under way, else how the last one ended.
	Scrub ScrubState
}

// Disk says how the store's disk is, without touching it.
func (s *Store) Disk() DiskState {
	d := DiskState{FreeBytes: s.space.free.Load(), MinFreeBytes: s.space.least, Full: s.space.err()}
	if fault := s.stall.fault.Load(); fault != nil {
		d.StalledSince = fault.since
	}
	if scrub := s.scrubState.Load(); scrub != nil {
		d.Scrub = *scrub
	}
	return d
}

// Writable returns nil when the store takes appends, else why it does not and what to do: an error that matches
// eventstore.ErrReadOnly, or eventstore.ErrUnavailable while the disk is stalled.
func (s *Store) Writable() error {
	if err := s.writable(); err != nil {
		return err
	}
	return s.stall.err()
}
