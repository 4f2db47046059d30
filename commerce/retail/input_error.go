package retail

import (
	"errors"
	"fmt"
	"strings"
)

// MaxProblems is how many problems Read collects before it stops reading.
const MaxProblems = 20

// errMore says that a joined error is not the whole list.
var errMore = fmt.Errorf("stopped after %d problems, there may be more", MaxProblems)

// InputError is one thing wrong with an input file, in words for the person who
// has the file. Find it in what [Read] returns with [errors.As].
type InputError struct {
	File    string // as it was named to Read
	Line    int    // physical line of the decompressed text from 1; 0 is the file as a whole
	Column  string // name of the column, "" if it is about the line or the file
	Problem string // what is wrong
	Hint    string // what to do about it, may be ""
	Err     error  // cause, may be nil
}

// Error returns "file: line 7, UnitPrice: problem; hint" on one line.
func (e *InputError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File + ": ")
	}
	switch {
	case e.Line > 0 && e.Column != "":
		fmt.Fprintf(&b, "line %d, %s: ", e.Line, e.Column)
	case e.Line > 0:
		fmt.Fprintf(&b, "line %d: ", e.Line)
	case e.Column != "":
		b.WriteString(e.Column + ": ")
	}
	b.WriteString(e.Problem)
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Unwrap returns the cause, as an error of the file system.
func (e *InputError) Unwrap() error { return e.Err }

// problems collects up to MaxProblems input errors.
type problems struct{ found []error }

// add keeps a problem and reports whether there is room for another.
func (p *problems) add(e *InputError) bool {
	if !p.full() {
		p.found = append(p.found, e)
	}
	return !p.full()
}

func (p *problems) full() bool { return len(p.found) >= MaxProblems }

// err joins what was found, nil if nothing was.
func (p *problems) err() error {
	if p.full() {
		return errors.Join(append(p.found, errMore)...)
	}
	return errors.Join(p.found...)
}

// quoted shows a value of the input in an error, shortened and on one line.
func quoted(s string) string {
	const most = 40
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
