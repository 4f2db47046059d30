package order

import "testing"

func TestStatusCanTransitionTo(t *testing.T) {
	all := []Status{None, Created, Confirmed, Shipped, Cancelled}
	allowed := map[[2]Status]bool{
		{None, Created}: true, {Created, Confirmed}: true, {Confirmed, Shipped}: true,
		{Created, Cancelled}: true, {Confirmed, Cancelled}: true,
	}
	for _, from := range all {
		ways := 0
		for _, to := range all {
			if got := from.CanTransitionTo(to); got != allowed[[2]Status{from, to}] {
				t.Errorf("%q to %q: %v", from, to, got)
			}
			if from.CanTransitionTo(to) {
				ways++
			}
		}
		if from.Final() != (ways == 0) {
			t.Errorf("%q has %d ways on, Final says %v", from, ways, from.Final())
		}
	}
	if Status("packed").CanTransitionTo(Shipped) {
		t.Error("a status that does not exist leads somewhere")
	}
}
