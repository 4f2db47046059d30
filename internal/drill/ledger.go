package drill

import (
	"cmp"
	"maps"
	"slices"
	"sync"
)

// Ledger is what clients were told of their commands. It is safe for concurrent use.
type Ledger struct {
	mu       sync.Mutex // guards what follows
	commands map[string]command
}

// command is what became of one.
type command struct {
	site    string // that it was sent to
	outcome outcome
}

type outcome int

const (
	acknowledged outcome = iota
	refused              // a business no
	unknown              // no answer came for as long as was waited
)

// NewLedger returns a ledger without commands.
func NewLedger() *Ledger { return &Ledger{commands: map[string]command{}} }

func (l *Ledger) note(key, site string, o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commands[key] = command{site, o}
}

// Acknowledge notes that a site has acknowledged a command.
func (l *Ledger) Acknowledge(key, site string) { l.note(key, site, acknowledged) }

// Refuse notes that a site has refused a command for good: an event of it, at any site, is a phantom.
func (l *Ledger) Refuse(key, site string) { l.note(key, site, refused) }

// all returns what there is, by key.
func (l *Ledger) all() map[string]command {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.commands)
}

// Commands says what became of the commands that clients gave.
type Commands struct {
	Acknowledged int `json:"acknowledged"`
	Refused      int `json:"refused"`
	// Unanswered are those of which nobody knows, for their site was gone for longer than their clients had patience.
	Unanswered int `json:"unanswered"`
	// Found are acknowledged ones whose events are at every site, Lost those that lack at some.
	Found int `json:"found"`
	Lost  int `json:"lost"`
	// Phantom are events of commands that were refused, Duplicated commands that took effect more than once.
	Phantom    int `json:"phantom"`
	Duplicated int `json:"duplicated"`
	// LostKeys name some of the lost.
	LostKeys []string `json:"lost_keys,omitempty"`
}

// mostNamed is how many lost commands a report names.
const mostNamed = 10

// Audit looks for all commands in what sites hold.
func (l *Ledger) Audit(held []*Census) (c Commands) {
	for key, one := range l.all() {
		found, twice := 0, false
		for _, h := range held {
			if at, ok := h.commands[key]; ok {
				found++
				twice = twice || at.twice
			}
		}
		if twice {
			c.Duplicated++
		}
		switch one.outcome {
		case refused:
			c.Refused++
			if found > 0 {
				c.Phantom++
			}
		case unknown:
			c.Unanswered++
		case acknowledged:
			c.Acknowledged++
			if found == len(held) {
				c.Found++
			} else {
				c.Lost++
				c.LostKeys = append(c.LostKeys, key)
			}
		}
	}
	slices.SortFunc(c.LostKeys, cmp.Compare)
	c.LostKeys = c.LostKeys[:min(len(c.LostKeys), mostNamed)]
	return c
}
