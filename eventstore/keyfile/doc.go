// Package keyfile keeps the keys of subjects in a file: an implementation of sealed.Keys.
//
//	keys.slots     header ‖ slot 1 ‖ slot 2 ‖ …     a slot holds a key, wrapped with the master key, or a tombstone
//	keys.restored  is there from a restore until Reserve
//	master.key     the master key in hexadecimal, mode 0600, unless it is given from elsewhere
//
// Slots are of one size and stay where they are, for a key that is destroyed has to be gone: it is overwritten in place,
// with a tombstone that stays for good. A database that merges files would keep the old value in the old ones. What a
// copy-on-write file system, an SSD or a copy of the folder still holds is wrapped with the master key; who wants to be
// sure of those keeps the master key elsewhere.
//
// A key is on disk before it is given out, and its tombstone before Destroy returns. A slot whose writing was cut short by
// a crash stays as it is: its key was never given out, or its erasure is on record and done again. The number of a slot is
// never given twice: after a restore, which may lack the last ones, none is given until Reserve has been told which the log
// has. A slot that cannot be read is an error for whoever needs it, never a destroyed key.
//
// A File is used by one process at a time, which a lock on the file keeps; its methods are safe for concurrent use. It
// holds about 150 bytes of memory for each subject. Backups are by Backup and Restore, and no part of the log's.
package keyfile
