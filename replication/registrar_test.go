package replication

import (
	"testing"
	"time"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/memstore"
)

// While a disk takes its time to keep what other sites are told, they are told what they were before: who speaks does not wait for it.
func TestTermsWhileWordsAreKept(t *testing.T) {
	store := memstore.New(memstore.Options{LogID: eventstore.LogID{Site: "bj", Incarnation: 1}})
	defer store.Close()
	slow, keeping, goOn := false, make(chan struct{}), make(chan struct{})
	r, err := NewRegistrar(t.Context(), RegistrarOptions{
		Site: "bj", Fence: NewFence(Shard{Region: "bj"}, func(string) bool { return true }), Store: store, Heads: store.Heads, Homed: []string{"payment"},
		Keep: func(Words) error {
			if slow {
				close(keeping)
				<-goOn
			}
			return nil
		},
		NewID: func() string { return "a system" },
	})
	if err != nil {
		t.Fatal(err)
	}
	slow = true
	settled, told := make(chan error, 1), make(chan Terms, 1)
	go func() { settled <- r.settle(t.Context()) }()
	<-keeping
	go func() { told <- r.Terms() }()
	select {
	case terms := <-told:
		if terms.Epoch != 0 {
			t.Errorf("before it is kept what binds it, the site says %+v", terms)
		}
	case <-time.After(10 * time.Second):
		t.Error("who asks for the terms waits for the disk")
	}
	close(goOn)
	if err := <-settled; err != nil {
		t.Fatal(err)
	}
	if terms := r.Terms(); terms.Epoch != 1 {
		t.Errorf("then it says %+v", terms)
	}
}
