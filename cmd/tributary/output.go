package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// print writes v as JSON, or calls text where JSON was not asked for.
func (g *globals) print(v any, text func()) error {
	if !g.JSON {
		text()
		return nil
	}
	if m, ok := v.(proto.Message); ok {
		body, err := (protojson.MarshalOptions{UseProtoNames: true, EmitDefaultValues: true}).Marshal(m)
		if err != nil {
			return fmt.Errorf("encode answer: %w", err)
		}
		v = json.RawMessage(body)
	}
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	_, err = fmt.Fprintf(g.out, "%s\n", body)
	return err
}

// say writes a line for a person, to stderr, so that stdout stays for the answer; above the bar where one is shown, which would draw over it.
func (g *globals) say(format string, args ...any) {
	line := fmt.Appendf(nil, format+"\n", args...)
	if bars := g.bars.Load(); bars != nil {
		if _, err := bars.Write(line); err == nil {
			return // else they have just ended
		}
	}
	_, _ = g.err.Write(line) // stderr is gone: nobody to tell
}

// table writes rows in columns to stdout.
// counted returns a number with the word for what is counted, whose plural ends with s.
func counted(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

func (g *globals) table(rows [][]string) {
	w := tabwriter.NewWriter(g.out, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, cell)
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // stdout is gone: nobody to tell
}
