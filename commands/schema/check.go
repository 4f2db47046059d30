package schema

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Findings are what comes of holding a program's schemas against those with which a log was written.
type Findings struct {
	// Faults says, by wire name, how the program would misread what is recorded. A program with faults must not run on the log.
	Faults []string
	// Changed are the program's schemas that the log does not have yet, or has in another form.
	Changed []Schema
	// Older are the wire names whose latest recorded schema is newer than the program's, which the log has had before. The
	// program reads what it knows of these events, and must not write them: it would leave out what they have to say now.
	Older []string
}

// Check holds a program's schemas against the history of those that a log was written with, each name's in the order in which
// they were recorded. used reports whether the log has events of a name; it is asked only of names that the program does not
// know.
func Check(history, program []Schema, used func(name string) (bool, error)) (Findings, error) {
	var out Findings
	recorded := map[string][]Schema{}
	for _, s := range history {
		recorded[s.Name] = append(recorded[s.Name], s)
	}
	for _, s := range slices.SortedFunc(slices.Values(program), byName) {
		out.add(recorded[s.Name], s)
		delete(recorded, s.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(recorded)) {
		there, err := used(name)
		if err != nil {
			return out, fmt.Errorf("look for events %s: %w", name, err)
		}
		if there {
			out.Faults = append(out.Faults, name+": the log has such events and the program cannot read them; keep the message, and declare an upcast for it")
		}
	}
	return out, nil
}

func byName(a, b Schema) int { return cmp.Compare(a.Name, b.Name) }

// add compares one schema of the program with those recorded under its name.
func (f *Findings) add(history []Schema, s Schema) {
	if len(history) == 0 {
		f.Changed = append(f.Changed, s)
		return
	}
	mine := s.Fingerprint()
	if history[len(history)-1].Fingerprint() == mine {
		return
	}
	older := slices.ContainsFunc(history, func(h Schema) bool { return h.Fingerprint() == mine })
	var wrong []string
	for _, h := range history {
		for _, d := range Compare(h.Message, s.Message) {
			if (!d.Unseen || !older) && !slices.Contains(wrong, d.String()) {
				wrong = append(wrong, d.String())
			}
		}
	}
	switch {
	case len(wrong) > 0:
		f.Faults = append(f.Faults, fmt.Sprintf("%s: %s; leave the message as it was, and make a new one under the next name, with an upcast from this one",
			s.Name, strings.Join(wrong, "; ")))
	case older:
		f.Older = append(f.Older, s.Name)
	default:
		f.Changed = append(f.Changed, s)
	}
}
