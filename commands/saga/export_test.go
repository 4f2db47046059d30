package saga

// LimitCheckpoints bounds the payload of a checkpoint event.
func (r *Runner) LimitCheckpoints(bytes int) { r.partBytes = bytes }

// Held returns how many triggers are in memory with their event, of those that wait for parked instances.
func (r *Runner) Held() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, i := range r.instances {
		for _, a := range i.inbox {
			if i.phase == parked && a.event != nil {
				n++
			}
		}
	}
	return n
}
