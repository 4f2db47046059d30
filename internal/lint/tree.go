package lint

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Module is the import path of the root module. Modules nested in the tree are named beneath it.
const Module = "github.com/tributary-es/tributary"

// Finding is one place that breaks one rule.
type Finding struct {
	Rule string
	// Path is relative to the root of the tree; Line is 0 when the whole file or folder is meant.
	Path string
	Line int
	// Message says what is wrong and what to do instead.
	Message string
}

// String returns "path:line: message (rule)".
func (f Finding) String() string {
	where := f.Path
	if f.Line > 0 {
		where += ":" + strconv.Itoa(f.Line)
	}
	return fmt.Sprintf("%s: %s (%s)", where, f.Message, f.Rule)
}

// Source is one parsed Go file.
type Source struct {
	Path string
	// Dir is the folder, "." for the root; for packages of this module it is the import path below Module.
	Dir string
	// Test is set for _test.go files, Generated for those that say that they are.
	Test      bool
	Generated bool
	Lines     int
	Syntax    *ast.File

	set *token.FileSet
}

// Line returns the line of a node.
func (s *Source) Line(n ast.Node) int { return s.set.Position(n.Pos()).Line }

// Imported is one import of a file.
type Imported struct {
	Path string
	// Name is what the file calls it.
	Name string
	Line int
}

// Imports returns what the file imports. Where an import is not named, the last element of its path that is no version
// stands for its name, which holds for the packages that the rules ask about.
func (s *Source) Imports() []Imported {
	var all []Imported
	for _, spec := range s.Syntax.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the parser has accepted it, so it is a string literal
		}
		imported := Imported{Path: name, Name: path.Base(name), Line: s.Line(spec)}
		if len(imported.Name) > 1 && imported.Name[0] == 'v' && strings.Trim(imported.Name[1:], "0123456789") == "" {
			imported.Name = path.Base(path.Dir(name))
		}
		if spec.Name != nil {
			imported.Name = spec.Name.Name
		}
		all = append(all, imported)
	}
	return all
}

// Text is one file of any kind that is read as text.
type Text struct {
	Path    string
	Content string
}

// Tree is what the rules look at. Sources and Texts are in the order of their paths.
type Tree struct {
	Sources []*Source
	// Texts are the Go files too.
	Texts []Text
}

// Packages returns the sources that are no tests, by folder, without those folders that have generated files only.
func (t *Tree) Packages() map[string][]*Source {
	packages := map[string][]*Source{}
	for _, s := range t.Sources {
		if !s.Test {
			packages[s.Dir] = append(packages[s.Dir], s)
		}
	}
	for dir, sources := range packages {
		if !slices.ContainsFunc(sources, func(s *Source) bool { return !s.Generated }) {
			delete(packages, dir)
		}
	}
	return packages
}

// Text returns the content of a file, and whether there is one.
func (t *Tree) Text(name string) (string, bool) {
	for _, text := range t.Texts {
		if text.Path == name {
			return text.Content, true
		}
	}
	return "", false
}

// extensions and names of the files that are read as text.
var textual = []string{
	".go", ".md", ".proto", ".sql", ".sh", ".py", ".yml", ".yaml", ".json", ".toml", ".html", ".js", ".css", ".lua", ".xml",
	"Makefile", "run", "Dockerfile",
}

// built names the folders at the root that git ignores.
var built = []string{"bin", "data", "dist"}

// Load reads a tree. Hidden folders other than .ci and .github, built ones and testdata below the root are left out;
// testdata at the root holds packages that are embedded.
func Load(root fs.FS) (*Tree, error) {
	tree := &Tree{}
	set := token.NewFileSet()
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if entry.IsDir() {
			hidden := strings.HasPrefix(base, ".") && name != "." && base != ".ci" && base != ".github"
			if hidden || slices.Contains(built, name) || (base == "testdata" && name != base) {
				return fs.SkipDir
			}
			return nil
		}
		if !slices.Contains(textual, path.Ext(base)) && !slices.Contains(textual, base) {
			return nil
		}
		content, err := fs.ReadFile(root, name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		tree.Texts = append(tree.Texts, Text{Path: name, Content: string(content)})
		if path.Ext(base) != ".go" {
			return nil
		}
		syntax, err := parser.ParseFile(set, name, content, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return fmt.Errorf("parse %s: %w", name, err)
		}
		tree.Sources = append(tree.Sources, &Source{
			Path:      name,
			Dir:       path.Dir(name),
			Test:      strings.HasSuffix(base, "_test.go"),
			Generated: ast.IsGenerated(syntax),
			Lines:     strings.Count(string(content), "\n"),
			Syntax:    syntax,
			set:       set,
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load tree: %w", err)
	}
	return tree, nil
}
