package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/node"
)

func TestDiskFlags(t *testing.T) {
	good := diskFlags{MinFree: 16, Ballast: 8, Scrub: 2, Cache: 64, StallAfter: time.Second}
	var c node.Config
	if err := good.apply(&c); err != nil {
		t.Fatal(err)
	}
	if c.MinFreeBytes != 16<<20 || c.BallastBytes != 8<<20 || c.ScrubBytesPerSecond != 2<<20 || c.CacheBytes != 64<<20 || c.StallAfter != time.Second {
		t.Errorf("the flags give %+v", c)
	}
	for what, spoil := range map[string]func(f *diskFlags){
		"min-free": func(f *diskFlags) { f.MinFree = 0 },
		"cache":    func(f *diskFlags) { f.Cache = 0 },
		"scrub":    func(f *diskFlags) { f.Scrub = -1 },
	} {
		bad := good
		spoil(&bad)
		if err := bad.apply(&c); !errors.Is(err, eventstore.ErrInvalid) {
			t.Errorf("a wrong --%s: %v, want ErrInvalid", what, err)
		}
	}
}

// Who serves on a port that is taken is told the flag that names another.
func TestTakenPortNamesItsFlag(t *testing.T) {
	for protocol, flag := range map[string]string{"HTTP": "(--http)", "gRPC": "(--grpc)", "Kafka": "(--kafka-port 40123)"} {
		if err := withFlag(fmt.Errorf("open: %w", &node.TakenError{Protocol: protocol, Free: "127.0.0.1:40123"})); !strings.HasSuffix(err.Error(), flag) {
			t.Errorf("%v; want %s", err, flag)
		}
	}
	if err := errors.New("of something else"); withFlag(err).Error() != err.Error() {
		t.Errorf("%v", withFlag(err))
	}
}
