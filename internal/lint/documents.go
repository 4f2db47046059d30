package lint

import (
	"fmt"
	"go/ast"
	"path"
	"regexp"
	"strings"
)

// Documents that the rules know.
const (
	overview   = "docs/overview.md"
	invariants = "docs/invariants.md"
)

// LayersTable returns the import rules as the table of docs/overview.md.
func LayersTable() string {
	var b strings.Builder
	b.WriteString("| package | may import, of ours | only these foreign modules |\n|---|---|---|\n")
	for _, l := range layers {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", l.pkg, orNothing(strings.Join(strings.Fields(l.may), ", ")), l.foreign)
	}
	b.WriteString("\n| driver | only in |\n|---|---|\n")
	for _, d := range drivers {
		fmt.Fprintf(&b, "| %s | %s |\n", strings.Join(strings.Fields(d.modules), ", "), strings.Join(strings.Fields(d.owners), ", "))
	}
	return b.String()
}

// Marks around the table.
const (
	tableBegin = "<!-- import rules: written by `go test ./internal/lint -update` -->\n"
	tableEnd   = "<!-- end of the import rules -->\n"
)

// withTable returns the overview with the present table between its marks; not ok when it has none.
func withTable(text string) (updated string, ok bool) {
	before, rest, begun := strings.Cut(text, tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		return text, false
	}
	return before + tableBegin + "\n" + LayersTable() + "\n" + tableEnd + after, true
}

// Overview keeps the table in docs/overview.md the one that is enforced.
func Overview(t *Tree) []Finding {
	text, ok := t.Text(overview)
	if !ok {
		return nil
	}
	updated, ok := withTable(text)
	switch {
	case !ok:
		return []Finding{{"overview", overview, 0, "the marks around the table of import rules are gone"}}
	case updated != text:
		return []Finding{{"overview", overview, 0, "the table of import rules is not the one in internal/lint/layers.go: run go test ./internal/lint -update"}}
	}
	return nil
}

var (
	invariantRow = regexp.MustCompile(`^\| ([A-Z]+[0-9]+) \|.*\| ([^|]*) \|$`)
	testName     = regexp.MustCompile("`([a-z0-9/]+)\\.([A-Za-z0-9_]+)`")
)

// Invariants keeps docs/invariants.md honest: a row whose last column names tests, as `folder.TestName`, has those tests
// in that folder, and at least one of them names the row's number; a row without a test says so with a dash.
func Invariants(t *Tree) []Finding {
	text, ok := t.Text(invariants)
	if !ok {
		return nil
	}
	var findings []Finding
	seen := map[string]bool{}
	for i, line := range strings.Split(text, "\n") {
		row := invariantRow.FindStringSubmatch(line)
		if row == nil {
			continue
		}
		number, column := row[1], row[2]
		find := func(format string, args ...any) {
			findings = append(findings, Finding{"invariants", invariants, i + 1, number + ": " + fmt.Sprintf(format, args...)})
		}
		if seen[number] {
			find("the number is given twice")
		}
		seen[number] = true
		tests := testName.FindAllStringSubmatch(column, -1)
		if len(tests) == 0 {
			if column != "—" {
				find("the last column holds neither a test as `folder.TestName` nor a dash")
			}
			continue
		}
		named := false
		for _, test := range tests {
			source := t.function(test[1], test[2])
			if source == nil {
				find("there is no test %s in %s", test[2], test[1])
				continue
			}
			content, _ := t.Text(source.Path)
			named = named || regexp.MustCompile(`\b`+number+`\b`).MatchString(content)
		}
		if !named {
			find("no test of the row names the number: say in its comment which invariant it shows")
		}
	}
	return findings
}

// function returns the file, a test or one of a testing package, that declares a function in a folder.
func (t *Tree) function(dir, name string) *Source {
	for _, s := range t.Sources {
		if s.Dir != dir || (!s.Test && !within(testingPackages, dir)) {
			continue
		}
		for _, declaration := range s.Syntax.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Name.Name == name {
				return s
			}
		}
	}
	return nil
}

var goPackage = regexp.MustCompile(`(?m)^option go_package = "([^";]+);?[^"]*";$`)

// Schemas keeps the Go packages of the protos where the generator puts them: beneath schemas/gen, at the proto's own
// folder.
func Schemas(t *Tree) []Finding {
	var findings []Finding
	for _, text := range t.Texts {
		if path.Ext(text.Path) != ".proto" {
			continue
		}
		below, ok := strings.CutPrefix(path.Dir(text.Path), "schemas/")
		if !ok {
			findings = append(findings, Finding{"schemas", text.Path, 0, "protos live in schemas/tributary/<area>/v1"})
			continue
		}
		want := Module + "/schemas/gen/" + below
		found := goPackage.FindStringSubmatch(text.Content)
		if len(found) != 2 || found[1] != want {
			findings = append(findings, Finding{"schemas", text.Path, 0, fmt.Sprintf("option go_package has to be %q, with ;name behind it", want)})
		}
	}
	return findings
}
