package lint

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// pure names the packages whose results depend on their arguments alone.
const pure = "commerce/*"

// impure names the exceptions: commerce/api serves requests, the importer is a client that sends them.
const impure = "commerce/api commerce/retail/importer"

// clock is what of package time reads the clock or waits for it.
var clock = []string{"Now", "Since", "Until", "After", "AfterFunc", "Sleep", "Tick", "NewTimer", "NewTicker"}

// chance names the packages that bring randomness.
const chance = "math/rand math/rand/v2 crypto/rand github.com/google/uuid"

// Purity keeps clock and randomness out of the domain. A decision that reads either cannot be replayed; times and ids
// come in with the command.
func Purity(t *Tree) []Finding {
	var findings []Finding
	for _, s := range t.Sources {
		if s.Test || s.Generated || !within(pure, s.Dir) || within(impure, s.Dir) {
			continue
		}
		for _, imported := range s.Imports() {
			if within(chance, imported.Path) {
				findings = append(findings, Finding{"purity", s.Path, imported.Line, "the domain has no randomness: " + imported.Path + " belongs to the caller, who passes what it made in the command"})
			}
		}
		for _, use := range uses(s, "time") {
			if slices.Contains(clock, use.Sel.Name) {
				findings = append(findings, Finding{"purity", s.Path, s.Line(use), "the domain has no clock: time." + use.Sel.Name + " belongs to the caller, who passes the time in the command"})
			}
		}
	}
	return findings
}

// uses returns where a file names something of a package of the standard library.
func uses(s *Source, imported string) []*ast.SelectorExpr {
	i := slices.IndexFunc(s.Imports(), func(i Imported) bool { return i.Path == imported })
	if i < 0 {
		return nil
	}
	local := s.Imports()[i].Name
	var found []*ast.SelectorExpr
	ast.Inspect(s.Syntax, func(n ast.Node) bool {
		if use, ok := n.(*ast.SelectorExpr); ok {
			if name, ok := use.X.(*ast.Ident); ok && name.Name == local {
				found = append(found, use)
			}
		}
		return true
	})
	return found
}

// talkers may write to standard output, by which they serve people and scripts.
const talkers = "cmd/* examples/* internal/tools/* internal/bench/*"

// Output keeps libraries off standard output and the global logger: stdout belongs to a command's answer, and logs go
// through the slog.Logger that the caller passed.
func Output(t *Tree) []Finding {
	var findings []Finding
	for _, s := range t.Sources {
		if s.Test || s.Generated || within(talkers, s.Dir) {
			continue
		}
		for _, use := range uses(s, "fmt") {
			if strings.HasPrefix(use.Sel.Name, "Print") {
				findings = append(findings, Finding{"output", s.Path, s.Line(use), "a library does not print: return it, or log it with the caller's slog.Logger"})
			}
		}
		for _, use := range uses(s, "os") {
			if use.Sel.Name == "Stdout" {
				findings = append(findings, Finding{"output", s.Path, s.Line(use), "a library does not write to standard output: take an io.Writer"})
			}
		}
		for _, imported := range s.Imports() {
			if imported.Path == "log" {
				findings = append(findings, Finding{"output", s.Path, imported.Line, "log with the caller's slog.Logger, not with package log"})
			}
		}
	}
	return findings
}

// maxLines is how long a file may be that people write. Longer ones hold two ideas.
const maxLines = 600

// Length keeps files short, tests and generated ones apart.
func Length(t *Tree) []Finding {
	var findings []Finding
	for _, s := range t.Sources {
		if !s.Test && !s.Generated && s.Lines > maxLines {
			findings = append(findings, Finding{"length", s.Path, 0, fmt.Sprintf("%d lines, the limit is %d: which two ideas are in it?", s.Lines, maxLines)})
		}
	}
	return findings
}

// nameless are package names that say nothing of what is inside.
var nameless = []string{"util", "utils", "common", "helper", "helpers", "type", "types", "base", "core", "misc", "shared"}

// Names keeps package names meaningful and package comments present.
func Names(t *Tree) []Finding {
	var findings []Finding
	for dir, sources := range t.Packages() {
		name := sources[0].Syntax.Name.Name
		if slices.Contains(nameless, name) {
			findings = append(findings, Finding{"names", dir, 0, "package " + name + " says nothing of what is inside: name the idea"})
		}
		if !slices.ContainsFunc(sources, func(s *Source) bool { return s.Syntax.Doc != nil }) {
			findings = append(findings, Finding{"names", dir, 0, "package " + name + " has no package comment: what it is, what it promises, who calls it"})
		}
	}
	return findings
}

// Both patterns are written so that they do not match themselves.
var (
	unfinished = regexp.MustCompile(`\b(TO[D]O|FI[X]ME|XX[X]|HA[C]K)\b|(?i:\bnot (yet )?impl[e]mented\b)`)
	machine    = regexp.MustCompile(`/wor[k]/|/roo[t]/|/tm[p]/brief`)
)

// Finished keeps notes of unfinished work out of the sources: what is missing is an issue, or is built.
func Finished(t *Tree) []Finding {
	var findings []Finding
	for _, s := range t.Sources {
		if s.Generated {
			continue
		}
		for _, group := range s.Syntax.Comments {
			for _, comment := range group.List {
				if mark := unfinished.FindString(comment.Text); mark != "" {
					findings = append(findings, Finding{"finished", s.Path, s.Line(comment), "the comment says " + strconv.Quote(mark) + ": finish it, or say as a fact what is not offered"})
				}
			}
		}
	}
	return findings
}

// Places keeps paths of one machine out of every text.
func Places(t *Tree) []Finding {
	var findings []Finding
	for _, text := range t.Texts {
		for i, line := range strings.Split(text.Content, "\n") {
			if place := machine.FindString(line); place != "" {
				findings = append(findings, Finding{"places", text.Path, i + 1, place + " is a path of one machine"})
			}
		}
	}
	return findings
}

var (
	versioned = regexp.MustCompile(`^[A-Za-z0-9_$-][A-Za-z0-9_.$-]*\.[vV][0-9]+$`)
	wireName  = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*\.[a-z][a-z0-9]*(_[a-z0-9]+)*\.v[1-9][0-9]*$`)
)

// namers are the packages in which events get their names.
const namers = "commerce/* commands commands/* eventstore eventstore/* examples/*"

// WireNames keeps the names of events, which can never be changed, in one form from the first: category.event.vN, such
// as order.created.v1. Every string of the program that ends in a version is held to it.
func WireNames(t *Tree) []Finding {
	var findings []Finding
	for _, s := range t.Sources {
		if s.Test || s.Generated || within(testingPackages, s.Dir) || !within(namers, s.Dir) {
			continue
		}
		ast.Inspect(s.Syntax, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			name, err := strconv.Unquote(literal.Value)
			if err == nil && versioned.MatchString(name) && !wireName.MatchString(name) {
				findings = append(findings, Finding{"wire names", s.Path, s.Line(literal), strconv.Quote(name) + " is no wire name of the form category.event.vN, in lower case"})
			}
			return true
		})
	}
	return findings
}
