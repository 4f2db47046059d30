//go:build !linux

package rawlog

import "os"

func fdatasync(f *os.File) error { return f.Sync() }
